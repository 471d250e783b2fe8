"""One study, many workers: how much faster, at what loss, and what is lost when workers are killed.

``python -m benchmarks.workers --trials 80 --seconds 2 --kills 100 --yolobench yolobench.parquet``

Speed: 1, 4 and 8 processes share a study in a journal file until it has ``--trials`` candidates, each of which takes
``--seconds`` (asleep, as if a GPU were busy). Efficiency is the time of one worker over the number of workers times
their time, from when all are ready to when all have ended. Kills: four workers; one is killed (``kill -9``) at a
random moment and replaced, until ``--kills`` are reached. Counted: evaluations that were begun and never recorded,
candidates that were recorded twice, candidates that are missing at the end. Quality: on YOLOBench (COCO x A40) the
share of the true front's hypervolume when always 1, 4 or 8 candidates are pending, over seeds.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import optuna

from benchmarks.record import Goal, write
from nas.core.estimate import Estimate
from nas.estimators.base import Context, Estimator
from nas.search.optuna_compat import storage_of
from nas.search.study import Study
from search_spaces.architecture import Architecture
from search_spaces.spaces import SPACES

ROOT = Path(__file__).resolve().parents[1]
SPACE = SPACES["yolo-nano"]
NAME = "shared"


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

    name, unit, direction, rank = "score", "", "max", 2
    folder: Path
    seconds: float

    def __call__(self, architecture: Architecture) -> Estimate:
        note(self.folder / "begun", architecture.id)
        time.sleep(self.seconds)
        note(self.folder / "ended", architecture.id)
        return Estimate(self.name, size_of(architecture) ** 0.5 + int(architecture.id[:4], 16) / 2**19, source="table")


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
    """The study that all of them work on."""
    return Study(
        storage, NAME, SPACE, [kind(Context(SPACE, 3)).objective() for kind in (MadeUpLatency, Slow)], sampler, seed
    )


def work(folder: Path, storage: Path | str, trials: int, seconds: float, sampler: str) -> None:
    """A worker's program: it says that it is ready, waits for its start, and works."""
    slow = Slow(Context(SPACE, 3))
    slow.folder, slow.seconds = folder, seconds
    study = open_shared(storage, sampler)
    note(folder / "ready", study.worker)
    print("ready", flush=True)
    sys.stdin.readline()
    study.run((MadeUpLatency(Context(SPACE, 3)), slow), trials)


def start(
    folder: Path, storage: Path | str, trials: int, seconds: float, sampler: str = "random"
) -> subprocess.Popen[bytes]:
    """A worker as a process; :func:`go` lets it begin."""
    given = f"Path({str(storage)!r})" if isinstance(storage, Path) else repr(storage)
    program = f"from pathlib import Path; from benchmarks.workers import work; work(Path({str(folder)!r}), {given}, {trials}, {seconds}, {sampler!r})"
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def go(worker: subprocess.Popen[bytes]) -> None:
    """Wait until it is ready, and let it begin."""
    assert worker.stdin is not None and worker.stdout is not None
    assert worker.stdout.readline() == b"ready\n", "a worker could not start"
    worker.stdin.close()


def tally(folder: Path, storage: Path | str) -> dict[str, int]:
    """What became of it: candidates of the study, evaluations that were begun and not recorded, candidates that are in
    the study twice."""
    ids = [c.id for c in open_shared(storage).candidates]
    begun, ended = Counter(read(folder / "begun")), Counter(read(folder / "ended"))
    assert set(ids) <= set(ended)
    recorded_again = optuna.load_study(study_name=NAME, storage=storage_of(open_shared(storage)._study)).get_trials(
        deepcopy=False
    )
    recorded = Counter(
        t.user_attrs["candidate"]["architecture"]["id"] for t in recorded_again if "candidate" in t.user_attrs
    )
    return {
        "candidates": len(ids),
        "lost": sum(begun.values()) - len(ids),
        "told_twice": sum(recorded.values()) - len(recorded),
    }


def seconds_of(workers: int, trials: int, seconds: float, sampler: str) -> float:
    """Wall time of that many workers until all have ended."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        storage = folder / "study.journal"
        processes = [start(folder, storage, trials, seconds, sampler) for _ in range(workers)]
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        began = time.perf_counter()
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        assert [p.wait() for p in processes] == [0] * workers
        took = time.perf_counter() - began
        found = tally(folder, storage)
        assert found == {"candidates": trials, "lost": 0, "told_twice": 0}, found
    return took


def killed(
    folder: Path, storage: Path | str, kills: int, trials: int, seconds: float, seed: int, workers: int = 4
) -> dict[str, int]:
    """Kill one, start another, until it was enough; then let them end."""
    rng = random.Random(seed)
    open_shared(storage)  # SQLite: one process makes the tables
    processes = [start(folder, storage, trials, seconds) for _ in range(workers)]
    for process in processes:
        go(process)
    for i in range(kills):
        time.sleep(rng.uniform(0, 10 * seconds))
        unlucky = processes[i % workers]
        unlucky.send_signal(signal.SIGKILL)
        unlucky.wait()
        processes[i % workers] = start(folder, storage, trials, seconds)
        go(processes[i % workers])
    assert [p.wait() for p in processes] == [0] * workers
    return {"kills": kills, "wanted": trials, **tally(folder, storage)}


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
    """Efficiency with 4 workers; at most one evaluation lost per kill, none recorded twice, none missing."""
    goals = []
    if (four := figure["efficiency"].get("4")) is not None:
        goals.append(Goal("parallel efficiency of 4 workers on one study", four, f">= {figure['goal']:g}", "share"))
    if kills := figure.get("kills"):
        goals += [
            Goal(f"evaluations lost when {kills['kills']} workers are killed", kills["lost"], f"<= {kills['kills']}"),
            Goal(f"candidates recorded twice when {kills['kills']} workers are killed", kills["told_twice"], "<= 0"),
            Goal(
                f"candidates recorded in the end when {kills['kills']} workers are killed",
                kills["candidates"],
                f">= {kills['wanted']}",
            ),
        ]
    return goals


def main() -> None:
    """Time, kill, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=80)
    parser.add_argument("--seconds", type=float, default=2.0, help="of an evaluation")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[1, 4, 8], help="the first is what the others are compared with"
    )
    parser.add_argument("--sampler", default="guided")
    parser.add_argument("--kills", type=int, default=100)
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
        "goal": 0.85,
    }
    if args.kills:
        with tempfile.TemporaryDirectory() as folder:
            figure["kills"] = killed(
                Path(folder), Path(folder) / "study.journal", args.kills, 8 * args.kills, 0.1, seed=0
            )
        print(figure["kills"], flush=True)
    if args.yolobench:
        figure["share_of_hypervolume"] = quality(args.yolobench, args.seeds)
    write("workers", figure, goals_of(figure), seeds=range(args.seeds))


if __name__ == "__main__":
    main()
