"""From a file of any kind to what is timed of it."""

from __future__ import annotations

from pathlib import Path

from latency_db.profiler import Workload
from latency_db.target import Target
from nas.artifact import read_artifact
from nas.data.source import cache_folder
from nas.estimators.base import Context
from nas.estimators.latency import latency_workload
from nas.weights import load_detector
from search_spaces.spaces import space_of


def default_latency_db() -> Path:
    """One database for all searches of this user: a second search re-uses every measurement."""
    return cache_folder() / "latency.sqlite"


def workload_of(path: Path, target: Target, scratch: Path) -> Workload:
    """What to time of an ONNX file (its own batch and size), an architecture file or weights (exported for the target)."""
    if path.suffix == ".onnx":
        return Workload.of_file(path)
    if path.suffix == ".safetensors":
        _, artifact, _ = load_detector(path)
    else:
        artifact = read_artifact(path)
    context = Context(space_of(artifact.architecture), artifact.num_classes, target=target, scratch=scratch)
    return latency_workload(context, artifact.architecture)
