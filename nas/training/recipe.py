"""Hyperparameters of a training as a value, with all defaults in one place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from search_spaces.errors import InputError
from search_spaces.json_checks import brief_list, check_like
from search_spaces.registry import Registry, unknown
from search_spaces.text import printable

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from nas.data.transforms import Augmentation
    from nas.training.loss import DetectionLoss

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
SYNC_BN = ("auto", "on", "off")

OPTIMIZERS: Registry[Callable[[list[dict[str, Any]], Recipe], Optimizer]] = Registry(
    "nas.optimizers", {"adamw": "nas.training.optimizers:adamw", "sgd": "nas.training.optimizers:sgd"}
)


FROM_TRAINED: Mapping[str, Any] = {"lr": 4e-3, "largest_first": 0.25}
"""Values of a supernet that begins with trained weights, where neither an option nor a named recipe has others."""


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a training.

    The defaults suit data sets of thousands of images; ``nas.training.recipes`` has others by name. Weight decay does
    not apply to biases, norms and scalars.

    Attributes:
        epochs: passes over the train split.
        batch_size: images per batch, of all processes together.
        accumulate: batches per step, with the gradients of one batch as large as all of them.
        optimizer: name of the optimizer.
        lr: peak learning rate.
        momentum: of SGD, with Nesterov's look-ahead; AdamW has torch's.
        weight_decay: of tensors with two or more axes.
        warmup_steps, warmup_epochs: linear warm-up over the longer of the two, at most a fifth of all steps.
        warmup_lr: learning rate at its beginning.
        final_lr: share of ``lr`` at the end of the cosine that follows.
        ema_decay, ema_ramp: decay of the EMA at step t is min(``ema_decay``, (1 + t) / (``ema_ramp`` + t)).
        clip_norm: largest norm of the gradients.
        cls_weight: weight of the classification loss; the box terms have 2.5 and 0.5.
        largest_first: share of a supernet's steps in which only its largest network is trained.
        distill_weight: initial weight of distillation; it falls along a cosine to a hundredth.
        distill_temperature: temperature of distillation.
        distill_features: weight of the distillation of neck features.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        channels_last: memory layout, on CUDA only.
        compile: ``torch.compile`` of the forward.
        sync_bn: BatchNorm over the batch of all processes; ``auto`` is on GPUs.
        augmentation: values of :class:`nas.data.transforms.Augmentation` that replace those that suit the data.
        seed: seed of everything random.

    Raises InputError for a value out of its range.
    """

    epochs: int = 30
    batch_size: int = 32
    accumulate: int = 1
    optimizer: str = "adamw"
    lr: float = 2e-3
    momentum: float = 0.9
    weight_decay: float = 1e-2
    warmup_steps: int = 50
    warmup_epochs: float = 0.0
    warmup_lr: float = 0.0
    final_lr: float = 0.02
    ema_decay: float = 0.998
    ema_ramp: float = 10.0
    clip_norm: float = 10.0
    cls_weight: float = 1.0
    largest_first: float = 0.5
    distill_weight: float = 1.0
    distill_temperature: float = 1.0
    distill_features: float = 0.0
    precision: str = "auto"
    channels_last: bool = True
    compile: bool = False
    sync_bn: str = "auto"
    augmentation: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "lr", "clip_norm", "cls_weight", "distill_temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} = {getattr(self, name)}", "a positive number")
        one = ("weight_decay", "momentum", "final_lr", "ema_decay", "largest_first")
        any_ = ("warmup_steps", "warmup_epochs", "warmup_lr", "distill_weight", "distill_features", "seed")
        for name, high in (*((n, 1) for n in one), *((n, math.inf) for n in any_)):
            if not 0 <= getattr(self, name) <= high or math.isinf(getattr(self, name)):
                raise InputError(f"{name} = {getattr(self, name)}", f"a number from 0 to {high}")
        if not self.ema_ramp >= 1:
            raise InputError(f"ema_ramp = {self.ema_ramp}", "1 or more")
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, iter(OPTIMIZERS))
        for name, known in (("precision", PRECISIONS), ("sync_bn", SYNC_BN)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} {getattr(self, name)!r}", f"one of {', '.join(known)}")
        if self.augmentation:
            self._augmentation()
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in self.augmentation.items()}
        object.__setattr__(
            self, "augmentation", plain
        )  # as JSON has it, so that what was saved equals what is asked for

    def _augmentation(self) -> Augmentation:
        from nas.data.transforms import Augmentation

        return Augmentation.DEFAULT.changed(self.augmentation)

    def loss(self) -> DetectionLoss:
        """Return the detection loss with the recipe's weights."""
        from nas.training.loss import DetectionLoss

        return DetectionLoss(classification=self.cls_weight)

    def changed(self, values: Mapping[str, Any]) -> Recipe:
        """Return the recipe with some values replaced; values of the augmentation are merged. Raises InputError for an
        unknown name, or a value of another type or out of range."""
        own = {f.name for f in fields(self)}
        if extra := values.keys() - own:
            raise InputError(f"recipe with {brief_list(sorted(map(printable, extra)))}", f"only {sorted(own)}")
        for name, value in values.items():
            check_like(value, getattr(Recipe, name, {}), f"recipe: {name}")
        return replace(self, **{**values, "augmentation": {**self.augmentation, **values.get("augmentation", {})}})

    def to_dict(self) -> dict[str, Any]:
        """Return all values (JSON-ready)."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """Return the recipe of :meth:`to_dict`; missing values have their defaults. Raises InputError as
        :meth:`changed`."""
        return cls().changed(data)


def parse_values(texts: Sequence[str]) -> dict[str, Any]:
    """Parse ``["lr=1e-3", "mosaic=0.5", "scale=0.5,1.5"]`` to values of a recipe, typed like the defaults; values of
    the augmentation are under its name. Raises InputError for an unknown name or a value of another type."""
    from nas.data.transforms import Augmentation

    own = {f.name: getattr(Recipe(), f.name) for f in fields(Recipe) if f.name != "augmentation"}
    images = {f.name: getattr(Augmentation.DEFAULT, f.name) for f in fields(Augmentation)}
    values: dict[str, Any] = {}
    changed: dict[str, Any] = {}
    for text in texts:
        name, equals, written = (part.strip() for part in text.partition("="))
        if not equals or not written:
            raise InputError(f"--set {text!r}", "NAME=VALUE, for example lr=1e-3")
        if name not in own and name not in images:
            raise unknown("recipe value", name, (*own, *images))
        (values if name in own else changed)[name] = _typed(name, written, {**own, **images}[name])
    return {**values, "augmentation": changed} if changed else values


def _typed(name: str, text: str, default: Any) -> Any:
    try:
        if isinstance(default, bool):
            return {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}[text.lower()]
        if isinstance(default, tuple):
            low, high = (float(part) for part in text.split(","))
            return low, high
        return type(default)(text)
    except (ValueError, KeyError):
        kind = {bool: "true or false", int: "a whole number", float: "a number", tuple: "LOW,HIGH"}[type(default)]
        raise InputError(f"{name} = {text!r}", kind) from None
