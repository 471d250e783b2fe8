"""A search on a Ray cluster of this machine: a worker is killed, a node joins, a node offers a device.

One cluster for all tests; ``python -m benchmarks.ray_cluster`` kills many.
"""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from latency_db.core.device import DeviceFingerprint
from latency_db.core.target import Target
from latency_db.remote import ray_connection
from latency_db.remote.profiler import measuring_on
from latency_db.remote.ray_connection import check_versions, connect, versions
from latency_db.runtimes import open_profiler
from nas.core.architecture_file import Artifact, DataRecord
from nas.core.console_reporter import ConsoleReporter
from nas.core.references import NO_STUDY
from nas.core.reporter import Reporter
from nas.estimators.base import Context, Estimator
from nas.search.executors.ray import RayExecutor
from nas.search.study import Study, TrialEvent
from nas.supernet.weights import load_detector
from nas.training.data import open_training_data
from nas.training.job import ComputeConfig, TrainJob
from nas.training.recipe import Recipe
from nas.training.train_on_ray import DataSpec, train_on_ray
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES
from tests._fakes import FakeLatency, FakeScore, tiny_space

TINY = tiny_space()
CONTEXT = Context(TINY, 3)


class OnNode(FakeScore):
    role = "compute"


@contextmanager
def open_score(folder: Path, weights: Path | None, check: bool) -> Iterator[list[Estimator]]:
    """The gain; its process notes itself, and dies at its fourth candidate if it is the first."""
    assert weights is not None and weights.read_bytes() == b"weights"
    with (folder / "opened").open("a") as file:
        file.write(f"{os.getpid()} {check}\n")
    first = (folder / "opened").read_text().startswith(f"{os.getpid()} ")
    score = OnNode(CONTEXT)
    score.before = lambda a: os.kill(os.getpid(), signal.SIGKILL) if first and len(score.asked) == 4 else None
    yield [score]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without CPUs, which offers the device, and a node with one CPU."""
    pytest.importorskip("ray", reason="pip install 'hw-nas-yolo[ray]'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "resources": {"board": 1}}
    started = Cluster(initialize_head=True, head_node_args=head)
    started.add_node(num_cpus=1)
    ray = connect(started.address)
    yield started
    ray.shutdown()
    started.shutdown()


def test_a_worker_is_killed_and_a_node_joins(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"weights")
    executor = RayExecutor(cluster.address, [], partial(open_score, tmp_path), tmp_path / "w")
    study = Study(tmp_path / "study.journal", "run", TINY, [FakeLatency.objective(), OnNode.objective()], "random")

    def watch(event: TrialEvent) -> None:
        if event.done == 6:
            cluster.add_node(num_cpus=1)

    study.run([FakeLatency(CONTEXT), OnNode(CONTEXT)], 12, watch, executor=executor)
    executor.close()
    assert len(study.candidates) == len({c.id for c in study.candidates}) == 12 and study.failures == []
    opened = (tmp_path / "opened").read_text().split()
    assert len(set(opened[::2])) >= 2 and opened[1::2].count("True") in (1, 2)  # data is checked once per node


def test_a_node_is_the_device(cluster: Any) -> None:
    with measuring_on("ray:board") as board, open_profiler(Target("onnxruntime")) as profiler:
        assert board is not None and board.facts() == versions()
        assert profiler.fingerprint() == DeviceFingerprint.read()
    with (
        pytest.raises(InputError, match="no node of the Ray cluster offers 'jetson'.*--resources"),
        measuring_on("ray:jetson"),
    ):
        pass


def test_a_network_that_occurs_twice_is_trained_once(cluster: Any, tmp_path: Path) -> None:
    spec = "digits@96:train=8,val=4"
    data = open_training_data(spec, None, Reporter())
    recipe = Recipe(epochs=1, batch_size=4, warmup_steps=1, precision="fp32")
    job = TrainJob(data, recipe, augment=False, compute=ComputeConfig("cpu"))
    smallest = SPACES["yolo-nano"].restrict({"image_size": (96,), "width": (8,)}).smallest
    both = [
        Artifact(name, smallest, (), NO_STUDY, data.classes, DataRecord(data.name, data.fingerprint)) for name in "SM"
    ]
    text = io.StringIO()
    shown = ConsoleReporter(Console(file=text, width=200))
    where = DataSpec(spec, None, data.fingerprint)
    metrics = train_on_ray(both, [job, job], tmp_path, where, cluster.address, shown)
    assert metrics[0] == metrics[1] and "M is the network of S" in text.getvalue()
    (small, _, _), (middle, named, _) = (load_detector(tmp_path / f"{name}.safetensors") for name in "SM")
    assert named.name == "M" and all(a.equal(b) for a, b in zip(small.parameters(), middle.parameters(), strict=True))


# without a cluster


@pytest.mark.parametrize(("name", "there"), [("torch", "1.0"), ("Python", "3.7"), ("code", "0" * 16), ("numpy", "")])
def test_a_node_with_other_versions_is_one_line(name: str, there: str) -> None:
    check_versions("node", versions())
    with pytest.raises(
        InputError, match=f"Ray node 7f has .*{'code of this project' if name == 'code' else name}"
    ) as error:
        check_versions("7f", {**versions(), name: there})
    assert "\n" not in str(error.value)


def test_without_ray_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_connection, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"hw-nas-yolo\[ray\]"):
        connect("auto")
