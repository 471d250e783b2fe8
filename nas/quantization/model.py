"""A trained detector ready for quantization: its float ONNX file, the ranges of its activations, its blocks, and the
images that it is evaluated with."""

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
from nas.core.reporter import Reporter
from nas.data.dataset import DetectionDataset
from nas.data.source import DataPair
from nas.export.onnx import export_onnx, metadata_of
from nas.inference.coco_metrics import Metrics
from nas.inference.detect import batches, images_of
from nas.quantization.blocks import QuantizationBlocks
from nas.quantization.lint import METADATA, Int8Record, LintReport, require_clean
from nas.quantization.runtime_accuracy import RuntimeModel, runtime_accuracy
from nas.supernet.batchnorm import recalibrate
from nas.supernet.weights import interpolation_in, load_detector
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.image_size import AnySize, ImageSize
from search_spaces.registry import unknown
from search_spaces.spaces import space_of
from search_spaces.text import counted

FEW = 32
"""With fewer calibration images a warning says that the ranges of activations are unreliable."""
RECALIBRATION = 400
"""Images for BatchNorm, as in a training."""
CACHE_BYTES = 1 << 30
"""Decoded val images kept in memory: a selection reads them many times."""


@dataclass(frozen=True)
class CalibrationConfig:
    """How the ranges of activations are found.

    Attributes:
        images: number of images of the train split.
        calibrator: max, percentile or entropy (:data:`latency_db.conversion.int8.CALIBRATORS`).
        seed: draws the images.
    """

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
    """A trained detector whose activations were calibrated for a target.

    Attributes:
        artifact: its architecture and classes.
        detector: deployed: branches and BatchNorms merged.
        model: its float ONNX file.
        target: at int8.
        calibration: how the ranges were found.
        calibrated: the file with the ranges.
        blocks: what may be kept in floating point as one.
        val: images that accuracy is measured on.
        image_size: of the input.
        warnings: of the calibration.
        metadata: of the exported file.
    """

    artifact: Artifact
    detector: Detector
    model: Path
    target: Target
    calibration: CalibrationConfig
    calibrated: Calibrated
    blocks: QuantizationBlocks
    val: DetectionDataset
    image_size: ImageSize
    warnings: tuple[str, ...]
    metadata: Mapping[str, str]

    @property
    def scheme(self) -> QuantizationScheme:
        """The quantization scheme of the target's runtime."""
        return self.calibrated.form

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 of the float network's numbers."""
        digest = hashlib.sha256()
        for tensor in self.calibrated.proto.graph.initializer:
            digest.update(onnx.numpy_helper.to_array(tensor).tobytes())
        return digest.hexdigest()[:16]

    @property
    def float_target(self) -> Target:
        """The same runtime in floating point: the precision of what the scheme does not quantize."""
        return replace(self.target, precision=self.scheme.rest)

    def write(self, out: Path, kept_float: Collection[str] = ()) -> LintReport:
        """Write the int8 file, lint it, and return the linter's report.

        Args:
            out: the file; it is written only if the linter finds no error.
            kept_float: names of blocks kept in floating point.

        Raises:
            InputError: if the linter finds an error.
        """
        spared = self.blocks.nodes(kept_float)
        draft = out.with_name(f"{out.stem}.part.onnx")
        try:
            proto = onnx.load(str(self.calibrated.write(draft, spared)))
            convs = {*self.calibrated.convs(spared)}
            floats = tuple(n.name for n in proto.graph.node if n.op_type == "Conv" and n.name not in convs)
            record = Int8Record(str(self.target), self.scheme, floats)
            onnx.helper.set_model_props(proto, {**self.metadata, METADATA: record.to_json()})
            draft.write_bytes(proto.SerializeToString())
            report = require_clean(draft)
            atomic_write(out, draft.read_bytes())
        finally:
            draft.unlink(missing_ok=True)
        return report

    def accuracy(self, model: RuntimeModel, dataset: DetectionDataset | None = None) -> Metrics:
        """Evaluate a file in its runtime: COCO metrics on the val split, or on ``dataset``."""
        return runtime_accuracy(model, dataset or self.val, self.image_size, self.detector.head.end_to_end)


def scheme_of(target: Target) -> QuantizationScheme:
    """Return the quantization scheme of a target's runtime.

    Raises:
        InputError: if the target is not at int8, or its runtime has no int8.
    """
    scheme = RUNTIMES[target.runtime].quantization_scheme(target) if target.precision == "int8" else None
    if scheme is None:
        known = ", ".join(
            f"{name}:int8" for name in RUNTIMES if "int8" in RUNTIMES[name].precisions and RUNTIMES[name].measures
        )
        raise InputError(f"target {target}", f"a target with int8: {known}")
    return scheme


def calibrate_detector(
    weights: Path,
    data: DataPair,
    target: Target,
    calibration: CalibrationConfig,
    folder: Path,
    float_model: Path | None = None,
    device: str = "cpu",
    reporter: Reporter | None = None,
) -> CalibratedDetector:
    """Prepare trained weights for quantization.

    BatchNorm is recalibrated if the training did not do that, branches are merged, the network is exported, and the
    ranges of its activations are taken from images of the train split.

    Args:
        weights: file of trained weights.
        data: of the same classes.
        target: at int8; its image size, if it has one, replaces the architecture's.
        calibration: how the ranges are found.
        folder: for the float file.
        float_model: a float file that takes its place (the same network fine-tuned).
        device: for recalibrating BatchNorm.
        reporter: receives the progress.

    Raises:
        InputError: if the target has no int8, or the network's activations are not finite.
    """
    reporter = reporter or Reporter()
    detector, artifact, record = load_detector(weights)
    size = (target.image_size or artifact.architecture.image_size).check(f"target {target}")
    how = interpolation_in(record, str(weights))
    data = data.interpolated(how)
    scheme = scheme_of(target)
    if "metrics" not in record:  # a training recalibrates before it evaluates
        reporter.note(f"recalibrating BatchNorm on {RECALIBRATION} images")
        train = images_of(batches(data.train, size, limit=RECALIBRATION), device_of(device))
        recalibrate(detector.to(device_of(device)), train)
        detector.cpu()
    detector.deploy()
    metadata = metadata_of(artifact.architecture, artifact.classes, size, how)
    model = float_model or folder / f"{weights.stem}-float.onnx"
    if float_model is None:
        reporter.note("exporting the float network")
        export_onnx(detector, model, size, metadata)
    images = calibration_batches(data, size, calibration)
    reporter.note(f"calibrating on {counted(sum(map(len, images)), 'image')} ({calibration.calibrator})")
    calibrated = Calibrated.of(model, scheme, images, calibration.calibrator)
    head = space_of(artifact.architecture).graph(artifact.architecture).head.name
    blocks = QuantizationBlocks.of(calibrated.proto, head, {*calibrated.convs()})
    val = data.val.cached(CACHE_BYTES)
    warnings = tuple(_warnings(data, calibration, calibrated))
    return CalibratedDetector(
        artifact, detector, model, target, calibration, calibrated, blocks, val, size, warnings, metadata
    )


def calibration_batches(data: DataPair, size: AnySize, calibration: CalibrationConfig) -> list[Any]:
    """Read the calibration images, the same ones each time.

    Returns:
        Arrays (N, 3, H, W) float32 in 0..1, ``calibration.images`` images in all, not augmented.
    """
    count = min(calibration.images, len(data.train))
    per_batch = min(count, 25)
    left, found = count, []
    for batch in batches(data.train, size, per_batch, limit=count, seed=calibration.seed):
        found.append(batch.images.numpy()[:left].astype("float32") / 255)
        left -= len(found[-1])
    return [images for images in found if len(images)]


def _warnings(data: DataPair, calibration: CalibrationConfig, calibrated: Calibrated) -> list[str]:
    used = min(calibration.images, len(data.train))
    found = (
        [f"calibrated on {counted(used, 'image')}: with fewer than {FEW} the ranges are unreliable"]
        if used < FEW
        else []
    )
    if constant := calibrated.constant:
        found.append(f"{len(constant)} activations are constant on the calibration images, the first: {constant[0]}")
    return found
