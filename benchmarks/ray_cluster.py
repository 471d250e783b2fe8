"""A search on a Ray cluster whose nodes and workers come and go, simulated on one machine.

``python -m benchmarks.ray_cluster --nodes 3 --trials 400 --seconds 0.2 --kills 100 --node-kills 6``

``ray.cluster_utils.Cluster`` starts a head without workers and ``--nodes`` nodes of one CPU. While the search runs,
workers are killed (``kill -9``) at random moments, and nodes are removed and others added. Counted: candidates that are
missing, evaluated to the end and lost, or recorded twice.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.kills import kill_one
from benchmarks.record import Goal, write
from benchmarks.workers import SPACE, MadeUpLatency, open_shared, open_slow, read, slow, tally
from latency_db.remote.ray_connection import connect
from nas.estimators.base import Context, Estimator
from nas.search.executors.ray import RayExecutor
from nas.search.study import TrialEvent


@contextmanager
def open_on_node(folder: Path, seconds: float, weights: Path | None, check: bool) -> Iterator[list[Estimator]]:
    """Open the slow estimator on a node."""
    with open_slow(folder, seconds, 0) as estimators:
        yield estimators


class Trouble(threading.Thread):
    """Kills workers while a search runs, and replaces nodes between its candidates.

    Args:
        cluster: The cluster.
        nodes: Its nodes with CPUs.
        folder: Where workers note their processes.
        kills: Workers to be killed.
        seconds: Of an evaluation.
        every: Candidates between two nodes that are replaced.
    """

    def __init__(self, cluster: Any, nodes: list[Any], folder: Path, kills: int, seconds: float, every: int) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.killed = self.replaced = 0
        self._cluster, self._nodes, self._folder = cluster, nodes, folder
        self._kills, self._rng, self._seconds, self._every = kills, random.Random(0), seconds, every

    def run(self) -> None:
        """Kill workers."""
        while self.killed < self._kills:
            try:
                if not kill_one(self._folder, self._rng, self._seconds, self.ended):
                    return
            except ProcessLookupError:  # its node was removed at that moment
                continue
            self.killed += 1

    def watch(self, event: TrialEvent) -> None:
        """Remove a node and add another, in the thread of the search: Ray starts nodes from a main thread only."""
        if event.done % self._every == 0 and event.done < event.wanted:
            self._cluster.remove_node(self._nodes.pop(0))
            self._nodes.append(self._cluster.add_node(num_cpus=1))
            self.replaced += 1


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """Everything wanted, once, and nothing finished lost."""
    what = f"when {figure['killed']} workers and {figure['nodes_replaced']} nodes of a Ray cluster are killed"
    return [
        Goal(f"candidates missing in the end {what}", figure["wanted"] - figure["candidates"], "<= 0"),
        Goal(f"candidates recorded twice {what}", figure["told_twice"], "<= 0"),
        Goal(f"finished evaluations lost {what}", figure["finished_lost"], "<= 0"),
    ]


def main() -> None:
    """Search, kill, count, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--node-kills", type=int, default=6)
    args = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(args.nodes)]
    ray = connect(cluster.address)
    with tempfile.TemporaryDirectory() as name:
        folder, storage = Path(name), Path(name) / "study.journal"
        executor = RayExecutor(cluster.address, [], partial(open_on_node, folder, args.seconds))
        every = args.trials // (args.node_kills + 1)
        trouble = Trouble(cluster, nodes, folder, args.kills, args.seconds, every)
        trouble.start()
        began = time.perf_counter()
        estimators = (MadeUpLatency(Context(SPACE, 3)), slow(folder, args.seconds))
        open_shared(storage).run(estimators, args.trials, trouble.watch, executor=executor)
        took = time.perf_counter() - began
        trouble.ended.set()
        trouble.join()
        executor.close()
        ended, candidates = set(read(folder / "ended")), {c.id for c in open_shared(storage).candidates}
        figure = {
            "nodes": args.nodes,
            "wanted": args.trials,
            "seconds_of_an_evaluation": args.seconds,
            "wall_s": took,
            "killed": trouble.killed,
            "nodes_replaced": trouble.replaced,
            **tally(folder, storage),
            "finished_lost": len(ended - candidates),
        }
    ray.shutdown()
    cluster.shutdown()
    print(figure)
    write("ray_cluster", figure, goals_of(figure))


if __name__ == "__main__":
    import_module("benchmarks.ray_cluster").main()  # workers import what they run, which the main module cannot give
