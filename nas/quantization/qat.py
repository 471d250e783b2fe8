"""Quantization-aware training: a trained detector fine-tuned with fake quantization, and its control.

The control is fine-tuned for as many steps in floating point, and then quantized.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import onnx
import torch
from torch import Tensor

from latency_db.core.target import Target
from nas.core.compute import device_of
from nas.core.reporter import Reporter
from nas.export.onnx import export_onnx
from nas.quantization.fake_quantization import Rounding, fake_quantized, plain, roundings
from nas.quantization.model import CalibratedDetector, calibrate_detector
from nas.quantization.ptq import QuantizationRequest, QuantizedFile, evaluate_quantized, replaced_at_end
from nas.quantization.report import QuantizationReport
from nas.supernet.weights import load_detector
from nas.training.data import training_batches
from nas.training.loop import fit
from nas.training.loss import DetectionLoss, Terms, Truth
from nas.training.recipe import Recipe
from nas.training.task import Task
from nas.training.tasks import detached
from search_spaces.detector import Detector
from search_spaces.text import counted

FEWER_EPOCHS, LOWER_RATE = 10, 0.01
"""A tenth of the epochs, a hundredth of the learning rate and weight decay: the rule of super-gradients' recipes for
YOLO-NAS."""
QAT, CONTROL = "qat", "control"
LABELS = {QAT: "fine-tuned float (qat)", CONTROL: "fine-tuned float"}
TUNED = "fine_tuned"


@dataclass(frozen=True)
class QatConfig:
    """How to fine-tune.

    Attributes:
        epochs: None: a tenth of the training's.
        lr: peak learning rate; None: a hundredth of the training's.
        distil: weight of the distillation from the float network.
        device: for training.
        augment: whether images are augmented.
    """

    epochs: int | None = None
    lr: float | None = None
    distil: float = 1.0
    device: str = "auto"
    augment: bool = True

    def recipe(self, trained: Recipe) -> Recipe:
        """Derive the recipe from that of the training; in fp32, because bf16 would add roundings of its own."""
        return replace(
            trained,
            epochs=self.epochs or max(1, round(trained.epochs / FEWER_EPOCHS)),
            lr=self.lr or trained.lr * LOWER_RATE,
            weight_decay=trained.weight_decay * LOWER_RATE,
            final_lr=0.01,
            precision="fp32",
        )


class QatTask(Task):
    """Trains a deployed detector on the labels and, where a box is assigned, on the outputs of the float network."""

    def __init__(
        self, detector: Detector, teacher: Detector, identity: str, loss: DetectionLoss, distil: float
    ) -> None:
        self.model = self.detector = detector
        self.teacher = teacher.eval().requires_grad_(False)
        self.identity = identity
        self.loss = loss
        self.distil = distil

    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        """Yield the sum of detection loss and distillation, a scalar, with its terms, for images (N, 3, H, W)."""
        student = self.detector(images)
        loss, terms, matched = self.loss(student, truth)
        with torch.no_grad():
            teacher = detached(self.teacher(images))
        distilled, _ = self.loss.distill(student, teacher, matched)
        yield loss + self.distil * distilled, {**terms, "distil": distilled.detach()}


def quantize_aware(request: QuantizationRequest, config: QatConfig, reporter: Reporter) -> QuantizationReport:
    """Fine-tune with fake quantization, and the control in floating point; quantize, evaluate and time both.

    Plain calibration is reported beside them. The fine-tuned float files and checkpoints go to the folder of the
    file's name; after a kill the same command resumes.

    Raises:
        InputError: if the request does not fit, or the linter finds an error in the file.
    """
    request.check()
    folder, settings = request.folder, request.settings
    folder.mkdir(parents=True, exist_ok=True)
    trained = load_detector(request.weights)[2].get("recipe")
    recipe = config.recipe(Recipe.from_dict(trained) if trained else Recipe(seed=settings.seed))
    prepare = partial(
        calibrate_detector, request.weights, request.data, request.target, settings.calibration, folder,
        reporter=reporter,
    )  # fmt: skip
    base = prepare(device=config.device)
    ptq = folder / "ptq.onnx"
    base.write(ptq)
    others: dict[str, tuple[Path, Target]] = {"ptq": (ptq, request.target)}
    control = _FineTuning(CONTROL, base, request, recipe, config).run(ptq, reporter)
    others[LABELS[CONTROL]] = control, base.float_target
    quantized_control = folder / f"{CONTROL}-ptq.onnx"
    prepare(control).write(quantized_control)
    others[f"{CONTROL}: float steps, ptq"] = quantized_control, request.target
    tuned = _FineTuning(QAT, base, request, recipe, config).run(ptq, reporter)
    others[LABELS[QAT]] = tuned, base.float_target
    details = {"recipe": recipe.to_dict(), "distil": config.distil}
    with replaced_at_end(request) as unfinished:
        lint = prepare(tuned).write(unfinished.out)
        file = QuantizedFile("qat", lint, others=others, details=details)
        return evaluate_quantized(base, unfinished, file, reporter)


@dataclass(frozen=True)
class _FineTuning:
    """One of the two fine-tunings."""

    kind: str
    base: CalibratedDetector
    request: QuantizationRequest
    recipe: Recipe
    config: QatConfig

    def run(self, ptq: Path, reporter: Reporter) -> Path:
        """Train and export the float file; an earlier call's file stays where it is of this very training."""
        base, recipe, folder = self.base, self.recipe, self.request.folder
        path = folder / f"{self.kind}-float.onnx"
        rounds = roundings(base.calibrated.proto, ptq) if self.kind == QAT else {}
        identity = self._identity(rounds)
        if path.exists() and _training_of(path) == identity:
            return path
        device = device_of(self.config.device)
        torch.manual_seed(recipe.seed)
        student, teacher = (copy.deepcopy(base.detector).to(device) for _ in range(2))
        fake_quantized(student, rounds, base.scheme).requires_grad_(True)
        loader = training_batches(
            self.request.data, recipe, (base.image_size,), self.config.augment, self.config.device
        )
        task = QatTask(student.to(device), teacher, identity, recipe.loss(), self.config.distil)
        checkpoint = folder / f"{self.kind}.ckpt"
        with reporter.training(f"{self.kind}, {counted(recipe.epochs, 'epoch')}") as watch:
            averaged = fit(task, loader, recipe, checkpoint, watch, save_every=50, ticks=True)
        assert isinstance(averaged, Detector)
        export_onnx(plain(averaged).cpu().eval(), path, base.image_size, {**base.metadata, TUNED: identity})
        checkpoint.unlink(missing_ok=True)
        return path

    def _identity(self, rounds: Mapping[str, Rounding]) -> str:
        """Everything that decides the training, as text."""
        base, config = self.base, self.config
        return (
            f"{self.kind} of {base.fingerprint} {self.request.data.fingerprint} {base.image_size} "
            f"{self.recipe.to_dict()} {config.distil} {config.augment} {rounds}"
        )


def _training_of(path: Path) -> str | None:
    """Read which training a float file is of."""
    return next((entry.value for entry in onnx.load(str(path)).metadata_props if entry.key == TUNED), None)
