"""The storage of a study: Optuna's journal file with a lock that ends with its process, or any Optuna storage URL.

Databases that lose their connection are retried; every error of a storage is one line.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial, wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, PendingRollbackError, SQLAlchemyError

from latency_db.database.retry import is_unreachable
from latency_db.database.sqlite_file import open_readonly
from nas.search.optuna_compat import CACHE_CALLS, BaseJournalFileLock
from search_spaces.errors import InputError
from search_spaces.text import printable

LOG = logging.getLogger(__name__)
T = TypeVar("T")

BUSY_S = 60.0
"""Seconds that a process waits for another's writing to an SQLite file."""
PATIENCE_S = 600.0
"""Seconds for which a lost connection to a database server is tried again."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
"""Back-off between two tries: doubled from the first to the longest."""
CREATIONS = 8
"""Tries to create the tables of a database beside other processes."""
_INSIDE = threading.local()
"""Whether a thread is inside a call that is tried again."""
_DAMAGED = (
    *(ValueError, LookupError, ArithmeticError, AssertionError, TypeError, AttributeError, RecursionError),
    optuna.exceptions.OptunaError,
)
"""What Optuna raises for a journal whose lines are JSON but not its own."""


class KernelLock(BaseJournalFileLock):
    """``flock`` on the journal itself: the kernel frees it with its process, so a killed process leaves no lock.

    Optuna's own locks are files, which survive their process; another process waits 30 s before it removes one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self) -> bool:
        """Wait for the other processes that write."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Free the lock by closing the file."""
        os.close(self._descriptor)


class RetryingStorage(RDBStorage):
    """A database storage that survives a restart of its server.

    Connections are tested before use. A call that fails because the connection is lost is repeated with exponential
    back-off for up to :data:`PATIENCE_S` seconds; each wait is logged as a warning. So is the opening of a database
    that this process has opened before; the first opening fails at once.
    """

    _known: ClassVar[set[str]] = set()
    """URLs that this process has opened."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._opened = url in self._known
        self.retry(partial(super().__init__, url, engine_kwargs={"pool_pre_ping": True}))
        self._opened = True
        self._known.add(url)

    def retry(self, call: Callable[[], T]) -> T:
        """Return the result of ``call``, tried again while the connection is lost; a call inside another one is tried
        again as part of that one."""
        if getattr(_INSIDE, "entered", False):
            return call()
        end, wait = time.monotonic() + PATIENCE_S, FIRST_WAIT_S
        while True:
            _INSIDE.entered = True
            try:
                return call()
            except (StorageInternalError, SQLAlchemyError) as error:
                if not self._opened or not connection_lost(error) or time.monotonic() + wait > end:
                    raise
                LOG.warning("study storage %s: connection lost, next try in %.1f s", _shown(self.url), wait)
            finally:
                _INSIDE.entered = False
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_S)


def _retrying(name: str) -> Callable[..., Any]:
    method = getattr(RDBStorage, name)

    @wraps(method)
    def call(self: RetryingStorage, *args: Any, **kwargs: Any) -> Any:
        return self.retry(partial(method, self, *args, **kwargs))

    return call


for _name in (*(name for name in dir(BaseStorage) if not name.startswith("_")), *CACHE_CALLS):
    if callable(getattr(RDBStorage, _name, None)):
        setattr(RetryingStorage, _name, _retrying(_name))


def connection_lost(error: BaseException) -> bool:
    """Return whether an error of a storage means that the server is away, so that another try may succeed."""
    cause = error if isinstance(error, SQLAlchemyError) else error.__cause__
    if isinstance(cause, PendingRollbackError):  # a lost connection that Optuna caught, and then another statement
        return True
    return isinstance(cause, DBAPIError) and is_unreachable(cause)


def study_file(storage: Path | str) -> Path | None:
    """Return the journal or the SQLite file of a storage; None for a database server."""
    if isinstance(storage, Path) or "://" not in storage:
        return Path(storage)
    path = make_url(storage).database if storage.startswith("sqlite") else None
    return Path(path) if path and path != ":memory:" else None


def open_storage(storage: Path | str, write: bool = True) -> optuna.storages.BaseStorage | str:
    """Open a storage for Optuna.

    A journal that is opened for writing loses the half line of a process that died while it wrote. Raises InputError
    for a file that is missing and to be read, or a malformed URL.
    """
    if isinstance(storage, str) and "://" in storage:
        return _open_url(storage, write)
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


def _open_url(url: str, write: bool) -> optuna.storages.BaseStorage | str:
    """Open a database, or ``grpc://host:port``: Optuna's proxy in front of one, for more workers than a database
    accepts connections."""
    kind, _, rest = url.partition("://")
    if kind == "grpc":
        host, colon, port = rest.rstrip("/").rpartition(":")
        if not colon or not port.isdecimal():
            raise InputError(f"study storage {url!r}", "grpc://HOST:PORT, where Optuna's proxy runs")
        if find_spec("grpc") is None:
            raise InputError(f"study storage {url!r} needs grpcio", hint="pip install 'hw-nas-yolo[grpc]'")
        return optuna.storages.GrpcStorageProxy(host=host, port=int(port))
    if kind == "sqlite":
        if (file := study_file(url)) is not None:
            if not write and not file.is_file():
                raise InputError(f"no study file {file}", "the storage of a search that has begun")
            _check_study_file(file)
            if write:
                _write_ahead(file)
        return _created(partial(RDBStorage, url, engine_kwargs={"connect_args": {"timeout": BUSY_S}}))
    # The driver of the extra [postgresql] if the URL names none.
    return _created(partial(RetryingStorage, f"postgresql+psycopg://{rest}" if kind == "postgresql" else url))


def _created(open_database: Callable[[], RDBStorage]) -> RDBStorage:
    """Open a database; tried again where another process creates the same tables at the same moment."""
    for _ in range(CREATIONS - 1):
        try:
            return open_database()
        except SQLAlchemyError as error:
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            time.sleep(FIRST_WAIT_S)
    return open_database()


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Hide Optuna's log lines and notices about experimental parts; both are as before afterwards."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _check_study_file(path: Path) -> None:
    """Raise InputError if a file is there and is no database of studies: tables are never mixed with others."""
    if not path.is_file():
        return
    try:
        with contextlib.closing(open_readonly(path)) as connection:
            tables = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged or no database ({printable(error)})", "a database of studies") from None
    if tables and "studies" not in tables:
        names = ", ".join(sorted(printable(name) for name in tables)[:3])
        raise InputError(
            f"{path} is another program's database (tables {names})",
            "a database of studies, or a new file",
            "name another file with --storage",
        )


def _write_ahead(path: Path) -> None:
    """Switch an SQLite file to its write-ahead log, in which others read while one writes."""
    with (
        contextlib.suppress(sqlite3.Error),  # Optuna reports what is wrong
        contextlib.closing(sqlite3.connect(path, timeout=BUSY_S)) as connection,
    ):
        connection.execute("PRAGMA journal_mode=WAL")


def _drop_half_line(path: Path) -> None:
    """Remove a last line that is not whole: it was never acknowledged, and the next line would continue it."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def _shown(url: str) -> str:
    """The URL without its password."""
    return make_url(url).render_as_string(hide_password=True)


@contextlib.contextmanager
def storage_errors(storage: Path | str, opened: bool = False) -> Iterator[None]:
    """Turn the errors of a broken or unwritable storage into one-line InputErrors.

    ``opened``: the storage was usable before, so that only the disk or the connection is to blame, not its content.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if (explained := _explained(storage, error, opened)) is None:
            raise
        raise explained from None


def _explained(storage: Path | str, error: Exception, opened: bool) -> InputError | None:
    again = "nas search --resume RUN continues"
    is_url = isinstance(storage, str) and "://" in storage
    if isinstance(error, OSError):
        hint = f"free some space or mend the path, then {again}" if opened else ""
        expected = "a folder that you may write to, with free space"
        return InputError(f"study file {storage}: {error.strerror or error}", expected, hint)
    if is_url and (not opened or isinstance(error, (StorageInternalError, SQLAlchemyError))):
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        text = " ".join(str(cause).split())
        if opened:
            return InputError(f"study storage {storage!r} was lost: {text}", hint=f"once it is back, {again}")
        expected = "an Optuna storage URL that can be reached, such as sqlite:///file.db"
        return InputError(f"study storage {storage!r}: {text}", expected)
    if not opened and isinstance(error, _DAMAGED):
        return InputError(
            f"study file {storage} is damaged ({type(error).__name__}: {' '.join(str(error).split())})",
            "a journal that this program wrote",
            "move it away to start anew: measured latencies are kept in the latency database",
        )
    return None
