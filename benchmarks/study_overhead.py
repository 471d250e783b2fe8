"""Cost of the study and the latency database per candidate, estimators free of charge.

``python -m benchmarks.study_overhead --trials 1000 --sampler random``

The estimators answer at once (a hash of the architecture); the latency goes through the database, put and found
again. What remains is ours: asking, recording, the journal, the archive.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.record import Goal, write
from latency_db.core.measurement import LatencyKey, Measurement, now
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from nas.core.estimate import Estimate
from nas.estimators.base import Context, Estimator
from nas.search.study import Study, TrialEvent
from search_spaces.architecture import Architecture
from search_spaces.spaces import SPACES

TARGET = Target.read("onnxruntime:fp32")


class StoredLatency(Estimator):
    """A made-up latency that takes the way of a real one through the database."""

    name, unit, direction = "latency_ms", "ms", "min"

    def __call__(self, architecture: Architecture) -> Estimate:
        database = self.context.database
        assert database is not None
        key = LatencyKey(architecture.id, str(TARGET), "none", "none")
        if database.find(key) is None:
            ms = 1 + int(architecture.id[:6], 16) / 2**24
            database.put(
                key, Measurement(ms, ms, ms, ms, ms, 1, "table", "clean", "wall", TARGET, architecture.id, time=now())
            )
        return Estimate(self.name, database.get(key).median_ms, "ms", source="table")


class Hashed(Estimator):
    """A made-up accuracy."""

    name, direction = "map", "max"

    def __call__(self, architecture: Architecture) -> Estimate:
        return Estimate(self.name, int(architecture.id[6:], 16) / 2**24, source="table")


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """40 ms per candidate."""
    what = f"cost of study and latency database per candidate at {figure['trials']} trials"
    return [Goal(what, figure["ms_per_candidate_median"], "<= 40", "ms")]


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--sampler", default="random")
    args = parser.parse_args()
    space = SPACES["yolo-nas"]
    stamps: list[float] = []

    def watch(event: TrialEvent) -> None:
        stamps.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder, LatencyDB(Path(folder) / "latency.sqlite") as database:
        context = Context(space, 80, database=database)
        estimators = [StoredLatency(context), Hashed(context)]
        study = Study(
            Path(folder) / "study.journal", "overhead", space, [e.objective() for e in estimators], args.sampler
        )
        study.run(estimators, args.trials, watch)
        start = time.perf_counter()
        again = Study(
            Path(folder) / "study.journal", "overhead", space, [e.objective() for e in estimators], args.sampler
        )
        reopen = time.perf_counter() - start
        assert len(again.candidates) == args.trials
        size = (Path(folder) / "study.journal").stat().st_size
    gaps = [(b - a) * 1e3 for a, b in pairwise(stamps)]
    figure = {
        "ms_per_candidate_median": median(gaps),
        "ms_per_candidate_mean": sum(gaps) / len(gaps),
        "ms_last_hundred_median": median(gaps[-100:]),
        "trials": args.trials,
        "sampler": args.sampler,
        "reopen_s": reopen,
        "journal_mib": size / 2**20,
    }
    print(figure)
    write(f"study_overhead_{args.sampler}", figure, goals_of(figure))


if __name__ == "__main__":
    main()
