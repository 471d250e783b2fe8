"""Storages of a study: lost connections are retried with a visible line, tables are created once, errors are one line."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError, PendingRollbackError

from nas.estimators.base import Context
from nas.search import storage as storages
from nas.search.storage import RetryingStorage, connection_lost, open_storage, storage_errors
from nas.search.study import Study
from search_spaces.errors import InputError
from tests._fakes import FakeLatency, FakeScore, tiny_space

ROOT = Path(__file__).resolve().parents[3]
TINY = tiny_space()
OBJECTIVES = [FakeLatency(Context(TINY, 3)).objective(), FakeScore(Context(TINY, 3)).objective()]


def lost(text: str = "server closed the connection unexpectedly") -> StorageInternalError:
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = OperationalError("SELECT 1", None, Exception(text))
    return error


class Restarting(RetryingStorage):
    """A database whose server is away for every ``every``-th call, once each."""

    every = 7
    calls = 0

    def retry(self, call: Any) -> Any:
        failed = False

        def once() -> Any:
            nonlocal failed
            Restarting.calls += 1
            if self._opened and not failed and Restarting.calls % self.every == 0:
                failed = True
                raise lost()
            return call()

        return super().retry(once)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits are counted instead."""
    waits: list[float] = []
    monkeypatch.setattr("nas.search.storage.time.sleep", waits.append)
    return waits


def test_a_restart_of_the_server_is_survived_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(storages, "FIRST_WAIT_S", 0.001)
    url = f"sqlite:///{tmp_path / 'study.db'}"
    monkeypatch.setattr("nas.search.study.open_storage", lambda storage: Restarting(url))
    study = Study(url, "run", TINY, OBJECTIVES, "random")
    score = FakeScore(Context(TINY, 3))
    with caplog.at_level(logging.WARNING, "nas.search.storage"):
        study.run((FakeLatency(Context(TINY, 3)), score), 10)
    assert len(study.candidates) == 10 and len(score.asked) == len(set(score.asked)) == 10
    assert "connection lost, next try in" in caplog.text


def test_the_wait_doubles_up_to_a_bound_and_ends(
    tmp_path: Path, no_waiting: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = RetryingStorage(f"sqlite:///{tmp_path / 'study.db'}")

    def away() -> None:
        raise lost()

    with monkeypatch.context() as patch, pytest.raises(StorageInternalError):
        patch.setattr("nas.search.storage.time.monotonic", lambda: sum(no_waiting))
        storage.retry(away)
    assert no_waiting[:5] == [1.0, 2.0, 4.0, 8.0, 16.0] and set(no_waiting[5:]) == {storages.LONGEST_WAIT_S}
    assert storages.PATIENCE_S - storages.LONGEST_WAIT_S <= sum(no_waiting) <= storages.PATIENCE_S


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("server closed the connection unexpectedly", True),
        ("terminating connection due to administrator command", True),
        ("the database system is starting up", True),
        ("connection to server at 127.0.0.1 failed: Connection refused", True),
        ("could not extend file: No space left on device", False),
        ("permission denied for table studies", False),
        ("database is locked", False),
    ],
)
def test_only_a_lost_connection_is_tried_again(text: str, again: bool) -> None:
    assert connection_lost(lost(text)) is again
    assert not connection_lost(StorageInternalError("something else"))


def test_a_statement_after_a_lost_connection_is_part_of_the_loss() -> None:
    """Optuna catches the loss inside a transaction and goes on in it."""
    assert connection_lost(PendingRollbackError("Can't reconnect until invalid transaction is rolled back."))


def test_a_storage_that_stays_away_is_one_line() -> None:
    with (
        pytest.raises(InputError, match="was lost: .*server closed.*--resume") as error,
        storage_errors("postgresql://nas@db/studies", opened=True),
    ):
        raise lost()
    assert "\n" not in str(error.value)


def test_processes_that_begin_a_study_at_once_all_work(tmp_path: Path) -> None:
    program = f"""
import sys
from nas.search.study import Study
from tests.nas.search.test_storage import OBJECTIVES, TINY
print("ready", flush=True)
sys.stdin.readline()
Study("sqlite:///{tmp_path / "study.db"}", "run", TINY, OBJECTIVES, "random")
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    started = [subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    for process in started:
        assert process.stdout.readline() == b"ready\n"
    for process in started:
        process.stdin.close()
    errors = [(p.wait(120), p.stderr.read().decode()) for p in started]
    assert [status for status, _ in errors] == [0] * 4, errors


def test_optuna_s_verbosity_and_warnings_are_as_before(tmp_path: Path) -> None:
    import warnings

    verbosity, filters = optuna.logging.get_verbosity(), list(warnings.filters)
    Study(tmp_path / "study.journal", "run", TINY, OBJECTIVES, "random").run(
        (FakeLatency(Context(TINY, 3)), FakeScore(Context(TINY, 3))), 3
    )
    assert optuna.logging.get_verbosity() == verbosity and warnings.filters == filters


@pytest.mark.parametrize("write", [True, False])
def test_another_programs_database_gets_no_studies(write: bool, tmp_path: Path) -> None:
    import sqlite3

    for name, statement in (
        ("other", "CREATE TABLE bookmarks (url TEXT)"),
        ("latency", "CREATE TABLE measurements (a)"),
    ):
        path = tmp_path / f"{name}.db"
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(statement)
        before = path.read_bytes()
        with pytest.raises(InputError, match="another program's database .tables"):
            open_storage(f"sqlite:///{path}", write=write)
        assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir() if name in p.name] == [path.name]
    (tmp_path / "text.db").write_text("my notes")
    with pytest.raises(InputError, match="damaged or no database") as error:
        open_storage(f"sqlite:///{tmp_path / 'text.db'}", write=write)
    assert "sqlalche" not in str(error.value) and (tmp_path / "text.db").read_text() == "my notes"
