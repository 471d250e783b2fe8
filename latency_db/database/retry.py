"""Repeat a database operation while its server is away, with growing pauses and one warning per attempt.

A server that restarts or fails over refuses connections for seconds to minutes. Operations of the latency database may
be repeated: each is one transaction that gives the same result when it runs twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

LOG = logging.getLogger(__name__)
T = TypeVar("T")

UNREACHABLE = (
    "connection to server",
    "connection is bad",
    "connection failed",
    "connection refused",
    "connection reset",
    "connection is closed",
    "connection is lost",
    "timeout expired",
    "timed out",
    "server closed",
    "terminating connection",
    "starting up",
    "shutting down",
    "in recovery mode",
    "consuming input failed",
    "could not connect",
    "can't connect",
    "lost connection",
    "ssl syscall",
)
"""Parts of drivers' messages about a server that cannot be reached; drivers have no error codes in common."""
REFUSED = ("authentication", "no password supplied", "does not exist", "permission denied", "no pg_hba.conf entry")
"""Parts of messages about a server that refuses the user, which do not change by waiting."""


@dataclass(frozen=True)
class Backoff:
    """Pauses of ``first_s``, twice as long each time up to ``longest_s``, for ``total_s`` seconds in all."""

    total_s: float = 300.0
    first_s: float = 0.5
    longest_s: float = 30.0


def is_unreachable(error: DBAPIError) -> bool:
    """Return whether an error means that the server is away, and not that it refuses the operation."""
    message = str(error.orig).lower()
    if any(part in message for part in REFUSED):
        return False
    return error.connection_invalidated or any(part in message for part in UNREACHABLE)


def with_retries(
    operation: Callable[[], T],
    name: str,
    backoff: Backoff,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> T:
    """Return the result of ``operation``, repeated while the server of the database ``name`` is away.

    Args:
        operation: One transaction; it may run several times.
        name: What warnings call the database.
        backoff: How long to wait.
        clock: Time in seconds.
        sleep: Waits so many seconds.

    Raises:
        DBAPIError: The last error, if ``backoff.total_s`` is over, or at once if the server can be reached.
    """
    end = clock() + backoff.total_s
    pause = backoff.first_s
    while True:
        try:
            return operation()
        except DBAPIError as error:
            left = end - clock()
            if left <= 0 or not is_unreachable(error):
                raise
            pause = min(pause, left)
            LOG.warning("database %s cannot be reached; next attempt in %.1f s, %.0f s left", name, pause, left)
        sleep(pause)
        pause = min(2 * pause, backoff.longest_s)
