"""Engines for a path or URL: SQLite files that several processes share, PostgreSQL with bounded waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from latency_db.database.sqlite_file import copy_in_memory, decode_leniently, open_readonly
from search_spaces.errors import InputError

CONNECT_S = 10  # a server that does not answer for so long counts as unreachable


def parse_url(url_or_path: str | Path, make_folder: bool = True) -> URL:
    """Return the URL of a database; a path is the SQLite file there.

    Args:
        url_or_path: ``sqlite:///FILE``, ``postgresql://…``, or a path.
        make_folder: Make the folder of a path.

    Raises:
        InputError: Neither a path nor a URL of a supported kind, or the folder cannot be made.
    """
    text = str(url_or_path)
    if isinstance(url_or_path, Path) or "://" not in text:
        path = Path(text).expanduser().resolve()
        try:
            if make_folder:
                path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot make the folder {path.parent}: {error.strerror}", "a folder that you may write to"
            ) from None
        return URL.create("sqlite", database=str(path))
    try:
        url = make_url(text)
        kind = url.get_backend_name()
    except ArgumentError:
        raise InputError(f"database URL {text!r}", "a path, or a URL such as postgresql://user@host/name") from None
    if kind not in ("sqlite", "postgresql") or (kind == "sqlite" and not url.database):
        raise InputError(f"database URL of kind {kind!r}", "a path, sqlite:///<file> or postgresql://…")
    # The driver of the extra [postgresql], where none is named.
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def database_name(url: URL) -> str:
    """Return the name for messages: the file, or the URL without its password."""
    return str(url.database if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True))


def open_engine(url: URL, busy_s: float) -> Engine:
    """Return an engine whose connections wait ``busy_s`` seconds for other writers.

    Raises:
        InputError: The driver is missing.
    """
    server = url.get_backend_name() != "sqlite"
    try:
        # pre-ping: a server that was restarted in between is connected to again.
        engine = create_engine(
            url, pool_pre_ping=server, connect_args={"connect_timeout": CONNECT_S} if server else {"timeout": busy_s}
        )
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        hint = "install it, for PostgreSQL: pip install 'psycopg[binary]'"
        raise InputError(f"the driver of {url.drivername} is missing ({error})", hint=hint) from None
    prepare = _prepare_server if server else _prepare_file
    event.listen(engine, "connect", lambda connection, _record: prepare(connection, busy_s))
    return engine


def open_reader(url: URL, busy_s: float, copied: bool = False) -> Engine:
    """Return an engine that does not change an SQLite file; ``copied``: of a copy in memory, which may be migrated."""
    path = Path(str(url.database))
    if copied:
        memory = copy_in_memory(path, busy_s)
        return create_engine("sqlite://", creator=lambda: memory, poolclass=StaticPool)
    return create_engine("sqlite://", creator=lambda: open_readonly(path, busy_s), poolclass=StaticPool)


def _prepare_server(connection: Any, busy_s: float) -> None:
    cursor = connection.cursor()
    cursor.execute(f"SET lock_timeout = {max(1, round(1000 * busy_s))}")
    cursor.close()
    connection.commit()


def _prepare_file(connection: Any, busy_s: float) -> None:
    """Write-ahead log: readers beside one writer; a killed process loses nothing that was committed."""
    decode_leniently(connection)
    cursor = connection.cursor()
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        _retry(lambda: cursor.execute("PRAGMA journal_mode=WAL"), busy_s)
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _retry(action: Callable[[], object], patience_s: float) -> None:
    """Repeat a change of the journal mode: two at the same moment fail at once, whatever the busy timeout."""
    end = time.monotonic() + patience_s
    while True:
        try:
            action()
            return
        except Exception as error:
            if "locked" not in str(error).lower() or time.monotonic() >= end:
                raise
            time.sleep(0.05)
