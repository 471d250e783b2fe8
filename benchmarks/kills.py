"""What a search loses when its workers or its driver are killed.

``python -m benchmarks.kills --kills 100 --driver-kills 30``

Workers: four local workers; one is killed (``kill -9``) at a random moment, until ``--kills`` are reached. Driver: it is
killed at a random moment and the search resumed, ``--driver-kills`` times, once with two workers and once without
workers (inline). Counted: evaluations that were begun and never recorded, candidates that were recorded twice,
candidates that are missing in the end. The search without workers is compared with one that nothing interrupts: the
same candidates in the same order, the same front.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.record import Goal, write
from benchmarks.workers import SPACE, MadeUpLatency, drive, open_shared, read, slow, tally
from nas.estimators.base import Context

ROOT = Path(__file__).resolve().parents[1]


def killed(
    folder: Path, storage: Path | str, kills: int, trials: int, seconds: float, seed: int, workers: int = 4
) -> dict[str, int]:
    """Kill one worker after the other while the search runs; then let it end."""
    rng, done = random.Random(seed), threading.Event()

    def kill() -> None:
        for _ in range(kills):
            if not kill_one(folder, rng, seconds, done):
                return

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    drive(folder, storage, workers, trials, seconds)
    done.set()
    killer.join()
    return {"kills": kills, "wanted": trials, **tally(folder, storage)}


def kill_one(folder: Path, rng: random.Random, seconds: float, done: threading.Event) -> bool:
    """Kill a worker at a random moment, after another evaluation has ended; return False if the search ended first."""
    before, latest = len(read(folder / "ended")), rng.uniform(0, 4 * seconds)
    while not done.wait(0.01):
        if len(read(folder / "ended")) > before:
            done.wait(latest)
            latest = 0.0
            if workers := [pid for pid in map(int, read(folder / "ready")) if is_running(pid)]:
                os.kill(rng.choice(workers), signal.SIGKILL)
                return True
    return False


def is_running(pid: int) -> bool:
    """Return whether a process runs, and is not only left over for its parent to take notice of."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def drive_inline(folder: Path, trials: int, seconds: float) -> None:
    """Search without workers, with the default sampler."""
    estimators = (MadeUpLatency(Context(SPACE, 3)), slow(folder, seconds))
    open_shared(folder / "study.journal", "guided").run(estimators, trials)


def driver_killed(folder: Path, call: str, kills: int, seconds: float, seed: int) -> None:
    """Kill the driver at random moments and resume the search; then let it end.

    Args:
        folder: Where evaluations are noted.
        call: A call of :func:`benchmarks.workers.drive` or :func:`drive_inline`.
        kills: Number of kills.
        seconds: Of an evaluation.
        seed: Seed of the moments.
    """
    rng = random.Random(seed)
    imports = "from pathlib import Path; from benchmarks.kills import drive, drive_inline"
    command = [sys.executable, "-c", f"{imports}; {call}"]
    for left in range(kills, -1, -1):
        begun, driver = len(read(folder / "begun")), subprocess.Popen(command, cwd=ROOT)
        while left and driver.poll() is None and len(read(folder / "begun")) == begun:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 4 * seconds) if left else 0)
        if left:
            driver.kill()
        status = driver.wait()
        assert left or status == 0, "the search did not end by itself"


def driver_with_workers(kills: int, trials: int, seconds: float, workers: int = 2) -> dict[str, int]:
    """Kill the driver of a search with local workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        storage = folder / "study.journal"
        call = f"drive(Path({name!r}), Path({str(storage)!r}), {workers}, {trials}, {seconds})"
        driver_killed(folder, call, kills, seconds, 0)
        return {"kills": kills, "wanted": trials, "workers": workers, **tally(folder, storage)}


def driver_inline(kills: int, trials: int, seconds: float) -> dict[str, int]:
    """Kill the driver of a search without workers, and compare the search with one that nothing interrupts."""
    with tempfile.TemporaryDirectory() as killed_one, tempfile.TemporaryDirectory() as whole_one:
        call = f"drive_inline(Path({killed_one!r}), {trials}, {seconds})"
        driver_killed(Path(killed_one), call, kills, seconds, 1)
        drive_inline(Path(whole_one), trials, 0.0)
        mine, whole = (open_shared(Path(f) / "study.journal", "guided") for f in (killed_one, whole_one))
        same = sum(a.id == b.id for a, b in zip(mine.candidates, whole.candidates, strict=True))
        fronts = [{c.id for c in study.archive.front} for study in (mine, whole)]
        found = tally(Path(killed_one), Path(killed_one) / "study.journal")
        differing = {"other_candidates": trials - same, "other_front": len(fronts[0] ^ fronts[1])}
        return {"kills": kills, "wanted": trials, "front": len(fronts[1]), **found, **differing}


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """At most one evaluation lost per kill of a worker, and what was in flight per kill of the driver; none recorded
    twice, none missing; without workers, the candidates and the front of the uninterrupted search."""
    goals = []
    for key, who, at_most in (
        ("workers", "{} workers are killed", 1),
        ("driver", "the driver of two workers is killed {} times", 3),
        ("inline", "the driver without workers is killed {} times", 1),
    ):
        if (found := figure.get(key)) is None:
            continue
        when = who.format(found["kills"])
        goals += [
            Goal(f"evaluations lost when {when}", found["lost"], f"<= {at_most * found['kills']}"),
            Goal(f"candidates recorded twice when {when}", found["told_twice"], "<= 0"),
            Goal(f"candidates recorded in the end when {when}", found["candidates"], f">= {found['wanted']}"),
        ]
        if key == "inline":
            than = f"than the uninterrupted search, when {when}"
            goals += [
                Goal(f"other candidates {than}", found["other_candidates"], "<= 0"),
                Goal(f"other members of the front {than}", found["other_front"], "<= 0"),
            ]
    return goals


def main() -> None:
    """Kill, count, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of workers")
    parser.add_argument("--driver-kills", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=0.1, help="of an evaluation")
    args = parser.parse_args()
    figure: dict[str, Any] = {"seconds_of_an_evaluation": args.seconds}
    if args.kills:
        with tempfile.TemporaryDirectory() as name:
            storage = Path(name) / "study.journal"
            figure["workers"] = killed(Path(name), storage, args.kills, 8 * args.kills, args.seconds, seed=0)
        print(figure["workers"], flush=True)
    if args.driver_kills:
        figure["driver"] = driver_with_workers(args.driver_kills, 8 * args.driver_kills, args.seconds)
        print(figure["driver"], flush=True)
        figure["inline"] = driver_inline(args.driver_kills, 4 * args.driver_kills, args.seconds)
        print(figure["inline"], flush=True)
    write("kills", figure, goals_of(figure))


if __name__ == "__main__":
    main()
