"""Quantization-aware training: a trained detector fine-tuned with fake quantization, and its control, as many steps
in float and then quantized."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch
from torch import Tensor

from latency_db.core.target import Target
from nas.core.compute import device_of
from nas.core.reporter import Reporter
from nas.data.source import DataPair
from nas.export.onnx import export_onnx
from nas.quantization.fake_quantization import fake_quantized, plain, roundings
from nas.quantization.model import CalibratedDetector, calibrate_detector
from nas.quantization.ptq import QuantizationSettings, check_request, evaluate_quantized
from nas.quantization.report import QuantizationReport
from nas.supernet.weights import load_detector
from nas.training.data import training_batches
from nas.training.loop import fit
from nas.training.loss import DetectionLoss, Terms, Truth
from nas.training.recipe import Recipe
from nas.training.task import Task
from nas.training.tasks import detached
from search_spaces.detector import Detector

FEWER_EPOCHS, LOWER_RATE = 10, 0.01
"""A tenth of the epochs, a hundredth of the learning rate and weight decay: the rule of super-gradients' recipes for
YOLO-NAS."""
QAT, CONTROL = "qat", "control"
SAID = {QAT: "fine-tuned float (qat)", CONTROL: "fine-tuned float"}
TUNED = "fine_tuned"


@dataclass(frozen=True)
class QatConfig:
    """How to fine-tune; None is the rule's. ``distil``: weight of what the float network says beside the labels."""

    epochs: int | None = None
    lr: float | None = None
    distil: float = 1.0
    device: str = "auto"
    augment: bool = True

    def recipe(self, trained: Recipe) -> Recipe:
        """From the recipe of the training. Full precision: rounding to 8 bits on top of bf16 would be another
        network's."""
        return replace(
            trained,
            epochs=self.epochs or max(1, round(trained.epochs / FEWER_EPOCHS)),
            lr=self.lr or trained.lr * LOWER_RATE,
            weight_decay=trained.weight_decay * LOWER_RATE,
            final_lr=0.01,
            precision="fp32",
        )


class QatTask(Task):
    """A deployed detector that learns from labels and, where a box was assigned, from what the float network says
    there."""

    def __init__(
        self, detector: Detector, teacher: Detector, identity: str, loss: DetectionLoss, distil: float
    ) -> None:
        self.model = self.detector = detector
        self.teacher = teacher.eval().requires_grad_(False)
        self.identity = identity
        self.loss = loss
        self.distil = distil

    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        """Detection loss and distillation in one."""
        student = self.detector(images)
        loss, terms, matched = self.loss(student, truth)
        with torch.no_grad():
            teacher = detached(self.teacher(images))
        taught, _ = self.loss.distill(student, teacher, matched)
        yield loss + self.distil * taught, {**terms, "distil": taught.detach()}


def quantize_aware(
    weights: Path,
    data: DataPair,
    target: Target,
    out: Path,
    settings: QuantizationSettings,
    aware: QatConfig,
    reporter: Reporter,
) -> QuantizationReport:
    """Fine-tune with fake quantization and, for the control, as many steps in float; quantize, evaluate and time
    both, and plain calibration beside them.

    The fine-tuned float files and checkpoints go into a folder of the file's name; killed, the same command goes on.
    """
    check_request(weights, data, target)
    folder = out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    trained = load_detector(weights)[2].get("recipe")
    recipe = aware.recipe(Recipe.from_dict(trained) if trained else Recipe(seed=settings.seed))
    base = calibrate_detector(weights, data, target, settings.calibration, folder, device=aware.device)
    ptq = folder / "ptq.onnx"
    base.write(ptq)
    files: dict[str, tuple[Path, Target]] = {"ptq": (ptq, target)}
    lint = None
    for kind in (CONTROL, QAT):
        tuned = _tuned(kind, base, ptq, data, recipe, aware, folder, reporter)
        subject = calibrate_detector(weights, data, target, settings.calibration, folder, tuned)
        path = out if kind == QAT else folder / f"{kind}-ptq.onnx"
        lint = subject.write(path)
        files |= {SAID[kind]: (tuned, base.float_target)} | (
            {} if kind == QAT else {f"{kind}: float steps, ptq": (path, target)}
        )
    assert lint is not None
    details = {"recipe": recipe.to_dict(), "distil": aware.distil}
    return evaluate_quantized(base, data, out, lint, "qat", settings, reporter, others=files, details=details)


def _tuned(
    kind: str,
    base: CalibratedDetector,
    ptq: Path,
    data: DataPair,
    recipe: Recipe,
    aware: QatConfig,
    folder: Path,
    reporter: Reporter,
) -> Path:
    """The float file of the fine-tuned network; an earlier call's, where that was this very training."""
    path = folder / f"{kind}-float.onnx"
    rounds = roundings(base.calibrated.proto, ptq) if kind == QAT else {}
    identity = f"{kind} of {base.fingerprint} {data.fingerprint} {base.image_size} {recipe.to_dict()} {aware.distil} {aware.augment} {rounds}"
    if path.exists() and _said(path) == identity:
        return path
    device = device_of(aware.device)
    torch.manual_seed(recipe.seed)
    student, teacher = (copy.deepcopy(base.detector).to(device) for _ in range(2))
    fake_quantized(student, rounds, base.form).requires_grad_(True)
    loader = training_batches(data, recipe, base.image_size, aware.augment, aware.device)
    task = QatTask(student.to(device), teacher, identity, recipe.loss(), aware.distil)
    checkpoint = folder / f"{kind}.ckpt"
    with reporter.training(f"{kind}, {recipe.epochs} epochs") as watch:
        averaged = fit(task, loader, recipe, checkpoint, watch, save_every=50)
    assert isinstance(averaged, Detector)
    export_onnx(plain(averaged).cpu().eval(), path, base.image_size, {**base.metadata, TUNED: identity})
    checkpoint.unlink(missing_ok=True)
    return path


def _said(path: Path) -> str | None:
    """Of which training a float file is."""
    return next((entry.value for entry in onnx.load(str(path)).metadata_props if entry.key == TUNED), None)
