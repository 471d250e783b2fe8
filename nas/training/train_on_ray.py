"""Training of several detectors side by side on the nodes of a Ray cluster, one GPU each."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency_db.remote.ray_connection import check_versions, connect, versions
from nas.core.architecture_file import Artifact
from nas.core.atomic import atomic_write
from nas.core.references import with_classes_of
from nas.core.reporter import Reporter
from nas.inference.coco_metrics import Metrics
from nas.training.data import open_training_data
from nas.training.job import TrainJob
from nas.training.output import exclusive_output, finished_record
from nas.training.train_detector import train_detector, train_detectors, training_key
from search_spaces.errors import InputError

RETRIES = 3
"""Nodes that one training may lose; on another node it begins anew."""


@dataclass(frozen=True)
class DataSpec:
    """A data set as a node opens it: the same path or name as here.

    Args:
        spec: What ``--data`` names.
        limit: Largest number of images per split.
        fingerprint: Of the data set here.
    """

    spec: str
    limit: int | None
    fingerprint: str


def train_on_ray(
    artifacts: Sequence[Artifact],
    jobs: Sequence[TrainJob],
    folder: Path,
    data: DataSpec,
    address: str,
    reporter: Reporter,
) -> list[Metrics]:
    """Train several architectures on a Ray cluster and return the metrics of each.

    A training gets one GPU, or one CPU in a cluster without GPUs. Its files are written here when it ends. What an
    earlier call has finished is not repeated. A network that occurs twice is trained once.

    Args:
        artifacts: Architectures; the weights of each are written to ``<folder>/<name>.safetensors``.
        jobs: How each is trained; data, initial weights and teacher are those of this machine.
        folder: Output folder.
        data: The data set of all jobs.
        address: Of the cluster, as :func:`latency_db.remote.ray_connection.connect` takes it.
        reporter: Receives notes and the progress.

    Raises InputError if there is no such cluster, a node has other code, libraries or data, or a training fails.
    """
    ray = connect(address)
    resources = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {"num_cpus": 1}
    train = ray.remote(_train).options(**resources, max_retries=RETRIES)
    paths = [folder / f"{artifact.name}.safetensors" for artifact in artifacts]
    with ExitStack() as stack:
        for path in paths:
            stack.enter_context(exclusive_output(path))
        running = {}
        known: set[str] = set()  # train_detectors copies the weights of a network that occurs twice
        for artifact, job, path in zip(artifacts, jobs, paths, strict=True):
            job.check(with_classes_of(artifact, job.data))
            key = training_key(artifact, job)
            again = key in known
            known.add(key)
            if not again and not _finished(artifact, path, job):
                files = {name: file.read_bytes() for name in ("init", "teacher") if (file := getattr(job, name))}
                running[train.remote(artifact, _plain(job), data, files, versions())] = artifact, job, path
        with reporter.progress(f"training on the Ray cluster {address}") as update:
            count = len(running)
            while running:
                update(count - len(running), count)
                (done, *_), _ = ray.wait(list(running))
                artifact, job, path = running.pop(done)
                _write(folder, artifact.name, _result(ray, done))
                if not _finished(artifact, path, job):
                    raise InputError(f"the weights of {artifact.name} from the cluster are not those of this training")
            update(count, count)
    return train_detectors(artifacts, list(jobs), folder, reporter)  # nothing is left to train: reads the metrics


def _finished(artifact: Artifact, path: Path, job: TrainJob) -> bool:
    record = finished_record(with_classes_of(artifact, job.data), path, job)
    return record is not None and "metrics" in record


def _plain(job: TrainJob) -> Mapping[str, Any]:
    """Return what a node needs of a job besides data and weights."""
    names = ("init", "teacher")
    kept = {name: getattr(job, name) for name in ("recipe", "layers", "augment", "logging")}
    return {**kept, **{name: Path(file).name for name in names if (file := getattr(job, name)) is not None}}


def _result(ray: Any, done: Any) -> Mapping[str, bytes]:
    try:
        found: Mapping[str, bytes] | str = ray.get(done)
    except ray.exceptions.RayError as error:
        raise InputError(f"a training on the cluster failed ({str(error).splitlines()[-1]})") from None
    if isinstance(found, str):
        raise InputError(found)
    return found


def _write(folder: Path, name: str, files: Mapping[str, bytes]) -> None:
    """Write the files of a training, its weights last."""
    for file in sorted(files, key=lambda file: file == f"{name}.safetensors"):
        atomic_write(folder / file, files[file])


def _train(
    artifact: Artifact, plain: Mapping[str, Any], data: DataSpec, files: Mapping[str, bytes], wanted: Mapping[str, str]
) -> Mapping[str, bytes] | str:
    """Train on a node; return the files by name, or what is wrong."""
    import ray

    try:
        node = ray.get_runtime_context().get_node_id()[:8]
        check_versions(node, versions(), wanted)
        pair = open_training_data(data.spec, data.limit, Reporter())
        if pair.fingerprint != data.fingerprint:
            raise InputError(f"Ray node {node}: data set {data.spec} differs from the driver's", "the same files")
        with tempfile.TemporaryDirectory(prefix="nas-ray-") as name:
            folder, out = Path(name), Path(name) / "out"
            out.mkdir()
            given = dict(plain)
            for part, content in files.items():
                (folder / part).mkdir()
                given[part] = folder / part / given[part]
                given[part].write_bytes(content)
            job = TrainJob(pair, **given)
            train_detector(artifact, job, out / f"{artifact.name}.safetensors", Reporter())
            return {file.name: file.read_bytes() for file in out.iterdir() if file.is_file()}
    except InputError as error:
        return str(error)
