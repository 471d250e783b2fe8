"""Workers of one study as processes: each notes what it begins and ends, so that a test can count, and may be killed at any moment."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from nas.estimators.base import Context
from nas.study import Study
from search_spaces.architecture import Architecture
from search_spaces.spaces import SPACES
from tests._fakes import FakeLatency, FakeScore

ROOT = Path(__file__).resolve().parents[1]
SPACE = SPACES["yolo-nano"]
NAME = "shared"


def note(path: Path, text: str) -> None:
    with path.open("ab") as file:  # short lines that are appended come out whole
        file.write(f"{text}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def open_shared(storage: Path | str, sampler: str = "random", seed: int = 0) -> Study:
    objectives = [estimator(Context(SPACE, 3)).objective() for estimator in (FakeLatency, FakeScore)]
    return Study(storage, NAME, SPACE, objectives, sampler, seed)


def work(folder: Path, storage: Path | str, trials: int, seconds: float, sampler: str = "random") -> None:
    """The program of a worker."""

    def slow(architecture: Architecture) -> None:
        note(folder / "begun", architecture.id)
        time.sleep(seconds)
        note(folder / "ended", architecture.id)

    study = open_shared(storage, sampler)
    note(folder / "ready", study.worker)
    print("ready", flush=True)  # noqa: T201 - to the test
    study.run((FakeLatency(Context(SPACE, 3)), FakeScore(Context(SPACE, 3), slow)), trials)


def start(folder: Path, storage: Path | str, trials: int, seconds: float, sampler: str = "random") -> subprocess.Popen[bytes]:
    given = f"Path({str(storage)!r})" if isinstance(storage, Path) else repr(storage)
    program = f"from pathlib import Path; from tests._workers import work; work(Path({str(folder)!r}), {given}, {trials}, {seconds}, {sampler!r})"
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)


def counted(folder: Path, storage: Path | str, trials: int, kills: int = 0) -> None:
    """What has to be true at the end, whatever happened: as many candidates as were asked for, each told once, one evaluation lost per kill at most."""
    study = open_shared(storage)
    ids = [c.id for c in study.candidates]
    begun, ended = Counter(read(folder / "begun")), Counter(read(folder / "ended"))
    assert len(ids) == len(set(ids)) == trials
    assert set(ids) <= set(ended)
    assert sum(begun.values()) - trials <= kills, "an evaluation was begun again without a kill, or one too many was begun"
    twice = sum(ended.values()) - len(ended)
    assert twice <= kills  # killed after its end, before it was told
