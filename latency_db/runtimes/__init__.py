"""The runtimes that a target can name: one profiler each.

A new runtime is one file here and one line in :mod:`latency_db.core.runtime_registry` (or an entry point of the group
``nas.runtimes``). Imports all packages of ``latency_db`` but ``remote``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from latency_db.core.runtime_registry import RUNTIMES

__all__ = ["RUNTIMES", "is_redirected", "open_profiler", "opened_by"]

if TYPE_CHECKING:
    from latency_db.core.profiler import Profiler, Protocol
    from latency_db.core.target import Target


_OPENERS: list[Callable[[Target, Protocol | None], Profiler] | None] = []
"""Those of :func:`opened_by`, the innermost last. Not per thread: a search measures from several."""


@contextmanager
def opened_by(opener: Callable[[Target, Protocol | None], Profiler] | None) -> Iterator[None]:
    """Have :func:`open_profiler` call ``opener`` while the context lasts (to measure on another machine).

    None: measure on this machine, whatever contexts there are around.
    """
    _OPENERS.append(opener)
    try:
        yield
    finally:
        _OPENERS.remove(opener)


def is_redirected() -> bool:
    """Return whether :func:`open_profiler` may measure on another machine (:func:`opened_by`)."""
    return bool(_OPENERS) and _OPENERS[-1] is not None


def open_profiler(target: Target, protocol: Protocol | None = None) -> Profiler:
    """Return the profiler of a target, ready to measure; the default protocol is ``SEARCHING``.

    Raises:
        InputError: The runtime is unknown or not installed, or lacks the precision or the device.
    """
    runtime = RUNTIMES[target.runtime]
    opener = _OPENERS[-1] if _OPENERS and runtime.measures else None
    if opener is not None:
        return opener(target, protocol)
    return runtime(target, protocol) if protocol else runtime(target)
