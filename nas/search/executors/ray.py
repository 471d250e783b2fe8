"""Accuracies on the nodes of a Ray cluster, latencies from the process of the search.

Ray places one actor per GPU (per CPU in a cluster without GPUs), sends it the supernet through its object store, and
sees when it is lost. Nodes may join and leave while the search runs.
"""

from __future__ import annotations

import contextlib
import queue
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from latency_db.remote.ray_connection import check_versions, connect, versions
from nas.estimators.base import Estimator
from nas.search.executors.pool import PoolExecutor, Worker, WorkerLost
from nas.search.tasks import Step, Task, TaskRunner
from search_spaces.errors import InputError

OpenEstimators = Callable[[Path | None, bool], AbstractContextManager[Sequence[Estimator]]]
"""Opens the estimators on a node from the file of the supernet; True: also check the node's data."""
LOOK_S = 2.0
"""Seconds between two looks at the nodes of the cluster."""


class RayExecutor(PoolExecutor):
    """An executor with one worker per GPU of a Ray cluster, or per CPU where it has no GPU.

    Args:
        address: Of the cluster, as :func:`latency_db.remote.ray_connection.connect` takes it.
        device: Estimators of the device, which are measured from this process, one at a time.
        open_estimators: Opens the estimators of one worker on its node.
        weights: File of the supernet; None without.
        most: Largest number of workers; None for all that the cluster has room for.

    Raises InputError if there is no such cluster.
    """

    def __init__(
        self,
        address: str,
        device: Sequence[Estimator],
        open_estimators: OpenEstimators,
        weights: Path | None = None,
        most: int | None = None,
    ) -> None:
        self._ray, self._most, self._looked = connect(address), most, time.monotonic()
        content = None if weights is None else self._ray.put(weights.read_bytes())
        checked: set[str] = set()
        kind = "GPU" if self._ray.cluster_resources().get("GPU") else "CPU"
        resources = {"num_gpus": 1, "num_cpus": 1} if kind == "GPU" else {"num_cpus": 1}
        self._kind = kind
        super().__init__(
            device, lambda number: RayWorker(self._ray, resources, open_estimators, content, checked), self._room()
        )

    def _room(self) -> int:
        room = max(1, int(self._ray.cluster_resources().get(self._kind, 0)))
        return room if self._most is None else min(room, self._most)

    def result(self, timeout_s: float | None = None) -> Step | None:
        """Wait for the next result; meanwhile use nodes that join.

        Raises InputError if no worker can be opened.
        """
        while True:
            if time.monotonic() - self._looked > LOOK_S:
                self._looked = time.monotonic()
                while self.workers < self._room():
                    self.add_worker()
            with contextlib.suppress(queue.Empty):
                return super().result(LOOK_S)


class RayWorker(Worker):
    """An actor on a node of the cluster; the constructor waits until Ray has placed it.

    Args:
        ray: The module, connected.
        resources: What the actor occupies.
        open_estimators: Opens its estimators there.
        content: Reference to the content of the supernet's file; None without.
        checked: Nodes whose versions and data were checked, filled by this call.

    Raises InputError for a node with other versions or data, WorkerLost if the node is lost.
    """

    def __init__(
        self,
        ray: Any,
        resources: Mapping[str, float],
        open_estimators: OpenEstimators,
        content: Any,
        checked: set[str],
    ) -> None:
        self._ray = ray
        self._actor = ray.remote(_Actor).options(**resources).remote()
        try:
            node, there = self._get(self._actor.versions.remote())
            if node not in checked:
                check_versions(node[:8], there)
            opened = self._get(self._actor.open.remote(open_estimators, content, node not in checked))
            if opened:
                raise InputError(f"Ray node {node[:8]}: {opened}")
        except BaseException:
            self.close()
            raise
        checked.add(node)

    def step(self, task: Task, number: int) -> Step:
        """Run one step on the node. Raises WorkerLost if it is lost."""
        step = self._get(self._actor.step.remote(task, number))
        assert isinstance(step, Step)
        return step

    def _get(self, answer: Any) -> Any:
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            raise InputError(f"a worker on Ray failed ({str(error).splitlines()[-1]})") from None
        except self._ray.exceptions.RayError:
            raise WorkerLost from None

    def close(self) -> None:
        """End the actor; may be called twice and after the cluster is gone."""
        with contextlib.suppress(Exception):
            self._ray.kill(self._actor)


class _Actor:
    """Runs steps on a node."""

    def versions(self) -> tuple[str, dict[str, str]]:
        """Return the id of the node and its versions."""
        import ray

        return ray.get_runtime_context().get_node_id(), versions()

    def open(self, open_estimators: OpenEstimators, content: bytes | None, check: bool) -> str:
        """Open the estimators; return what is wrong, empty if nothing is."""
        self._opened = contextlib.ExitStack()
        folder = Path(self._opened.enter_context(tempfile.TemporaryDirectory(prefix="nas-ray-")))
        weights = None
        if content is not None:
            weights = folder / "supernet.safetensors"
            weights.write_bytes(content)
        try:
            self._runner = TaskRunner(self._opened.enter_context(open_estimators(weights, check)))
        except InputError as error:
            return str(error)
        return ""

    def step(self, task: Task, number: int) -> Step:
        """Run one step."""
        return self._runner.step(task, number)
