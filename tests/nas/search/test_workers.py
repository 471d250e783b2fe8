"""One study, many workers: nothing is evaluated twice, nothing waits for the dead."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from nas.estimators.base import Context
from nas.search.heartbeat import GRACE_S, LEFT, PREFIX, UNSIGNED_S, Heartbeat, WorkerMonitor, workers
from nas.search.study import Study
from search_spaces.errors import InputError
from tests._fakes import FakeLatency, FakeScore, tiny_space
from tests._workers import counted, go, killed, open_shared, read, start

TINY = tiny_space()
OBJECTIVES = [FakeLatency(Context(TINY, 3)).objective(), FakeScore(Context(TINY, 3)).objective()]


def fakes(*wait: Any) -> tuple[FakeLatency, FakeScore]:
    return FakeLatency(Context(TINY, 3)), FakeScore(Context(TINY, 3), *wait)


def storage_of(kind: str, folder: Path) -> Path | str:
    return folder / "study.journal" if kind == "journal" else f"sqlite:///{folder / 'study.db'}"


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_four_processes_share_a_study(kind: str, tmp_path: Path) -> None:
    storage = storage_of(kind, tmp_path)
    open_shared(storage)  # SQLite: one process makes the tables
    processes = [start(tmp_path, storage, 16, 0.1, "guided" if kind == "journal" else "random") for _ in range(4)]
    for process in processes:
        go(process)
    assert [p.wait(120) for p in processes] == [0] * 4
    counted(tmp_path, storage, 16)
    study = open_shared(storage)
    assert {t.user_attrs["worker"] for t in study._study.trials} == set(read(tmp_path / "ready"))
    assert workers(study._study.user_attrs) == []


def test_kills_at_random_moments(tmp_path: Path) -> None:
    storage = tmp_path / "study.journal"
    killed(tmp_path, storage, kills=4, trials=60, seconds=0.05, seed=1)
    counted(tmp_path, storage, 60, kills=4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_fifty_kills_at_random_moments(kind: str, tmp_path: Path) -> None:
    storage = storage_of(kind, tmp_path)
    killed(tmp_path, storage, kills=50, trials=600, seconds=0.05, seed=2)
    counted(tmp_path, storage, 600, kills=50)


def test_the_same_proposals_at_the_same_time_are_evaluated_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads whose samplers draw the same numbers, over a space that they see whole."""
    monkeypatch.setattr("nas.search.study.STREAM", 0)
    monkeypatch.setattr("nas.search.study.LOOK_S", 0.05)
    monkeypatch.setattr("nas.search.trial_queue.LOOK_S", 0.05)
    begun: list[str] = []
    storage = tmp_path / "study.journal"
    studies = [Study(storage, "run", TINY, OBJECTIVES, "random", seed=3) for _ in range(4)]

    def slow(architecture: Any) -> None:
        begun.append(architecture.id)
        time.sleep(0.01)

    threads = [threading.Thread(target=study.run, args=(fakes(slow), 200)) for study in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert len(begun) == len(set(begun)) == TINY.size
    assert all(len(study.candidates) == TINY.size for study in studies)


def test_what_a_dead_worker_had_in_hand_is_evaluated_by_another(tmp_path: Path) -> None:
    lost = Study(tmp_path / "study.journal", "run", TINY, OBJECTIVES, "random")
    taken = lost.queue.take(10)
    assert taken is not None
    architecture = taken.point
    other = Study(tmp_path / "study.journal", "run", TINY, OBJECTIVES, "random", seed=1)
    latency, score = fakes()
    other.run((latency, score), 5)
    assert architecture.id in score.asked and len(set(score.asked)) == len(score.asked) == 5


def test_a_worker_that_was_taken_for_dead_loses_its_result_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stopped for minutes; when it wakes, another has its candidate."""
    study = Study(tmp_path / "study.journal", "run", TINY, OBJECTIVES, "random")
    other = Study(tmp_path / "study.journal", "run", TINY, OBJECTIVES, "random", seed=1)
    robbed: list[str] = []

    def sleep(architecture: Any) -> None:
        if not robbed:
            robbed.append(architecture.id)
            monkeypatch.setattr(other.queue.monitor, "alive", lambda *about: False)
            other.queue.sync()
            other.queue.recover()

    study.run(fakes(sleep), 6)
    assert robbed[0] in {c.id for c in study.candidates} and len(study.candidates) == 6
    states = [t.state for t in study._study.trials if t.user_attrs.get("architecture") == robbed[0]]
    assert sorted(s.name for s in states) == ["COMPLETE", "FAIL"]


def test_more_workers_than_work_end(tmp_path: Path) -> None:
    study = Study(tmp_path / "study.journal", "run", TINY, OBJECTIVES, "guided")
    study.run(fakes(), 3)
    again = Study(tmp_path / "study.journal", "run", TINY, OBJECTIVES, "guided")
    latency, score = fakes()
    again.run((latency, score), 3)
    assert score.asked == [] and len(again.candidates) == 3


def test_workers_elsewhere_are_judged_by_their_beats() -> None:
    now = [0.0]
    watcher = WorkerMonitor("here:1:a", now=lambda: now[0])
    beats: dict[str, Any] = {PREFIX + "far:7:b": 0}
    assert watcher.alive("far:7:b", beats) and watcher.alive("here:1:a", beats)
    now[0] = GRACE_S - 1
    beats[PREFIX + "far:7:b"] = 4
    assert watcher.alive("far:7:b", beats)
    now[0] += GRACE_S - 1
    assert watcher.alive("far:7:b", beats)
    now[0] += 2
    assert not watcher.alive("far:7:b", beats)
    beats[PREFIX + "far:8:c"] = LEFT
    assert not watcher.alive("far:8:c", beats)


def test_an_unsigned_trial_is_waited_for_only_while_others_live() -> None:
    now = [0.0]
    watcher = WorkerMonitor("here:1:a", now=lambda: now[0])
    assert not watcher.alive(None, {PREFIX + "here:1:a": 3}, trial=5)
    beats = {PREFIX + "far:7:b": 0}
    assert watcher.alive(None, beats, trial=5)
    now[0] = UNSIGNED_S + 1
    assert not watcher.alive(None, beats, trial=5) and watcher.alive(None, beats, trial=6)


def test_a_heart_beats_until_it_is_left() -> None:
    study = optuna.create_study()
    with Heartbeat(study, "w", every_s=0.01):
        time.sleep(0.2)
        assert study.user_attrs[PREFIX + "w"] > 2 and workers(study.user_attrs) == ["w"]
    assert study.user_attrs[PREFIX + "w"] == LEFT


def test_interrupted_and_repeated_trials_are_no_failures_to_the_sampler(tmp_path: Path) -> None:
    from nas.search.samplers.history import _interrupted

    study = Study(tmp_path / "study.journal", "run", TINY, OBJECTIVES, "guided")
    study.queue.take(9)
    other = Study(tmp_path / "study.journal", "run", TINY, OBJECTIVES, "guided")
    other.run(fakes(), 4)
    failed = [t for t in other._study.trials if t.state == TrialState.FAIL]
    assert failed and all(_interrupted(t) for t in failed)


def test_a_storage_that_cannot_be_is_one_line() -> None:
    with pytest.raises(InputError, match="grpc://HOST:PORT"):
        open_shared("grpc://nowhere")


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_proxy_of_optuna(tmp_path: Path) -> None:
    """``grpc://``: the study is in a file that only the proxy opens."""
    pytest.importorskip("grpc", reason="pip install grpcio")
    import socket

    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    behind = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    server = threading.Thread(
        target=optuna.storages.run_grpc_proxy_server,
        args=(behind,),
        kwargs={"host": "localhost", "port": port},
        daemon=True,
    )
    server.start()
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("localhost", port)) == 0:
                break
        time.sleep(0.1)
    url = f"grpc://localhost:{port}"
    study = Study(url, "run", TINY, OBJECTIVES, "random")
    study.run(fakes(), 5)
    assert len(Study(url, "run", TINY, OBJECTIVES, "random").candidates) == 5
