"""How to train: every default in one place, as a value that is saved with the run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from search_spaces.errors import InputError

if TYPE_CHECKING:
    from nas.training.loss import DetectionLoss

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Recipe:
    """AdamW with linear warm-up and a cosine to ``final_lr`` x ``lr``, no weight decay on biases, norms and scalars, EMA with a ramp, gradient clipping.

    ``cls_weight`` is the weight of the classification loss (the box terms keep theirs, 2.5 and 0.5). ``largest_first``: of a supernet's training, the share
    of steps in which its largest network learns alone. The released YOLO-NAS recipe is lr 2e-4, weight decay 1e-5, batch 256, EMA 0.9997, 300 epochs;
    these defaults suit data sets of thousands of pictures.

    Where a teacher takes part: ``distill_weight`` of what it says beside the labels (falls along a cosine to a hundredth), ``distill_temperature``, and
    ``distill_features``, the weight of its neck's features.
    """

    epochs: int = 30
    batch_size: int = 32
    lr: float = 2e-3
    weight_decay: float = 1e-2
    warmup_steps: int = 50
    final_lr: float = 0.02
    ema_decay: float = 0.998
    clip_norm: float = 10.0
    cls_weight: float = 1.0
    largest_first: float = 0.5
    distill_weight: float = 1.0
    distill_temperature: float = 1.0
    distill_features: float = 0.0
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "lr", "clip_norm", "cls_weight", "distill_temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} = {getattr(self, name)}", "a positive number")
        for name in ("distill_weight", "distill_features"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} = {getattr(self, name)}", "a number of at least 0")
        for name, high in (("weight_decay", 1), ("warmup_steps", math.inf), ("final_lr", 1), ("ema_decay", 1), ("largest_first", 1)):
            if not 0 <= getattr(self, name) <= high:
                raise InputError(f"{name} = {getattr(self, name)}", f"a number from 0 to {high}")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision {self.precision!r}", f"one of {', '.join(PRECISIONS)}")

    def loss(self) -> DetectionLoss:
        """What is minimised."""
        from nas.training.loss import DetectionLoss

        return DetectionLoss(classification=self.cls_weight)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Recipe:
        """Inverse of :meth:`to_dict`; unknown names are an error."""
        if extra := data.keys() - {f.name for f in fields(cls)}:
            raise InputError(f"recipe with {sorted(extra)}", f"only {[f.name for f in fields(cls)]}")
        return cls(**data)
