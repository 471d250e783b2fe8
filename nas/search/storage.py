"""Where a study is kept: Optuna's journal file with a lock that dies with its process, or any Optuna storage URL.
Errors of either as one line."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from sqlalchemy.engine import make_url

from nas.search.optuna_compat import BaseJournalFileLock
from search_spaces.errors import InputError

BUSY_S = 60.0
"""How long one of many workers waits for the others' writing to an SQLite file."""
_DAMAGED = (json.JSONDecodeError, UnicodeDecodeError, KeyError, ValueError, AssertionError, TypeError, AttributeError)


class KernelLock(BaseJournalFileLock):
    """``flock`` on the journal itself: the kernel frees it with its process, so that a killed one leaves nothing to
    wait for.

    Optuna's own locks are files, which survive their process; another one waits 30 s before it takes such a lock away.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self) -> bool:
        """Waits for the other processes that write."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Closing frees the lock."""
        os.close(self._descriptor)


def open_storage(storage: Path | str, write: bool = True) -> optuna.storages.BaseStorage | str:
    """What Optuna takes as ``storage``; a journal that is opened for writing loses the half line of a process that
    died while it wrote."""
    if isinstance(storage, str) and "://" in storage:
        return _of_url(storage, write)
    path = Path(storage)
    lock = KernelLock(path)
    if write:
        lock.acquire()
        try:
            _drop_half_line(path)
        finally:
            lock.release()
    elif not path.is_file():
        raise InputError(f"no study file {path}", "the folder of a search that has begun")
    backend: BaseJournalBackend = JournalFileBackend(str(path), lock)
    return JournalStorage(backend)


def _of_url(url: str, write: bool) -> optuna.storages.BaseStorage | str:
    """A database of Optuna's, or ``grpc://host:port``, its proxy in front of one, for more workers than a database
    likes to have connections."""
    kind, _, rest = url.partition("://")
    if kind == "grpc":
        host, colon, port = rest.rstrip("/").rpartition(":")
        if not colon or not port.isdecimal():
            raise InputError(f"study storage {url!r}", "grpc://HOST:PORT, where Optuna's proxy runs")
        if find_spec("grpc") is None:
            raise InputError(f"study storage {url!r} needs grpcio", hint="pip install 'hw-nas-yolo[grpc]'")
        return optuna.storages.GrpcStorageProxy(host=host, port=int(port))
    if kind == "sqlite":
        path = make_url(url).database
        if not write and path and not Path(path).is_file():
            raise InputError(f"no study file {path}", "the storage of a search that has begun")
        _write_ahead(url)
        return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": BUSY_S}})
    # The driver of the extra [postgresql], where none is named.
    return f"postgresql+psycopg://{rest}" if kind == "postgresql" else url


@contextlib.contextmanager
def asking(storage: Path | str) -> Iterator[None]:
    """To be held while a trial is asked for: of an SQLite file two processes may else be given the same waiting trial
    (it has no row locks)."""
    path = make_url(storage).database if isinstance(storage, str) and storage.startswith("sqlite:") else None
    if not path or path == ":memory:":
        yield
        return
    with open(f"{path}.ask", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # freed by the kernel with the process
        yield


def _write_ahead(url: str) -> None:
    """SQLite's log that lets others read while one writes; it is a property of the file."""
    import sqlite3

    path = make_url(url).database
    if path and path != ":memory:":
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(path, timeout=BUSY_S)) as connection,
        ):  # Optuna says what is wrong
            connection.execute("PRAGMA journal_mode=WAL")


def _drop_half_line(path: Path) -> None:
    """What is appended to half a line becomes a damaged one, so that half goes; it was never acknowledged."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


class explained:
    """Turns what a storage says of a broken or unwritable file into one line; ``opened``: while working only the disk
    is to blame, not the content."""

    def __init__(self, storage: Path | str, opened: bool = False) -> None:
        self.storage = storage
        self.opened = opened

    def __enter__(self) -> None:
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, InputError):
            return
        if isinstance(error, OSError):
            hint = "free some space or mend the path, then: nas search --resume RUN" if self.opened else ""
            raise InputError(
                f"study file {self.storage}: {error.strerror or error}",
                "a folder that you may write to, with free space",
                hint,
            ) from None
        if self.opened:
            return
        if isinstance(self.storage, str) and "://" in self.storage:
            said = " ".join(str(error).split())
            raise InputError(
                f"study storage {self.storage!r}: {said}",
                "an Optuna storage URL that can be reached, such as sqlite:///file.db",
            ) from None
        if isinstance(error, _DAMAGED):
            raise InputError(
                f"study file {self.storage} is damaged ({type(error).__name__}: {' '.join(str(error).split())})",
                "a journal that this program wrote",
                "move it away to start anew: measured latencies are kept in the latency database",
            ) from None
