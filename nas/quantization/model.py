"""A trained detector on its way to int8: its float file, what of it may be quantized, and the images that it is
calibrated and evaluated with."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx

from latency_db.conversion.int8 import CALIBRATORS, Calibrated
from latency_db.core.quantization_scheme import QuantizationScheme
from latency_db.core.target import Target
from latency_db.runtimes import RUNTIMES
from nas.core.architecture_file import Artifact
from nas.core.atomic import atomic_write
from nas.core.compute import device_of
from nas.data.dataset import DetectionDataset
from nas.data.source import DataPair
from nas.export.onnx import export_onnx, metadata_of
from nas.inference.coco_metrics import Metrics
from nas.inference.detect import batches, images_of
from nas.quantization.blocks import QuantizationBlocks
from nas.quantization.lint import METADATA, Int8Record, LintReport, require_clean
from nas.quantization.runtime_accuracy import RuntimeModel, runtime_accuracy
from nas.supernet.batchnorm import recalibrate
from nas.supernet.weights import load_detector
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.registry import unknown
from search_spaces.spaces import space_of

FEW = 32
"""Calibration images under which the ranges of activations are said to be a guess."""
RECALIBRATION = 400
"""Images for BatchNorm, as in a training."""
CACHE_BYTES = 1 << 30
"""Decoded val images kept in memory: a selection goes through them many times."""


@dataclass(frozen=True)
class CalibrationConfig:
    """How the ranges of activations are found: on how many images of the train split, drawn by ``seed``, and by
    which calibrator."""

    images: int = 100
    calibrator: str = "max"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.images < 1:
            raise InputError(f"{self.images} calibration images", "1 or more, better 100")
        if self.calibrator not in CALIBRATORS:
            raise unknown("calibrator", self.calibrator, tuple(CALIBRATORS))


@dataclass(frozen=True, eq=False)
class CalibratedDetector:
    """``detector`` is deployed, ``model`` its float file, ``val`` the images that accuracy is measured on."""

    artifact: Artifact
    detector: Detector
    model: Path
    target: Target
    calibration: CalibrationConfig
    calibrated: Calibrated
    blocks: QuantizationBlocks
    val: DetectionDataset
    image_size: int
    warnings: tuple[str, ...]
    metadata: Mapping[str, str]

    @property
    def form(self) -> QuantizationScheme:
        return self.calibrated.form

    @cached_property
    def fingerprint(self) -> str:
        """Of the float network's numbers: 16 hex digits."""
        digest = hashlib.sha256()
        for tensor in self.calibrated.proto.graph.initializer:
            digest.update(onnx.numpy_helper.to_array(tensor).tobytes())
        return digest.hexdigest()[:16]

    @property
    def float_target(self) -> Target:
        """The same runtime in fp32."""
        return replace(self.target, precision="fp32")

    def write(self, out: Path, left_float: Collection[str] = ()) -> LintReport:
        """The int8 file with these blocks left float, checked; a file that is not what it should be is an error and
        is not kept."""
        spared = self.blocks.nodes(left_float)
        draft = out.with_name(f"{out.stem}.part.onnx")
        try:
            proto = onnx.load(str(self.calibrated.write(draft, spared)))
            convs = {*self.calibrated.convs(spared)}
            floats = tuple(n.name for n in proto.graph.node if n.op_type == "Conv" and n.name not in convs)
            promise = Int8Record(str(self.target), self.form, floats)
            onnx.helper.set_model_props(proto, {**self.metadata, METADATA: promise.to_json()})
            draft.write_bytes(proto.SerializeToString())
            report = require_clean(draft)
            atomic_write(out, draft.read_bytes())
        finally:
            draft.unlink(missing_ok=True)
        return report

    def accuracy(self, served: RuntimeModel, dataset: DetectionDataset | None = None) -> Metrics:
        """COCO metrics of a file in the runtime, on the val split or a part of it."""
        return runtime_accuracy(served, dataset or self.val, self.image_size, self.detector.head.end_to_end)


def scheme_of(target: Target) -> QuantizationScheme:
    """The runtime's form of int8 on a target of that precision; an error where it has none."""
    form = RUNTIMES[target.runtime].quantization_scheme(target) if target.precision == "int8" else None
    if form is None:
        known = ", ".join(
            f"{name}:int8" for name in RUNTIMES if "int8" in RUNTIMES[name].precisions and RUNTIMES[name].measures
        )
        raise InputError(f"target {target}", f"one with a form of int8: {known}")
    return form


def calibrate_detector(
    weights: Path,
    data: DataPair,
    target: Target,
    calibration: CalibrationConfig,
    folder: Path,
    float_model: Path | None = None,
    device: str = "cpu",
) -> CalibratedDetector:
    """Trained weights, ready to be quantized: BatchNorm recalibrated if that was not done, branches merged, exported,
    calibrated on train images.

    ``folder``: for the float file; ``float_model`` is one that takes its place (the same network fine-tuned).
    """
    detector, artifact, record = load_detector(weights)
    size = target.image_size or int(artifact.architecture["image_size"])
    form = scheme_of(target)
    if "metrics" not in record:  # a training recalibrates before it evaluates
        recalibrate(
            detector.to(device_of(device)), images_of(batches(data.train, size, limit=RECALIBRATION), device_of(device))
        )
        detector.cpu()
    detector.deploy()
    metadata = metadata_of(artifact.architecture, artifact.classes, size)
    model = float_model or folder / f"{weights.stem}-float.onnx"
    if float_model is None:
        export_onnx(detector, model, size, metadata)
    calibrated = Calibrated.of(model, form, calibration_batches(data, size, calibration), calibration.calibrator)
    head = space_of(artifact.architecture).graph(artifact.architecture).head.name
    blocks = QuantizationBlocks.of(calibrated.proto, head, {*calibrated.convs()})
    val = data.val.cached(CACHE_BYTES)
    warnings = tuple(_warnings(data, calibration, calibrated))
    return CalibratedDetector(
        artifact, detector, model, target, calibration, calibrated, blocks, val, size, warnings, metadata
    )


def calibration_batches(data: DataPair, size: int, calibration: CalibrationConfig) -> list[Any]:
    """Images of the train split without augmentation, (N, 3, size, size) float32 in 0..1 each:
    ``calibration.images`` in all, the same ones each time."""
    count = min(calibration.images, len(data.train))
    per_batch = min(count, 25)
    drawn = [b.images.numpy() for b in batches(data.train, size, per_batch, limit=count, seed=calibration.seed)]
    left = count
    given = []
    for images in drawn:
        given.append(images[:left].astype("float32") / 255)
        left -= len(given[-1])
    return [g for g in given if len(g)]


def _warnings(data: DataPair, calibration: CalibrationConfig, calibrated: Calibrated) -> list[str]:
    used = min(calibration.images, len(data.train))
    said = (
        [f"calibrated on {used} images: fewer than {FEW} leave the ranges of activations to chance"]
        if used < FEW
        else []
    )
    if constant := calibrated.constant:
        said.append(f"{len(constant)} activations are constant on the calibration images, the first: {constant[0]}")
    return said
