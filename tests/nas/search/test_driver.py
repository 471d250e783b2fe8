"""One driver per study: a second one is refused, a dead one is replaced, and what it left is asked again first."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from nas.estimators.base import Context
from nas.search import driver
from nas.search.driver import DRIVER, DriverRecord, lock_file
from nas.search.samplers.history import _interrupted
from nas.search.study import Study
from nas.search.study_history import INTERRUPTED
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from tests._fakes import FakeLatency, FakeScore, tiny_space

ROOT = Path(__file__).resolve().parents[3]
TINY = tiny_space()
OBJECTIVES = [FakeLatency.objective(), FakeScore.objective()]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal syncs every record; what a kill leaves is the matter of test_kill.py."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def fakes(*before: Any) -> tuple[FakeLatency, FakeScore]:
    return FakeLatency(Context(TINY, 3)), FakeScore(Context(TINY, 3), *before)


def storage_of(kind: str, folder: Path) -> Path | str:
    return folder / "study.journal" if kind == "journal" else f"sqlite:///{folder / 'study.db'}"


def opened(storage: Path | str, sampler: str = "random", **more: Any) -> Study:
    return Study(storage, "run", TINY, OBJECTIVES, sampler, **more)


# the lock of a file


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_second_driver_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    storage = storage_of(kind, tmp_path)
    other = opened(storage)

    def second(architecture: Architecture) -> None:
        with pytest.raises(InputError, match="process .* searches in the study 'run'.*--workers") as error:
            other.run(fakes(), 5)
        assert "\n" not in str(error.value)

    opened(storage).run(fakes(second), 3)
    other.run(fakes(), 5)  # the first has left
    assert len(other.candidates) == 5


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    storage = tmp_path / "study.journal"
    program = f"""
import time
from pathlib import Path
from tests.nas.search.test_driver import opened
with opened(Path({str(storage)!r})).driver:
    print("held", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    study = opened(storage)
    with pytest.raises(InputError, match=f"process {holder.pid} on"):
        study.run(fakes(), 3)
    holder.kill()
    holder.wait()
    study.run(fakes(), 3)
    assert len(study.candidates) == 3


def test_where_the_lock_is(tmp_path: Path) -> None:
    assert lock_file(tmp_path / "study.journal") == tmp_path / ".study.journal.driver"
    assert lock_file(f"sqlite:///{tmp_path}/a.db") == Path(f"{tmp_path}/.a.db.driver")
    assert lock_file("postgresql://nas@db/studies") is None and lock_file("grpc://db:1") is None


# the record in a database


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An SQLite file that is treated as a database server is."""
    monkeypatch.setattr(driver, "SETTLE_S", 0.0)
    monkeypatch.setattr(driver, "lock_file", lambda storage: None)
    return f"sqlite:///{tmp_path / 'study.db'}"


def test_a_database_keeps_a_record_of_its_driver(database: str) -> None:
    study, other = opened(database), opened(database)
    with study.driver:
        record = DriverRecord(**study._study.user_attrs[DRIVER])
        assert replace(DriverRecord.own(), nonce=record.nonce) == record and not record.ended
        with pytest.raises(InputError, match="searches in the study 'run'.*--take-over"):
            other.run(fakes(), 3)
    assert study._study.user_attrs[DRIVER] == {}
    other.run(fakes(), 3)
    assert len(other.candidates) == 3


ELSEWHERE = DriverRecord("far", 7, "another boot", "12", "n")


@pytest.mark.parametrize(
    ("change", "ended"),
    [
        ({"pid": 2**22 + 1}, True),
        ({"started": "1"}, True),  # a later process has its number
        ({"place": "another boot"}, False),  # another machine, or this one before a reboot: nobody can tell
        ({"place": ""}, False),
        ({"host": "renamed"}, False),
    ],
)
def test_a_dead_driver_of_this_machine_is_replaced_and_no_other(
    change: dict[str, Any], ended: bool, database: str
) -> None:
    study = opened(database)
    record = replace(DriverRecord.own(), **change)
    study._study.set_user_attr(DRIVER, asdict(record))
    assert record.ended is ended
    if ended:
        study.run(fakes(), 3)
    else:
        with pytest.raises(InputError, match="--take-over"):
            study.run(fakes(), 3)
        study = opened(database, take_over=True)
        study.run(fakes(), 3)
    assert len(study.candidates) == 3 and study._study.user_attrs[DRIVER] == {}


def test_of_two_that_begin_at_once_one_continues(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both find no record and write theirs; the last one is there when both read it back."""
    first, second = opened(database), opened(database, take_over=True)  # as if it had read before the first wrote
    begun: list[None] = []

    def settle() -> None:
        begun.append(None)
        if len(begun) == 1:
            second.driver.__enter__()

    monkeypatch.setattr(driver, "_settle", settle)
    with pytest.raises(InputError, match="took over"):
        first.run(fakes(), 3)
    second.run(fakes(), 3)
    second.driver.__exit__()
    assert len(second.candidates) == 3


def test_a_driver_whose_study_was_taken_over_ends_and_loses_only_what_was_in_flight(database: str) -> None:
    first, second = opened(database), opened(database, take_over=True)
    latency, score = fakes()

    def robbed(architecture: Architecture) -> None:
        mine.append(architecture.id)
        if len(mine) == 3:
            second.run((latency, score), 6)

    mine: list[str] = []
    with pytest.raises(InputError, match="took over the study"):
        first.run(fakes(robbed), 10)
    first.queue.sync()
    assert len(first.candidates) == len({c.id for c in first.candidates}) == 6
    assert mine[2] == score.asked[0]  # in flight: asked again first


# what a dead driver left


def test_what_was_in_flight_is_asked_again_first(tmp_path: Path) -> None:
    study = opened(tmp_path / "study.journal")
    study.run(fakes(), 4)
    left = [study.queue.take() for _ in range(3)]
    points = [asked.point.id for asked in left if asked is not None]
    latency, score = fakes()
    again = opened(tmp_path / "study.journal")
    again.run((latency, score), 9)
    assert score.asked[: len(points)] == points
    assert len(set(score.asked)) == len(score.asked) == 5 and len(again.candidates) == 9


def test_interrupted_and_repeated_trials_are_no_failures_to_the_sampler(tmp_path: Path) -> None:
    study = opened(tmp_path / "study.journal", "guided")
    study.queue.take()
    other = opened(tmp_path / "study.journal", "guided")
    other.run(fakes(), 4)
    failed = [t for t in other._study.trials if t.state == TrialState.FAIL]
    assert failed and all(_interrupted(t) and t.user_attrs[INTERRUPTED] for t in failed)


def test_more_trials_than_are_wanted_are_not_run(tmp_path: Path) -> None:
    study = opened(tmp_path / "study.journal", "guided")
    study.run(fakes(), 3)
    again = opened(tmp_path / "study.journal", "guided")
    latency, score = fakes()
    again.run((latency, score), 3)
    assert score.asked == [] and len(again.candidates) == 3


@pytest.mark.parametrize("state", ["PRUNED", "COMPLETE"])
def test_a_kill_between_the_last_estimate_and_the_telling_keeps_the_outcome(
    state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside a bound, and evaluated; neither is evaluated again, nor becomes a failure."""
    from nas.search.evaluate_candidate import Bound
    from nas.search.study import Limits

    limits = Limits([Bound("latency_ms", True, 0.5)]) if state == "PRUNED" else Limits()
    study = opened(tmp_path / "study.journal", limits=limits)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(study.queue, "_tell", lambda *about: (_ for _ in ()).throw(RuntimeError("killed")))
        study.run(fakes(), 3)
    latency, score = fakes()
    again = opened(tmp_path / "study.journal", limits=limits)
    again.run((latency, score), 3)
    assert [t.state.name for t in again._study.trials] == [state] * 3
    assert latency.asked[0] != TINY.smallest.id and len(latency.asked) == 2


@pytest.mark.parametrize("sampler", ["random", "nsga2", "tpe", "guided"])
def test_interruptions_do_not_change_the_search(sampler: str, tmp_path: Path) -> None:
    """Interrupted at the 3rd, 4th and 9th candidate, and resumed each time: the candidates of the undisturbed run."""
    whole = opened(tmp_path / "whole.journal", sampler)
    whole.run(fakes(), 20)
    for at in (3, 1, 5):
        with pytest.raises(KeyboardInterrupt):
            opened(tmp_path / "cut.journal", sampler).run(fakes(_dying(at)), 20)
    study = opened(tmp_path / "cut.journal", sampler)
    study.run(fakes(), 20)
    assert [c.id for c in study.candidates] == [c.id for c in whole.candidates]
    assert {c.id for c in study.archive.front} == {c.id for c in whole.archive.front}


def _dying(at: int) -> Any:
    count = [0]

    def die(architecture: Architecture) -> None:
        count[0] += 1
        if count[0] == at:
            raise KeyboardInterrupt

    return die


# storages


def test_a_storage_that_cannot_be_is_one_line() -> None:
    with pytest.raises(InputError, match="grpc://HOST:PORT"):
        opened("grpc://nowhere")


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_proxy_of_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``grpc://``: the study is in a file that only the proxy opens."""
    pytest.importorskip("grpc", reason="pip install grpcio")
    import socket

    monkeypatch.setattr(driver, "SETTLE_S", 0.0)
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
    study = opened(url)
    study.run(fakes(), 5)
    assert len(opened(url).candidates) == 5
