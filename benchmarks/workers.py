"""One study, many workers: how much faster, and at what loss of quality.

``python -m benchmarks.workers --trials 80 --seconds 2 --yolobench yolobench.parquet``

Speed: a search with 1, 4 and 8 local workers evaluates ``--trials`` candidates, each of which takes ``--seconds``
(asleep, as if a GPU were busy). Efficiency is the time of one worker over the number of workers times their time, from
when all are ready to when the search ends. Quality: on YOLOBench (COCO x A40) the share of the true front's hypervolume
when always 1, 4 or 8 candidates are pending, over seeds. What is lost when workers or the driver are killed:
:mod:`benchmarks.kills`.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import mean
from typing import Any

import optuna

from benchmarks.record import Goal, write
from nas.core.estimate import Estimate
from nas.estimators.base import Context, Estimator
from nas.search.executors.local import LocalExecutor
from nas.search.optuna_compat import storage_of
from nas.search.study import Study
from search_spaces.architecture import Architecture
from search_spaces.spaces import SPACES

SPACE = SPACES["yolo-nano"]
NAME = "shared"
EFFICIENCY = {"4": 0.92, "8": 0.86}
"""Workers -> parallel efficiency to be reached."""


def size_of(architecture: Architecture) -> float:
    """0..1: where a network's choices are between the smallest and the largest of the space."""
    free = [c for c in SPACE.choices if len(c.values) > 1]
    return sum(c.index(architecture[c.name]) / (len(c.values) - 1) for c in free) / len(free)


class MadeUpLatency(Estimator):
    """A cost that grows with every choice."""

    name, unit, direction = "latency_ms", "ms", "min"

    def __call__(self, architecture: Architecture) -> Estimate:
        return Estimate(self.name, math.exp(3 * size_of(architecture)), self.unit, source="table")


class Slow(Estimator):
    """A gain that grows with the size, and a little by chance; it notes when it begins and ends, and takes its time."""

    name, unit, direction, rank, role = "score", "", "max", 2, "compute"
    folder: Path
    seconds: float

    def __call__(self, architecture: Architecture) -> Estimate:
        note(self.folder / "begun", architecture.id)
        time.sleep(self.seconds)
        note(self.folder / "ended", architecture.id)
        return Estimate(self.name, size_of(architecture) ** 0.5 + int(architecture.id[:4], 16) / 2**19, source="table")


def slow(folder: Path, seconds: float) -> Slow:
    """Make the slow estimator."""
    estimator = Slow(Context(SPACE, 3))
    estimator.folder, estimator.seconds = folder, seconds
    return estimator


@contextmanager
def open_slow(folder: Path, seconds: float, number: int) -> Iterator[list[Estimator]]:
    """Open the slow estimator in a worker, which notes its process."""
    note(folder / "ready", f"{os.getpid()}")
    yield [slow(folder, seconds)]


def note(path: Path, text: str) -> None:
    """A line more; short ones that several processes append come out whole."""
    with path.open("ab") as file:
        file.write(f"{text}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[str]:
    """The lines so far."""
    return path.read_text().splitlines() if path.exists() else []


def open_shared(storage: Path | str, sampler: str = "random", seed: int = 0) -> Study:
    """The study."""
    return Study(
        storage, NAME, SPACE, [kind(Context(SPACE, 3)).objective() for kind in (MadeUpLatency, Slow)], sampler, seed
    )


def drive(
    folder: Path, storage: Path | str, workers: int, trials: int, seconds: float, sampler: str = "random"
) -> float:
    """Search with local workers; return the seconds from when all are ready to the end."""
    study, before = open_shared(storage, sampler), len(read(folder / "ready"))
    executor = LocalExecutor([], partial(open_slow, folder, seconds), workers)
    try:
        while len(read(folder / "ready")) < before + workers:
            time.sleep(0.05)
        began = time.perf_counter()
        study.run((MadeUpLatency(Context(SPACE, 3)), slow(folder, seconds)), trials, executor=executor)
        return time.perf_counter() - began
    finally:
        executor.close()


def tally(folder: Path, storage: Path | str) -> dict[str, int]:
    """Count candidates of the study, evaluations that were begun and not recorded, candidates that are in the study
    twice, and evaluations that ran again although they had ended."""
    study = open_shared(storage)
    ids = [c.id for c in study.candidates]
    begun, ended = read(folder / "begun"), Counter(read(folder / "ended"))
    assert set(ids) <= set(ended)
    trials = optuna.load_study(study_name=NAME, storage=storage_of(study._study)).get_trials(deepcopy=False)
    recorded = [t.user_attrs["candidate"]["architecture"]["id"] for t in trials if "candidate" in t.user_attrs]
    return {
        "candidates": len(ids),
        "lost": len(begun) - len(ids),
        "told_twice": len(recorded) - len(set(recorded)),
        "evaluated_again_after_their_end": sum(n - 1 for n in ended.values()),
    }


def seconds_of(workers: int, trials: int, seconds: float, sampler: str) -> float:
    """Wall time of a search with that many workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        storage = folder / "study.journal"
        took = drive(folder, storage, workers, trials, seconds, sampler)
        found = tally(folder, storage)
        assert found.pop("candidates") == trials and not any(found.values()), found
    return took


def quality(table: Path, seeds: int, evaluations: int = 100) -> dict[str, dict[str, float]]:
    """Pending candidates -> evaluations -> mean share of hypervolume."""
    from benchmarks.search_quality import guided
    from benchmarks.search_tables import yolobench

    problem = yolobench(table, "map50_95_coco", "latency_ms_a40_tensorrt")
    figure: dict[str, dict[str, float]] = {}
    for pending in (1, 4, 8):
        shares = []
        for seed in range(seeds):
            study = optuna.create_study(directions=["minimize", "maximize"], sampler=guided(problem, seed))
            hand: deque[Any] = deque()
            rows: list[int] = []
            while len(rows) < evaluations:
                while len(hand) < pending:
                    hand.append(study.ask(dict(problem.space)))
                trial = hand.popleft()
                row = problem.row(trial.params)
                assert row is not None
                rows.append(row)
                study.tell(trial, problem.answer(row))
            shares.append({n: problem.share(rows[:n]) for n in (50, 100) if n <= evaluations})
        figure[str(pending)] = {str(n): mean(s[n] for s in shares) for n in shares[0]}
        print(f"{pending} pending: {figure[str(pending)]}", flush=True)
    return figure


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """Efficiency."""
    return [
        Goal(f"parallel efficiency of {n} workers on one study", figure["efficiency"][n], f">= {least:g}", "share")
        for n, least in figure["goals"].items()
        if n in figure["efficiency"]
    ]


def main() -> None:
    """Time, compare, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=80)
    parser.add_argument("--seconds", type=float, default=2.0, help="of an evaluation")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[1, 4, 8], help="the first is what the others are compared with"
    )
    parser.add_argument("--sampler", default="guided")
    parser.add_argument("--yolobench", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    took = {}
    for workers in args.workers:
        took[workers] = seconds_of(workers, args.trials, args.seconds, args.sampler)
        print(
            f"{workers} workers: {took[workers]:.1f} s, efficiency {took[args.workers[0]] * args.workers[0] / (workers * took[workers]):.3f}",
            flush=True,
        )
    first = args.workers[0]
    figure: dict[str, Any] = {
        "trials": args.trials,
        "seconds_of_an_evaluation": args.seconds,
        "sampler": args.sampler,
        "seconds": {str(w): s for w, s in took.items()},
        "efficiency": {str(w): took[first] * first / (w * s) for w, s in took.items()},
        "goals": EFFICIENCY,
    }
    if args.yolobench:
        figure["share_of_hypervolume"] = quality(args.yolobench, args.seeds)
    write("workers", figure, goals_of(figure), seeds=range(args.seeds))


if __name__ == "__main__":
    import_module("benchmarks.workers").main()  # workers import what they run, which the main module cannot give
