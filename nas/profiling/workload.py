"""From a file of any kind to what is timed of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from latency_db.core.profiler import FINALIST, Workload
from latency_db.core.target import Target
from latency_db.runtimes import open_profiler
from nas.core.architecture_file import Artifact
from nas.core.budgets import Like
from nas.core.estimate import Estimate
from nas.core.references import artifact_of
from nas.data.source import DataPair, cache_folder
from nas.estimators.base import Context
from nas.estimators.latency import calibration_pictures, latency_workload
from nas.search.baseline import Baseline
from search_spaces.errors import InputError
from search_spaces.references import reference
from search_spaces.spaces import space_of


def default_latency_db() -> Path:
    """One database for all searches of this user: a second search re-uses every measurement."""
    return cache_folder() / "latency.sqlite"


def workload_of(path: Path, target: Target, scratch: Path, data: DataPair | None = None) -> Workload:
    """What to time of an ONNX file (its own batch and size), an architecture file, weights or a reference's name
    (exported for the target).

    int8 is calibrated with pictures of ``data``.
    """
    if path.suffix == ".onnx":
        workload = Workload.of_file(path)
        return (
            workload
            if data is None
            else replace(workload, calibration=lambda: calibration_pictures(data, input_side(path, target)))
        )
    artifact = _artifact(path)
    context = Context(space_of(artifact.architecture), artifact.num_classes, data=data, target=target, scratch=scratch)
    return latency_workload(context, artifact.architecture)


def _artifact(path: Path) -> Artifact:
    if path.suffix == ".safetensors":
        from nas.supernet.weights import load_detector  # imports torch

        return load_detector(path)[1]
    return artifact_of(path)


def measure_baseline(like: Like, context: Context) -> Baseline:
    """A reference measured now, to the interval asked of what is reported, on the context's target and with its
    number of classes.

    Its image size is the one that was named, else the target's, else its own. The figure is brought to the machine's
    usual speed, as a search's are.
    """
    from search_spaces.trace import trace  # imports torch

    target, database = context.target, context.database
    assert target is not None
    assert database is not None
    architecture = reference(like.reference).architecture
    space = space_of(architecture)
    size = like.image_size or target.image_size or int(architecture["image_size"])
    # A target without an image size stays so: its networks bring their own, and the usual speed is that of all of them.
    where = replace(target, image_size=size) if target.image_size else target
    workload = latency_workload(replace(context, space=space, target=replace(target, image_size=size)), architecture)
    with open_profiler(where, FINALIST) as profiler:
        m = database.measure_cached(profiler, workload, fresh=True)
        usual = profiler.reference_anchor_ms() or database.reference_anchor_ms(profiler.key(workload.key))
    m = m if usual is None else m.at_reference(usual)
    cost = trace(space.graph(architecture), context.num_classes, size)
    latency = Estimate("latency_ms", m.median_ms, "ms", m.low_ms, m.high_ms, m.source, str(m.target))
    return Baseline(like.reference, size, latency, cost.params, cost.macs)


def input_side(path: Path, target: Target) -> int:
    """Side in pixels of the square pictures that an ONNX file takes: fixed in it, else the target's."""
    import onnx

    dims = [
        d.dim_value for d in onnx.load(str(path), load_external_data=False).graph.input[0].type.tensor_type.shape.dim
    ]
    side = next((d for d in dims[2:4] if d), target.image_size)
    if side is None or any(d not in (0, side) for d in dims[2:4]):
        raise InputError(
            f"{path.name} takes pictures of {dims[2:4]}", "one fixed square size, or one in the target: …@640"
        )
    return side
