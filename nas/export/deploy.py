"""Export of trained weights to the files of a runtime, checked in that runtime."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from latency_db.core.profiler import Profiler
from latency_db.core.target import Target
from latency_db.runtimes import RUNTIMES
from nas.core.architecture_file import Artifact
from nas.core.atomic import naming
from nas.core.paths import new_file, new_folder
from nas.data.source import DataPair
from nas.export.onnx import TOLERANCE, check_finite, metadata_of, write_onnx
from nas.export.outputs import to_detections, to_yolo
from nas.export.runtime_check import difference
from nas.inference.deployed import METADATA, Deployed
from nas.inference.layouts import OUTPUTS
from nas.inference.nms import Suppression
from nas.inference.onnx_checks import MAX_SIDE
from nas.supernet.weights import interpolation_in, load_detector
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.image_size import STRIDE, ImageSize, OptionalSizeField
from search_spaces.registry import unknown

FORMATS = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "ncnn": "ncnn",
    "mnn": "mnn",
    "litert": "litert",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt-rtx",
}
"""Format -> runtime that runs it."""
INT8 = ("litert",)
"""Formats that are quantized here; of others ``nas quantize`` writes int8 as an ONNX file."""
CALIBRATION_IMAGES = 100
FIXED_SHAPES = ("tensorrt", "tensorrt-rtx")
"""Formats whose suppression is computed with fixed shapes (:func:`nas.export.outputs.to_detections`)."""
LAYOUTS = ("dense", "yolo")
"""Layouts to choose from; suppression in the file gives the layout ``detections``."""


def tolerance(format_: str, precision: str) -> float:
    """Return the largest permitted difference to torch: 1e-4 for ONNX, 5e-3 for MNN, 1e-3 for others, 0.05 in fp16, bf16.

    MNN approximates exponentials also with ``precision=high``; up to 8e-4 was seen.

    Scores are absolute, boxes relative to the longer side.
    """
    if precision != "fp32":
        return 0.05
    return {"onnx": TOLERANCE, "mnn": 5e-3}.get(format_, 1e-3)


@dataclass(frozen=True)
class DeployConfig:
    """What to export.

    Args:
        format: One of :data:`FORMATS`.
        precision: Precision of the runtime.
        image_size: Of the input; None for the architecture's.
        batch: Images of one run; None leaves it free in ONNX and is 1 elsewhere.
        layout: One of :data:`LAYOUTS`.
        suppression: Settings of suppression in the file; None leaves it to the reader.
        device: Device of the runtime; empty for its default.
        calibration: Data set whose train images calibrate int8.

    Raises:
        InputError: The format or layout is unknown, the runtime has no such precision, or suppression and a layout are
            both given.
    """

    format: str = "onnx"
    precision: str = "fp32"
    image_size: OptionalSizeField = OptionalSizeField()
    batch: int | None = None
    layout: str = "dense"
    suppression: Suppression | None = None
    device: str = ""
    calibration: DataPair | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise unknown("format", self.format, tuple(FORMATS))
        if self.layout not in LAYOUTS:
            raise unknown("layout", self.layout, LAYOUTS)
        int8 = self.format in INT8 and self.outputs == "dense"
        possible = [p for p in self.runtime.precisions if p == "fp32" or (self.format != "onnx" and p != "int8")]
        possible += ["int8"] if int8 else []
        if self.precision not in possible:
            raise InputError(f"{self.format} in {self.precision}", " or ".join(possible), "int8: nas quantize")
        if self.precision == "int8" and self.calibration is None:
            raise InputError(
                f"{self.format} in int8 without images", "some to calibrate with", "give a data set: --data"
            )
        if self.suppression and self.layout != "dense":
            raise InputError(f"suppression in a file of layout {self.layout}", "one of the two")

    @property
    def runtime(self) -> type[Profiler]:
        """The runtime of the format."""
        return RUNTIMES[FORMATS[self.format]]

    @property
    def outputs(self) -> str:
        """Layout of the file's outputs."""
        return "detections" if self.suppression else self.layout

    @property
    def plain(self) -> bool:
        """Whether this is the ONNX file that :func:`nas.export.weights.export_weights` writes."""
        return self.format == "onnx" and self.outputs == "dense" and self.batch is None


@dataclass(frozen=True)
class DeployedExport:
    """An exported model.

    Attributes:
        path: The ONNX file, or the folder of another format.
        artifact: Architecture, classes and origin of the weights.
        difference: Largest difference to torch in the runtime of the format; None if that runtime cannot run here.
        runtime: Runtime and version of the check.
    """

    path: Path
    artifact: Artifact
    difference: float | None
    runtime: str


def export_model(weights: Path, out: Path | None = None, config: DeployConfig = DeployConfig()) -> DeployedExport:
    """Export trained weights to the files of a runtime, and check them in that runtime.

    ``out`` is an ONNX file, or a folder for other formats; by default it lies beside the weights (``S-ncnn``). Files
    take their place after the check, so that a failed export changes nothing.

    Raises:
        InputError: The weights, size or path cannot be used, the runtime is not installed or cannot convert the
            network, or the check fails.
    """
    runtime = config.runtime
    if runtime.deployed_as and (reason := _missing(runtime)):
        raise InputError(f"export to {config.format}: {reason}")
    detector, artifact, record = load_detector(weights)
    how = interpolation_in(record, str(weights))
    detector = detector.deploy()
    check_finite(detector)
    size = _size(config, artifact)
    target = Target(runtime.runtime, config.precision, config.device, batch=config.batch or 1)
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model.onnx"
        _write(model, detector, artifact, config, size, how)
        if config.format == "onnx":
            final = new_file(out or weights.with_suffix(".onnx"), ".onnx")
            with naming(final, model):
                worst = _check(model, detector, config, target, size)
            _move(model, final)
        else:
            final = out or weights.with_name(f"{weights.stem}-{config.format}")
            with _unfinished(final) as folder, naming(final, folder), naming(final, model):
                _convert(config, target, model, folder, size)
                worst = _check(folder, detector, config, target, size)
                about = _metadata(detector, artifact, config, target, size, worst)
                replace(about, interpolation=how).write(folder)
    return DeployedExport(final, artifact, worst, f"{runtime.runtime} {runtime.version()}")


def _convert(config: DeployConfig, target: Target, model: Path, folder: Path, size: ImageSize) -> None:
    """Write the runtime's files; at int8 calibrated with images of the train split."""
    if config.precision == "int8":
        from latency_db.conversion.int8 import int8
        from nas.inference.detect import batches

        scheme = config.runtime.quantization_scheme(target)
        assert config.calibration is not None and scheme is not None
        train = config.calibration.train
        parts = batches(train, size, limit=min(CALIBRATION_IMAGES, len(train)), seed=0)
        images = [batch.images.numpy().astype(np.float32) / np.float32(255) for batch in parts]
        model = int8(model, model.with_name("int8.onnx"), scheme, images)
    config.runtime.write_files(target, model, folder)


def _missing(runtime: type[Profiler]) -> str | None:
    """Why the runtime's library cannot convert here; a GPU is not needed for a plan of TensorRT-RTX."""
    from latency_db.engines.plans import MODULES, installed

    return installed(runtime.runtime) if runtime.runtime in MODULES else runtime.available()


def _size(config: DeployConfig, artifact: Artifact) -> ImageSize:
    """Size of the input. Raises InputError unless its sides are multiples of the stride."""
    size = config.image_size or artifact.architecture.image_size
    if max(size.check()) > MAX_SIDE:
        raise InputError(f"image size {size}", f"a multiple of {STRIDE} from {STRIDE} to {MAX_SIDE}")
    return size


def _write(
    model: Path, detector: Detector, artifact: Artifact, config: DeployConfig, size: ImageSize, interpolation: str
) -> None:
    """Write the ONNX file that the runtime converts: the network with the wanted outputs."""
    import onnx

    batch = config.batch if config.format == "onnx" else config.batch or 1
    metadata = metadata_of(artifact.architecture, artifact.classes, size, interpolation)
    write_onnx(detector, model, size, metadata | ({"suppression": "inside"} if config.suppression else {}), batch)
    if config.outputs == "dense":
        return
    proto = onnx.load(str(model))
    if config.suppression:
        with torch.no_grad():
            anchors = detector.predict(torch.zeros(1, 3, *size))[0].shape[1]
        fixed = config.format in FIXED_SHAPES
        to_detections(proto, detector.num_classes, anchors, config.suppression, detector.head.end_to_end, fixed)
    else:
        to_yolo(proto)
    model.write_bytes(proto.SerializeToString())


def _check(files: Path, detector: Detector, config: DeployConfig, target: Target, size: ImageSize) -> float | None:
    """The largest difference to torch; None where the runtime cannot run. Raises InputError if it is too large."""
    runtime, outputs = config.runtime, OUTPUTS[config.outputs]
    if config.precision == "int8":
        return None  # rounding is no error of the conversion: nas evaluate says what it costs
    session = runtime.open_files(target, files, outputs) if files.is_dir() else runtime.open_session(target, files)
    if session is None:
        return None
    worst = difference(session, detector, config.outputs, (target.batch, *size.shape), config.suppression)
    if not worst <= (limit := tolerance(config.format, config.precision)):
        raise InputError(
            f"exported {config.format} file differs from torch by {worst:.2g}",
            f"at most {limit:g}",
            "please report this with the architecture's JSON",
        )
    return worst


def _metadata(
    detector: Detector,
    artifact: Artifact,
    config: DeployConfig,
    target: Target,
    size: ImageSize,
    worst: float | None,
) -> Deployed:
    return Deployed(
        runtime=config.runtime.runtime,
        version=config.runtime.version(),
        precision=config.precision,
        classes=artifact.classes,
        image_size=size,
        batch=target.batch,
        layout=config.outputs,
        end_to_end=detector.head.end_to_end or config.suppression is not None,
        suppression=config.suppression,
        checked=worst,
        architecture=artifact.architecture.to_dict(),
    )


def _move(model: Path, final: Path) -> None:
    """Copy a file beside its place and rename it. Raises InputError if that fails."""
    beside = final.with_name(f".{final.name}.{os.getpid()}.unchecked")
    try:
        shutil.copyfile(model, beside)
        os.replace(beside, final)
    except OSError as error:
        raise InputError(f"cannot write {final}: {error.strerror}") from None
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _unfinished(final: Path) -> Iterator[Path]:
    """Provide a folder that takes the place of ``final`` at the end of the context, unless it fails.

    Raises InputError if ``final`` is something else than a folder of an earlier export.
    """
    if final.exists() and not (final / METADATA).is_file() and (not final.is_dir() or any(final.iterdir())):
        raise InputError(f"{final} exists and is no exported model", "a new folder", "give another one: --out FOLDER")
    new_folder(final.parent)
    folder = final.with_name(f".{final.name}.{os.getpid()}.unchecked")
    try:
        folder.mkdir()
        yield folder
        shutil.rmtree(final, ignore_errors=True)
        os.replace(folder, final)
    except OSError as error:
        raise InputError(f"cannot write {final}: {error.strerror}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
