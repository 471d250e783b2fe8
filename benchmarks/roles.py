"""Overlap of roles: latency on a device apart, accuracy on this machine, in one search.

``python -m benchmarks.roles --trials 40 --seconds 2``

The device is this machine over a real SSH server, its Python pinned to the first core; the worker for accuracies
computes for ``--seconds`` a candidate on the second core. Compared: the wall time of the search with the seconds that
the longer role takes in all, and with the wall time of the same search where tasks run one after the other.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import Goal, write
from benchmarks.sshd import client_of, loopback_board, missing
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.remote.profiler import measuring_on
from nas.core.estimate import Estimate
from nas.estimators.base import Context, Estimator
from nas.estimators.latency import Latency
from nas.search.executors.base import Executor
from nas.search.executors.inline import InlineExecutor
from nas.search.executors.local import LocalExecutor
from nas.search.study import Study
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES

SPACE = SPACES["yolo-nano"].restrict({"image_size": (128,)})
GOAL = 1.2


class Computing(Estimator):
    """A made-up accuracy that multiplies matrices for a while."""

    name, direction, rank, role = "score", "max", 2, "compute"
    seconds = 2.0

    def __call__(self, architecture: Architecture) -> Estimate:
        end, matrix = time.monotonic() + self.seconds, np.ones((200, 200))
        while time.monotonic() < end:
            matrix = matrix @ matrix / 200
        return Estimate(self.name, int(architecture.id[6:], 16) / 2**24, source="table")


@contextmanager
def open_computing(seconds: float, core: int, number: int) -> Iterator[list[Estimator]]:
    """Open the accuracy in a worker that is pinned to a core."""
    os.sched_setaffinity(0, {core})
    estimator = Computing(Context(SPACE, 3))
    estimator.seconds = seconds
    yield [estimator]


def searched(trials: int, seconds: float, overlap: bool, core: int) -> dict[str, float]:
    """Run a search whose latency is measured on the board that is open; return its seconds."""
    with tempfile.TemporaryDirectory() as name, LatencyDB(Path(name) / "latency.sqlite") as database:
        context = Context(SPACE, 3, target=Target("onnxruntime"), database=database, scratch=Path(name))
        latency, score = Latency(context), Computing(replace(context))
        score.seconds = seconds
        estimators: Sequence[Estimator] = (latency, score)
        executor: Executor = InlineExecutor(estimators)
        if overlap:
            executor = LocalExecutor([latency], partial(open_computing, seconds, core), 1)
        study = Study(Path(name) / "study.journal", "roles", SPACE, [e.objective() for e in estimators], "random")
        began = time.perf_counter()
        study.run(estimators, trials, executor=executor)
        wall = time.perf_counter() - began
        executor.close()
        latency.close()
        records = study.history.records.values()
        assert len(study.candidates) == trials, study.failures
        return {"wall_s": wall, **{e.name: sum(r.seconds[e.name] for r in records) for e in estimators}}


def ratio(seconds: Mapping[str, float]) -> float:
    """Return the wall time in the longer role's seconds."""
    return seconds["wall_s"] / max(seconds[Latency.name], seconds[Computing.name])


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """Wall time in the longer role's seconds."""
    what = (
        f"wall time of {figure['trials']} candidates, latency and accuracy on different hardware, in the longer role's"
    )
    return [Goal(what, figure["ratio"], f"<= {GOAL:g}", "×")]


def main() -> None:
    """Search twice and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=2.0, help="of an accuracy")
    args = parser.parse_args()
    if (reason := missing()) is not None:
        raise InputError(reason)
    first, second = sorted(os.sched_getaffinity(0))[:2]
    with loopback_board(f"taskset -c {first}") as server, client_of(server), measuring_on(server.address):
        one_after_the_other = searched(args.trials, args.seconds, False, second)
        overlapping = searched(args.trials, args.seconds, True, second)
    figure = {
        "trials": args.trials,
        "seconds_of_an_accuracy": args.seconds,
        "one_after_the_other": one_after_the_other,
        "overlapping": overlapping,
        "ratio": ratio(overlapping),
        "ratio_one_after_the_other": ratio(one_after_the_other),
    }
    print(figure)
    write("roles", figure, goals_of(figure))


if __name__ == "__main__":
    import_module("benchmarks.roles").main()  # workers import what they run, which the main module cannot give
