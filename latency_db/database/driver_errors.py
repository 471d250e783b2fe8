"""What a database refuses as errors of one line with a hint; drivers have no error codes in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DatabaseError, IntegrityError, InterfaceError, OperationalError, ProgrammingError

from latency_db.database.retry import UNREACHABLE
from search_spaces.errors import InputError
from search_spaces.text import printable

_REASONS = (
    (
        ("not a database", "malformed"),
        "is damaged or no database",
        "move the file away: what it held is measured again",
    ),
    (("readonly", "read-only", "unable to open"), "cannot be written", "choose a folder that you may write to"),
    (("disk is full", "disk i/o", "no space left"), "cannot be written: the disk is full or fails", "free some space"),
    (
        ("locked", "lock timeout"),
        "stayed locked by another process",
        "wait for the other process or choose another file",
    ),
    (("permission denied",), "may not be written by this user", "ask for the right to create and write tables there"),
    (
        ("authentication", "no password supplied", "does not exist"),
        "refuses this user",
        "check user, password and database name in the URL",
    ),
    (
        (
            *UNREACHABLE,
            "timeout",
        ),
        "cannot be reached",
        "check that the server runs, its host and port, or use a file: --latency-db FILE",
    ),
)
"""Part of a driver's message -> meaning, hint."""


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn errors of a database driver into InputError, while the context lasts.

    Args:
        name: Name of the database in messages.

    Raises:
        InputError: The database is damaged, locked, full, unreachable, or refuses the user. Errors in the statements
            themselves pass unchanged.
    """
    try:
        yield
    except UnicodeDecodeError:  # an error message of SQLite with bytes of the damage in it
        meaning, hint = _REASONS[0][1:]
        raise InputError(f"{name} {meaning}", hint=hint) from None
    except (OperationalError, DatabaseError, InterfaceError) as error:
        message = printable(" ".join(str(error.orig).split()))
        if isinstance(error, (IntegrityError, ProgrammingError)) and "permission denied" not in message:
            raise
        for words, meaning, hint in _REASONS:
            if any(word in message.lower() for word in words):
                raise InputError(f"{name} {meaning} ({message})", hint=hint) from None
        raise InputError(f"database {name}: {message}") from None
