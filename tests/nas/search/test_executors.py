"""Executors of several workers: everything wanted is evaluated once, in rungs, and lost workers are replaced."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kills import killed
from nas.core.estimate import Estimate
from nas.estimators.base import Context, Estimator
from nas.search.executors import pool
from nas.search.executors.local import LocalExecutor
from nas.search.executors.pool import PoolExecutor, RunnerHere, Worker, WorkerLost
from nas.search.study import Study
from nas.search.tasks import Step, Task, TaskRunner
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from tests._fakes import FakeLatency, FakeScore, numbers_of, tiny_space

TINY = tiny_space()
CONTEXT = Context(TINY, 3)
SMALLEST, LARGEST = TINY.smallest, TINY.largest


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal syncs every record; what a kill leaves is the matter of test_kill.py."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class OnDevice(FakeLatency):
    role = "device"


class InRungs(FakeScore):
    """The gain, after an early estimate."""

    role = "compute"

    def rungs(self, architecture: Architecture) -> Iterator[Estimate]:
        self.asked.append(architecture.id)
        yield Estimate("score@10", numbers_of(architecture)[1])
        self.before(architecture)
        yield Estimate(self.name, numbers_of(architecture)[1])


def study_of(folder: Path, sampler: str = "random") -> Study:
    return Study(folder / "study.journal", "run", TINY, [OnDevice.objective(), InRungs.objective()], sampler)


@contextmanager
def open_score(number: int) -> Iterator[list[Estimator]]:
    yield [InRungs(CONTEXT)]


@contextmanager
def open_nothing(number: int) -> Iterator[list[Estimator]]:
    raise InputError("no data set here")
    yield []


@contextmanager
def open_broken(number: int) -> Iterator[list[Estimator]]:
    raise RuntimeError("CUDA out of memory\nand a second line")
    yield []


def die(architecture: Architecture) -> None:
    os._exit(7)


@contextmanager
def open_deadly(number: int) -> Iterator[list[Estimator]]:
    """A network that ends the process which evaluates it."""
    score = InRungs(CONTEXT)
    score.before = lambda a: die(a) if a == LARGEST else None
    yield [score]


class Threads(PoolExecutor):
    """Workers as threads, so that a test sees what they do."""

    def __init__(self, device: list[Estimator], workers: list[Worker]) -> None:
        super().__init__(device, lambda number: workers[number], len(workers))


# steps


def test_a_step_repeats_those_before_it_on_another_worker() -> None:
    task = Task(1, "compute", ("score",), SMALLEST)
    runner = TaskRunner([InRungs(CONTEXT)])
    early, final = runner.step(task, 0), runner.step(task, 1)
    assert early.estimate is not None and early.estimate.name == "score@10"
    assert TaskRunner([InRungs(CONTEXT)]).step(task, 1).estimate == final.estimate
    assert runner.step(task, 2).error == "no final estimate of score"


@pytest.mark.parametrize(
    ("error", "message"),
    [(InputError("map is nan", "a number"), "map is nan; expected a number"), (ValueError("odd"), "ValueError: odd")],
)
def test_the_kind_of_an_error_is_named_unless_it_is_bad_input(error: Exception, message: str) -> None:
    class Failing(InRungs):
        def rungs(self, architecture: Architecture) -> Iterator[Estimate]:
            raise error

    assert TaskRunner([Failing(CONTEXT)]).step(Task(1, "compute", ("score",), SMALLEST), 0).error == message


# the pool


def test_latency_and_accuracy_overlap_and_each_device_has_one_task_at_a_time(tmp_path: Path) -> None:
    busy: dict[str, int] = {"device": 0, "compute": 0}
    most: dict[str, int] = {"device": 0, "compute": 0, "both": 0}
    lock = threading.Lock()

    def use(role: str) -> Any:
        def work(architecture: Architecture) -> None:
            with lock:
                busy[role] += 1
                most[role] = max(most[role], busy[role])
                most["both"] = max(most["both"], sum(busy.values()))
            time.sleep(0.01)
            with lock:
                busy[role] -= 1

        return work

    latency, score = OnDevice(CONTEXT, use("device")), InRungs(CONTEXT, use("compute"))
    executor = Threads([latency], [RunnerHere([score])])
    study = study_of(tmp_path)
    study.run([latency, score], 20, executor=executor)
    executor.close()
    assert most == {"device": 1, "compute": 1, "both": 2}
    assert len(latency.asked) == len(set(latency.asked)) == len(score.asked) == len(study.candidates) == 20
    assert [(c["latency_ms"].value, c["score"].value) for c in study.candidates] == [
        numbers_of(c.architecture) for c in study.candidates
    ]


def test_pending_candidates_count_in_proposals(tmp_path: Path) -> None:
    """While one is evaluated, others are asked for, and never the same."""
    scores = [InRungs(CONTEXT, lambda a: time.sleep(0.005)) for _ in range(3)]
    latency = OnDevice(CONTEXT)
    executor = Threads([latency], [RunnerHere([score]) for score in scores])
    study = study_of(tmp_path)
    study.run([latency, scores[0]], TINY.size, executor=executor)
    executor.close()
    asked = [id_ for score in scores for id_ in score.asked]
    assert sorted(asked) == sorted(a.id for a in TINY.enumerate()) and len(study.candidates) == TINY.size


class Mortal(Worker):
    """Ends at its ``at``-th step, and lives for ever when it is opened again."""

    def __init__(self, at: int) -> None:
        self._runner, self._left = TaskRunner([InRungs(CONTEXT)]), at

    def step(self, task: Task, number: int) -> Step:
        self._left -= 1
        if self._left == 0:
            self._runner = TaskRunner([InRungs(CONTEXT)])
            raise WorkerLost
        return self._runner.step(task, number)

    def close(self) -> None:
        return


@pytest.mark.parametrize("at", [1, 2, 5])
def test_a_lost_worker_is_replaced_and_its_candidate_evaluated(at: int, tmp_path: Path) -> None:
    latency = OnDevice(CONTEXT)
    executor = Threads([latency], [Mortal(at), Mortal(3)])
    study = study_of(tmp_path)
    study.run([latency, InRungs(CONTEXT)], 12, executor=executor)
    executor.close()
    assert len(study.candidates) == 12 and study.failures == []


def test_an_interruption_gives_back_everything_in_flight(tmp_path: Path) -> None:
    latency, score = OnDevice(CONTEXT), InRungs(CONTEXT)
    executor = Threads([latency], [RunnerHere([score])])
    results: list[Step] = []

    def interrupted() -> Step | None:
        if len(results) == 9:
            raise KeyboardInterrupt
        if (step := PoolExecutor.result(executor)) is not None:
            results.append(step)
        return step

    executor.result = interrupted  # type: ignore[method-assign, assignment]
    study = study_of(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        study.run([latency, score], 12, executor=executor)
    executor.close()
    done = {c.id for c in study.candidates}
    again = study_of(tmp_path)
    in_flight = [again.parameters.claim(t) for t in again.history.open.values()]
    assert 1 <= len(in_flight) <= 3
    latency, score = OnDevice(CONTEXT), InRungs(CONTEXT)
    again.run([latency, score], 12)
    assert latency.asked[: len(in_flight)] == in_flight and not done & set(latency.asked)
    assert len(again.candidates) == 12


# processes


def test_a_process_evaluates_in_rungs_and_a_deadly_candidate_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "LOSSES", 2)
    latency = OnDevice(CONTEXT)
    executor = LocalExecutor([latency], open_deadly, 1)
    study = study_of(tmp_path)
    study.run([latency, InRungs(CONTEXT)], 4, executor=executor)
    executor.close()
    assert study.failures == [(LARGEST.id, "2 workers ended while they evaluated it")]
    assert len(study.candidates) == 3
    assert all(list(r.early) == ["score@10"] for i, r in study.history.records.items() if i != LARGEST.id)


def test_a_worker_that_cannot_open_is_one_line(tmp_path: Path) -> None:
    executor = LocalExecutor([], open_nothing, 1)
    with pytest.raises(InputError, match="worker 0: no data set here"):
        study_of(tmp_path).run([FakeLatency(CONTEXT), InRungs(CONTEXT)], 4, executor=executor)
    executor.close()
    executor = LocalExecutor([], open_broken, 1)
    with pytest.raises(InputError, match="worker 0: RuntimeError: CUDA out of memory"):
        study_of(tmp_path).run([FakeLatency(CONTEXT), InRungs(CONTEXT)], 4, executor=executor)
    executor.close()
    with pytest.raises(InputError, match="0 workers"):
        LocalExecutor([], open_nothing, 0)


def test_workers_are_killed_at_random_moments(tmp_path: Path) -> None:
    found = killed(tmp_path, tmp_path / "study.journal", kills=2, trials=12, seconds=0.05, seed=1, workers=2)
    assert found["candidates"] == 12 and found["told_twice"] == 0 and 0 <= found["lost"] <= 2


@pytest.mark.slow
def test_fifty_workers_are_killed_at_random_moments(tmp_path: Path) -> None:
    found = killed(tmp_path, tmp_path / "study.journal", kills=50, trials=600, seconds=0.05, seed=2)
    assert found["candidates"] == 600 and found["told_twice"] == 0 and 0 <= found["lost"] <= 50
