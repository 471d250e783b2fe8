"""From a file of any kind to what is timed of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from latency_db.profiler import Workload
from latency_db.target import Target
from nas.artifact import read_artifact
from nas.data.source import DataPair, cache_folder
from nas.estimators.base import Context
from nas.estimators.latency import calibration_pictures, latency_workload
from search_spaces.errors import InputError
from search_spaces.spaces import space_of


def default_latency_db() -> Path:
    """One database for all searches of this user: a second search re-uses every measurement."""
    return cache_folder() / "latency.sqlite"


def workload_of(path: Path, target: Target, scratch: Path, data: DataPair | None = None) -> Workload:
    """What to time of an ONNX file (its own batch and size), an architecture file or weights (exported for the target).

    int8 is calibrated with pictures of ``data``.
    """
    if path.suffix == ".onnx":
        workload = Workload.of_file(path)
        return workload if data is None else replace(workload, calibration=lambda: calibration_pictures(data, input_side(path, target)))
    if path.suffix == ".safetensors":
        from nas.weights import load_detector  # imports torch

        _, artifact, _ = load_detector(path)
    else:
        artifact = read_artifact(path)
    context = Context(space_of(artifact.architecture), artifact.num_classes, data=data, target=target, scratch=scratch)
    return latency_workload(context, artifact.architecture)


def input_side(path: Path, target: Target) -> int:
    """Side in pixels of the square pictures that an ONNX file takes: fixed in it, else the target's."""
    import onnx

    dims = [d.dim_value for d in onnx.load(str(path), load_external_data=False).graph.input[0].type.tensor_type.shape.dim]
    side = next((d for d in dims[2:4] if d), target.image_size)
    if side is None or any(d not in (0, side) for d in dims[2:4]):
        raise InputError(f"{path.name} takes pictures of {dims[2:4]}", "one fixed square size, or one in the target: …@640")
    return side
