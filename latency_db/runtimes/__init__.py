"""The runtimes a target can name. A new one is one file here and one line in the table (or an entry point of the
group)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latency_db.core.runtime_registry import RUNTIMES

__all__ = ["RUNTIMES", "open_profiler"]

if TYPE_CHECKING:
    from latency_db.core.profiler import Profiler, Protocol
    from latency_db.core.target import Target


def open_profiler(target: Target, protocol: Protocol | None = None) -> Profiler:
    """The profiler of a target, ready to measure; the runtime's own default protocol is ``SEARCHING``.

    Raises InputError for an unknown runtime, a precision or device it does not have, or a library that is missing here.
    """
    runtime = RUNTIMES[target.runtime]
    return runtime(target, protocol) if protocol else runtime(target)
