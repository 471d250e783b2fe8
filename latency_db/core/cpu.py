"""The state of this machine's CPUs while something is timed on them: which is quiet, who else runs, what they tell of
throttling."""

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

PATIENCE_S = 30.0
"""How long one waits for another's timing before saying so: a finalist takes some ten seconds."""
LOOK_S = 0.05


@dataclass(frozen=True)
class CpuTime:
    """Ticks of one CPU since the machine started: in use, taken by the hypervisor, all."""

    busy: int
    steal: int
    total: int

    def __sub__(self, other: CpuTime) -> CpuTime:
        return CpuTime(self.busy - other.busy, self.steal - other.steal, self.total - other.total)


def cpu_times(path: Path = Path("/proc/stat")) -> dict[int, CpuTime]:
    """Per CPU (proc_stat(5): user nice system idle iowait irq softirq steal …); empty where the system has no such
    file."""
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
    """The ``count`` CPUs of this process's allowance that were least in use during ``window_s``; () where the system
    cannot pin.

    Among equally quiet ones the last: interrupts and other programs tend to the first, and staying on one keeps
    measurements alike.
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
    """``allowed`` CPUs, the least used between two readings first; use within a fifth counts as equal, since a tick
    is 10 ms."""

    def use(cpu: int) -> int:
        if cpu not in before or cpu not in after:
            return 0
        spent = after[cpu] - before[cpu]
        return round(5 * spent.busy / spent.total) if spent.total > 0 else 0

    return tuple(sorted(allowed, key=lambda cpu: (use(cpu), -cpu)))


def steal_share(before: Mapping[int, CpuTime], after: Mapping[int, CpuTime], cpus: Sequence[int]) -> float:
    """Share of the time of ``cpus`` that the hypervisor gave to others between two readings, 0 to 1."""
    spent = [after[c] - before[c] for c in cpus if c in before and c in after]
    total = sum(s.total for s in spent)
    return sum(s.steal for s in spent) / total if total > 0 else 0.0


def busy_elsewhere(before: Mapping[int, CpuTime], after: Mapping[int, CpuTime], cpus: Sequence[int]) -> float:
    """Share of the time of the CPUs other than ``cpus`` that was in use between two readings, 0 to 1; 0 where there
    are no others.

    Of a CPU that shares its core with one of ``cpus`` the use counts whole, because it slows that one most.
    """
    spent = {c: after[c] - before[c] for c in after if c in before and c not in cpus}
    use = {c: s.busy / s.total for c, s in spent.items() if s.total > 0}
    if not use:
        return 0.0
    siblings = [use[c] for cpu in cpus for c in core_siblings(cpu) if c in use]
    return max([sum(use.values()) / len(use), *siblings])


def core_siblings(cpu: int) -> set[int]:
    """CPUs on the same core, ``cpu`` among them or not; empty where the system does not tell (virtual machines often
    say each is alone)."""
    try:
        text = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
        bounds = [[int(end) for end in part.split("-")] for part in text.strip().split(",")]
    except (OSError, ValueError):
        return set()
    return {c for b in bounds for c in range(b[0], b[-1] + 1)}


def throttle_count(cpus: Sequence[int]) -> int:
    """How often the hardware slowed ``cpus`` for heat so far; 0 where it does not tell (virtual machines, most Arm
    boards)."""
    count = 0
    for cpu in cpus:
        try:
            count += int(Path(f"/sys/devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count").read_text())
        except (OSError, ValueError):
            continue
    return count


def load_average() -> float | None:
    """Runnable processes over the last minute; None where the system does not tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def cache_dir() -> Path:
    """A folder of this user's for the anchor model and the lock; a temporary one where the home folder cannot be
    written."""
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
    """Waits until no other process of this user times anything under ``name``; two at once would measure each other.

    Who waits long says so, and for whom: a process that was stopped (Ctrl-Z) keeps the lock, and nothing else would
    tell.
    """
    if fcntl is None:
        yield
        return
    with (cache_dir() / f"{name}.lock").open("a+") as file:
        said = False
        end = time.monotonic() + PATIENCE_S
        while not _locked(file, wait=said):
            if time.monotonic() >= end:
                LOG.warning(
                    "waiting for process %s, which times something (%s); if it is stopped, continue or end it",
                    _holder(file),
                    name,
                )
                said = True
            time.sleep(LOOK_S)
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
