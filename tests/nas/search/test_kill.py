"""``kill -9`` at random moments of a search: at most the running candidate is lost each time, nothing that was
recorded is evaluated again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from nas.estimators.base import Context
from nas.search.study import Study
from nas.search.study_reader import read_candidates
from search_spaces.architecture import Architecture
from search_spaces.spaces import SPACES
from tests._fakes import FakeLatency, FakeScore

ROOT = Path(__file__).resolve().parents[3]
SPACE = SPACES["yolo-nano"]
ESTIMATE_S = 0.03


def search(folder: Path, trials: int) -> None:
    """The program that gets killed: it says that it is ready, searches, and notes every architecture before and after
    its evaluation."""

    def note(name: str, text: str) -> None:
        with (folder / name).open("ab") as file:
            file.write(f"{text}\n".encode())
            file.flush()
            os.fsync(file.fileno())

    def slow(architecture: Architecture) -> None:
        note("evaluated", architecture.id)
        time.sleep(ESTIMATE_S)

    estimators = (FakeLatency(Context(SPACE, 3)), FakeScore(Context(SPACE, 3), slow))
    study = Study(
        folder / "study.journal",
        "run",
        SPACE,
        [e.objective() for e in estimators],
        "nsga2",
    )
    print("ready", flush=True)  # noqa: T201 - to the test
    study.run(estimators, trials, lambda event: note("told", event.candidate.id if event.candidate else event.message))


def read(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def start(folder: Path, trials: int) -> subprocess.Popen[bytes]:
    program = f"from pathlib import Path; from tests.nas.search.test_kill import search; search(Path({str(folder)!r}), {trials})"
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    return process


def survives(folder: Path, kills: int, seed: int) -> None:
    """``kills`` times: start or go on, kill at a random moment of a random candidate; then to the end, and count."""
    rng = random.Random(seed)
    done, told_before = 0, 0
    for _ in range(kills):
        process = start(folder, 10_000)
        time.sleep(rng.uniform(0, 0.5))  # mid estimate, mid record, between two: everything comes up
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        told = read(folder / "told")
        recorded = (
            {c.id for c in read_candidates(folder / "study.journal", "run")}
            if (folder / "study.journal").exists()
            else set()
        )
        assert set(told) <= recorded, "a candidate that was reported is not in the journal"
        assert len(told) >= told_before
        done, told_before = max(done, len(recorded)), len(told)
    trials = done + 5
    process = start(folder, trials)
    assert process.wait(60) == 0

    candidates = [c.id for c in read_candidates(folder / "study.journal", "run")]
    evaluated = Counter(read(folder / "evaluated"))
    assert len(candidates) == len(set(candidates))
    assert len(candidates) == trials
    assert set(candidates) == set(evaluated), "an interrupted candidate was not asked for again"
    assert sum(evaluated.values()) - len(evaluated) <= kills
    assert max(evaluated.values()) <= 1 + kills
    assert max(Counter(read(folder / "told")).values()) == 1

    (folder / "whole").mkdir()
    assert start(folder / "whole", trials).wait(60) == 0
    assert [c.id for c in read_candidates(folder / "whole" / "study.journal", "run")] == candidates, (
        "kills changed the search"
    )


def test_six_kills_at_random_moments(tmp_path: Path) -> None:
    survives(tmp_path, 6, seed=1)


@pytest.mark.slow
def test_twenty_kills_at_random_moments(tmp_path: Path) -> None:
    survives(tmp_path, 20, seed=2)


def test_a_killed_writer_leaves_no_lock_behind(tmp_path: Path) -> None:
    """The worst moment: the lock is held, half a line is written."""
    assert start(tmp_path, 3).wait(60) == 0
    whole = (tmp_path / "study.journal").read_bytes()
    program = f"""
import os, time
from pathlib import Path
from nas.search.storage import KernelLock
path = Path({str(tmp_path / "study.journal")!r})
KernelLock(path).acquire()
with path.open("ab") as file:
    file.write(b'{{"op_code": 4, "wor')
print("ready", flush=True)
time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"ready\n"
    holder.kill()
    holder.wait()
    assert (tmp_path / "study.journal").read_bytes() != whole
    process = start(tmp_path, 6)
    assert process.wait(20) == 0  # Optuna's own locks would make it wait 30 s
    assert len(list(read_candidates(tmp_path / "study.journal", "run"))) == 6
