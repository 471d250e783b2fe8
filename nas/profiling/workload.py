"""From a file of any kind to the workload that is timed of it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from latency_db.conversion.onnx_parts import parsed
from latency_db.core.profiler import Network, Workload
from latency_db.core.target import Target
from nas.core.architecture_file import Artifact
from nas.core.references import artifact_of
from nas.profiling.calibration import calibration_images
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.image_size import ImageSize
from search_spaces.space import SearchSpace
from search_spaces.spaces import space_of

if TYPE_CHECKING:
    from nas.data.source import DataPair


def latency_workload(
    space: SearchSpace,
    architecture: Architecture,
    num_classes: int,
    target: Target,
    scratch: Path,
    data: DataPair | None = None,
) -> Workload:
    """Make the workload of an architecture, keyed by content: space version, architecture, classes and image size.

    Args:
        space: of the architecture.
        architecture: what is timed.
        num_classes: of the detector.
        target: its image size, if it has one, replaces the architecture's.
        scratch: folder for the ONNX file, which is written only when it is timed.
        data: images that int8 is calibrated with.

    Raises:
        InputError: if the image size is not a multiple of 32.
    """
    size = (target.image_size or architecture.image_size).check(f"target {target}")
    network = Network(architecture, num_classes, size)
    images = partial(calibration_images, data, size) if data else None
    model = partial(_skeleton, space, architecture, num_classes, scratch / "candidate.onnx", size, target.batch)
    return Workload(network.key, model, network, images)


def _skeleton(
    space: SearchSpace, architecture: Architecture, num_classes: int, path: Path, size: ImageSize, batch: int
) -> Path:
    from nas.export.onnx import skeleton_onnx  # imports torch

    return skeleton_onnx(space, architecture, num_classes, path, size, batch)


def workload_of(path: Path, target: Target, scratch: Path, data: DataPair | None = None) -> Workload:
    """Make the workload of an ONNX file, an architecture file, trained weights or a reference's name.

    An ONNX file is timed as it is; everything else is exported for the target.

    Args:
        path: the file, or the name of a reference.
        target: what it is timed on.
        scratch: folder for the exported file.
        data: images that int8 is calibrated with.

    Raises:
        InputError: if the file cannot be read, or its image size does not fit.
    """
    if path.suffix == ".onnx":
        workload = Workload.of_file(path)
        if data is None:
            return workload
        return replace(workload, calibration=lambda: calibration_images(data, input_size(path, target)))
    artifact = _artifact(path)
    space = space_of(artifact.architecture)
    return latency_workload(space, artifact.architecture, artifact.num_classes, target, scratch, data)


def _artifact(path: Path) -> Artifact:
    if path.suffix == ".safetensors":
        from nas.supernet.weights import load_detector  # imports torch

        return load_detector(path)[1]
    return artifact_of(path)


def input_size(path: Path, target: Target) -> ImageSize:
    """Read the size of the images that an ONNX file takes.

    Where the file leaves it free, it is the target's.

    Raises:
        InputError: if the file cannot be read, its input is no image, or its size is unknown or not the target's.
    """
    inputs = parsed(path).graph.input
    dims = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim] if inputs else []
    free = target.image_size.shape if target.image_size else (0, 0)
    sides = [dim or side for dim, side in zip(dims[2:4], free, strict=False)]
    if len(dims) != 4 or not all(sides) or (target.image_size and tuple(sides) != free):
        raise InputError(
            f"{path.name} takes images of {dims[2:4]}", "one fixed size, or one in the target: …@640 or …@384x640"
        )
    return ImageSize(*sides).check(path.name)
