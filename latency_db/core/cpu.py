"""State of this machine's CPUs while something is timed: which are quiet, who else runs, thermal throttling, the
lock."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from search_spaces.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOG = logging.getLogger(__name__)

SILENT_WAIT_S = 30.0
"""Seconds of waiting for another process before a warning: a finalist takes some ten seconds."""
POLL_S = 0.05


@dataclass(frozen=True)
class CpuTime:
    """Clock ticks of one CPU since the machine started: in use, taken by the hypervisor, all."""

    busy: int
    steal: int
    total: int

    def __sub__(self, other: CpuTime) -> CpuTime:
        return CpuTime(self.busy - other.busy, self.steal - other.steal, self.total - other.total)


def cpu_times(path: Path = Path("/proc/stat")) -> dict[int, CpuTime]:
    """Return the ticks of each CPU; empty on systems without ``/proc/stat``.

    The columns (proc_stat(5)) are user, nice, system, idle, iowait, irq, softirq, steal, …
    """
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    times = {}
    for line in lines:
        name, *ticks = line.split() or [""]
        if name.startswith("cpu") and name[3:].isdigit() and len(ticks) >= 8:
            values = [int(t) for t in ticks[:8]]
            times[int(name[3:])] = CpuTime(sum(values) - values[3] - values[4], values[7], sum(values))
    return times


def quietest(count: int, window_s: float = 0.1) -> tuple[int, ...]:
    """Return the ``count`` CPUs of this process's allowance that were least in use during ``window_s`` seconds.

    Of equally quiet CPUs the last are taken: interrupts and other programs prefer the first, and repeated measurements
    then use the same. () on systems that cannot pin.

    Raises:
        InputError: The process may use fewer CPUs.
    """
    if not hasattr(os, "sched_getaffinity"):
        return ()
    allowed = os.sched_getaffinity(0)
    if count > len(allowed):
        raise InputError(f"{count} threads on {len(allowed)} CPUs", f"at most {len(allowed)}")
    before = cpu_times()
    time.sleep(window_s)
    return order_by_use(before, cpu_times(), sorted(allowed))[:count]


def order_by_use(
    before: Mapping[int, CpuTime], after: Mapping[int, CpuTime], allowed: Sequence[int]
) -> tuple[int, ...]:
    """Return the ``allowed`` CPUs, the least used between two readings first.

    Use is rounded to fifths, since a tick is 10 ms.
    """

    def use(cpu: int) -> int:
        if cpu not in before or cpu not in after:
            return 0
        spent = after[cpu] - before[cpu]
        return round(5 * spent.busy / spent.total) if spent.total > 0 else 0

    return tuple(sorted(allowed, key=lambda cpu: (use(cpu), -cpu)))


def steal_share(before: Mapping[int, CpuTime], after: Mapping[int, CpuTime], cpus: Sequence[int]) -> float:
    """Return the share of the time of ``cpus`` that the hypervisor took between two readings, 0 to 1."""
    spent = [after[c] - before[c] for c in cpus if c in before and c in after]
    total = sum(s.total for s in spent)
    return sum(s.steal for s in spent) / total if total > 0 else 0.0


def busy_elsewhere(before: Mapping[int, CpuTime], after: Mapping[int, CpuTime], cpus: Sequence[int]) -> float:
    """Return the share of the other CPUs' time that was in use between two readings, 0 to 1; 0 if there are no others.

    It is the mean over the other CPUs, or the use of one that shares its core with one of ``cpus`` if that is larger.
    """
    spent = {c: after[c] - before[c] for c in after if c in before and c not in cpus}
    use = {c: s.busy / s.total for c, s in spent.items() if s.total > 0}
    if not use:
        return 0.0
    siblings = [use[c] for cpu in cpus for c in core_siblings(cpu) if c in use]
    return max([sum(use.values()) / len(use), *siblings])


def core_siblings(cpu: int) -> set[int]:
    """Return the CPUs on the same core; empty if not reported. Virtual machines often report each CPU as a core."""
    try:
        text = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
        bounds = [[int(end) for end in part.split("-")] for part in text.strip().split(",")]
    except (OSError, ValueError):
        return set()
    return {c for b in bounds for c in range(b[0], b[-1] + 1)}


def throttle_count(cpus: Sequence[int]) -> int:
    """Return how often the hardware throttled ``cpus`` for heat; 0 if not reported (virtual machines, Arm boards)."""
    count = 0
    for cpu in cpus:
        try:
            count += int(Path(f"/sys/devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count").read_text())
        except (OSError, ValueError):
            continue
    return count


def load_average() -> float | None:
    """Return the number of runnable processes over the last minute; None if not reported."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def cache_dir() -> Path:
    """Return this user's folder for the reference model and the lock; a temporary one if the home cannot be written.

    Raises:
        InputError: Neither can be written.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    user = os.getuid() if hasattr(os, "getuid") else 0
    for folder in (Path(home) / "latency_db", Path(tempfile.gettempdir()) / f"latency_db-{user}"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise InputError(
        f"no folder for caches: {home} and {tempfile.gettempdir()} cannot be written",
        "a writable folder",
        "set XDG_CACHE_HOME",
    )


@contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Hold the lock ``name``, so that no other process of this user times anything under it concurrently.

    After :data:`SILENT_WAIT_S` of waiting a warning names the process that holds the lock; it may be stopped (Ctrl-Z).

    Raises:
        InputError: No folder for caches can be written.
    """
    if fcntl is None:
        yield
        return
    with (cache_dir() / f"{name}.lock").open("a+") as file:
        warned = False
        end = time.monotonic() + SILENT_WAIT_S
        while not _locked(file, wait=warned):
            if time.monotonic() >= end:
                LOG.warning(
                    "waiting for process %s, which is timing (%s); if it is stopped, continue or end it",
                    _holder(file),
                    name,
                )
                warned = True
            time.sleep(POLL_S)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield  # released by the system when the holder dies


def _locked(file: TextIO, wait: bool) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: TextIO) -> str:
    file.seek(0)
    return file.read().strip() or "(unknown)"
