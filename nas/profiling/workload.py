"""From a file of any kind to what is timed of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from latency_db.core.profiler import Network, Workload
from latency_db.core.target import Target
from nas.core.architecture_file import Artifact
from nas.core.references import artifact_of
from nas.data.source import DataPair, cache_folder
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace
from search_spaces.spaces import space_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from nas.data.source import DataPair

CALIBRATION_IMAGES = 16


def latency_workload(
    space: SearchSpace,
    architecture: Architecture,
    num_classes: int,
    target: Target,
    scratch: Path,
    data: DataPair | None = None,
) -> Workload:
    """The workload of an architecture, keyed by content: space version, architecture, classes and image size.

    Its ONNX file is written into ``scratch`` when it is really timed. int8 is calibrated with images of ``data``.
    """
    size = target.image_size or int(architecture["image_size"])
    network = Network(architecture, num_classes, size)
    images = partial(calibration_images, data, size) if data else None
    model = partial(_skeleton, space, architecture, num_classes, scratch / "candidate.onnx", size, target.batch)
    return Workload(network.key, model, network, images)


def calibration_images(data: DataPair, size: int) -> Sequence[npt.NDArray[np.float32]]:
    """One batch of the training split, (N, 3, size, size) float32 in 0..1: int8 takes the ranges of activations from
    them."""
    import numpy as np

    from nas.data.loader import Loader, LoaderConfig

    batch = next(Loader(data.train, LoaderConfig(CALIBRATION_IMAGES, size, workers=0)).epoch())
    return [batch.images.numpy().astype(np.float32) / np.float32(255)]


def _skeleton(
    space: SearchSpace, architecture: Architecture, num_classes: int, path: Path, size: int, batch: int
) -> Path:
    from nas.export.onnx import skeleton_onnx  # imports torch

    return skeleton_onnx(space, architecture, num_classes, path, size, batch)


def default_latency_db() -> Path:
    """One database for all searches of this user: a second search re-uses every measurement."""
    return cache_folder() / "latency.sqlite"


def workload_of(path: Path, target: Target, scratch: Path, data: DataPair | None = None) -> Workload:
    """What to time of an ONNX file (its own batch and size), an architecture file, weights or a reference's name
    (exported for the target).

    int8 is calibrated with images of ``data``.
    """
    if path.suffix == ".onnx":
        workload = Workload.of_file(path)
        return (
            workload
            if data is None
            else replace(workload, calibration=lambda: calibration_images(data, input_side(path, target)))
        )
    artifact = _artifact(path)
    space = space_of(artifact.architecture)
    return latency_workload(space, artifact.architecture, artifact.num_classes, target, scratch, data)


def _artifact(path: Path) -> Artifact:
    if path.suffix == ".safetensors":
        from nas.supernet.weights import load_detector  # imports torch

        return load_detector(path)[1]
    return artifact_of(path)


def input_side(path: Path, target: Target) -> int:
    """Side in pixels of the square images that an ONNX file takes: fixed in it, else the target's."""
    import onnx

    dims = [
        d.dim_value for d in onnx.load(str(path), load_external_data=False).graph.input[0].type.tensor_type.shape.dim
    ]
    side = next((d for d in dims[2:4] if d), target.image_size)
    if side is None or any(d not in (0, side) for d in dims[2:4]):
        raise InputError(
            f"{path.name} takes images of {dims[2:4]}", "one fixed square size, or one in the target: …@640"
        )
    return side
