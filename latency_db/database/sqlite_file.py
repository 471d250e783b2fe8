"""Checks of SQLite files before they are opened for use, and reading without a change to the file.

Reading must not write: no table is added, no journal mode is changed, no old schema is migrated in place. A database of
another program is refused in any case, because its tables would be mixed with those of the latency database.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from search_spaces.errors import InputError
from search_spaces.text import printable

_KEY_COLUMNS = {"workload", "target", "version", "device", "record"}


def check_file(path: Path) -> None:
    """Raise InputError if a file is there and is no latency database (another program's, a folder, a pipe).

    An empty file is accepted: SQLite creates one before it writes. Damaged files are left to the caller, which names
    the damage.
    """
    tables = tables_in(path)
    if not tables or "latency_meta" in tables:
        return
    if set(tables) != {"measurements"} or not tables["measurements"] >= _KEY_COLUMNS:
        raise foreign_database(path, tables, "a latency database", "name another file with --latency-db")


def foreign_database(path: Path, tables: Iterable[str], expected: str, hint: str) -> InputError:
    """Return the error for an SQLite file whose tables belong to another program."""
    names = ", ".join(sorted(printable(name) for name in tables)[:3])
    return InputError(f"{printable(path)} is another program's database (tables {names})", expected, hint)


def tables_in(path: Path) -> dict[str, set[str]]:
    """Return the columns of each table in an SQLite file; empty for a missing, empty or damaged file.

    Raises InputError for a path that is no regular file.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return {}
    if not stat.S_ISREG(mode):
        raise InputError(f"{printable(path)} is no regular file", "an SQLite file")
    try:
        with closing(open_readonly(path)) as connection:
            names = [str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            columns = "SELECT name FROM pragma_table_info(?)"
            return {name: {str(row[0]) for row in connection.execute(columns, (name,))} for name in names}
    except (sqlite3.Error, UnicodeDecodeError):  # the latter: an error message with bytes of the damage in it
        return {}


def decode_leniently(connection: sqlite3.Connection) -> None:
    """Decode damaged text with replacement characters, so that the record that holds it is refused, not the
    database."""
    connection.text_factory = lambda content: content.decode("utf-8", "replace")


def open_readonly(path: Path, busy_s: float = 30.0) -> sqlite3.Connection:
    """Open an SQLite file for reading only.

    Reading a write-ahead log needs a file beside the database. In a folder that cannot be written, a database without a
    log is opened as immutable.
    """
    uri = f"file:{quote(str(path))}?mode=ro"
    if not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists():
        uri += "&immutable=1"
    connection = sqlite3.connect(uri, uri=True, timeout=busy_s, check_same_thread=False)
    decode_leniently(connection)
    return connection


def copy_in_memory(path: Path, busy_s: float) -> sqlite3.Connection:
    """Return a copy of a database in memory, which may be migrated although the file may not."""
    copy = sqlite3.connect(":memory:", check_same_thread=False)
    decode_leniently(copy)
    with closing(open_readonly(path, busy_s)) as source:
        source.backup(copy)
    return copy
