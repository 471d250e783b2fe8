"""Export of weights files to ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas.core.architecture_file import Artifact
from nas.core.paths import new_file
from nas.export.onnx import export_onnx, metadata_of
from nas.inference.onnx_checks import MAX_SIDE
from nas.supernet.weights import interpolation_in, load_detector
from search_spaces.errors import InputError
from search_spaces.image_size import STRIDE, AnySize, ImageSize


@dataclass(frozen=True)
class Export:
    """An exported file.

    Attributes:
        path: The ONNX file.
        artifact: Architecture, classes and origin of the weights.
        difference: Largest difference between its outputs and those of torch (:func:`nas.export.onnx.parity`).
    """

    path: Path
    artifact: Artifact
    difference: float


def export_weights(weights: Path, out: Path | None = None, image_size: AnySize | None = None) -> Export:
    """Export trained weights to ONNX, checked against torch.

    ``out``: default beside the weights. ``image_size``: default the architecture's. Raises InputError
    if the weights, the size or the path cannot be used, or if the check fails.
    """
    detector, artifact, record = load_detector(weights)
    path = out or weights.with_suffix(".onnx")
    size = ImageSize.of(image_size or artifact.architecture.image_size)
    if max(size.check()) > MAX_SIDE:
        raise InputError(f"image size {size}", f"a multiple of {STRIDE} from {STRIDE} to {MAX_SIDE}")
    new_file(path, ".onnx")
    metadata = metadata_of(artifact.architecture, artifact.classes, size, interpolation_in(record, str(weights)))
    return Export(path, artifact, export_onnx(detector.deploy(), path, size, metadata))
