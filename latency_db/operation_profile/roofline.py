"""The roofline of one core of a machine, measured (Williams et al., doi:10.1145/1498765.1498785).

==============  =====================================================================================
symbol          meaning
==============  =====================================================================================
``P``           peak rate of multiply-accumulates, 1/s: the best of repeated products of matrices
``B_m, B_c``    bandwidth of memory and of the caches, bytes/s: the best of repeated additions of arrays
``I``           intensity of an operation: multiply-accumulates per byte
==============  =====================================================================================

An operation takes at least ``max(MACs / P, bytes / B)``. It is bound by memory where the second is larger, by compute
where the first is; where it takes more than :data:`OVERHEAD` times either, by neither: the time goes into launching,
small loops and changes of layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from latency_db.timing.timing_client import TimingClient

CACHE_BYTES = 1 << 20
"""Traffic up to which an operation's data are taken to be in the caches."""
OVERHEAD = 4.0
COMPUTE, MEMORY, NEITHER = "compute", "memory", "neither"


@dataclass(frozen=True)
class Roofline:
    """What one core reaches.

    Args:
        macs_per_s: Multiply-accumulates per second in float32.
        memory_bytes_per_s: Bytes per second from and to memory.
        cache_bytes_per_s: Bytes per second where the data are in the caches.
    """

    macs_per_s: float
    memory_bytes_per_s: float
    cache_bytes_per_s: float

    def least_ms(self, macs: int, traffic: int) -> float:
        """Return the least time of an operation, ms."""
        return max(self._parts(macs, traffic))

    def bound(self, macs: int, traffic: int, ms: float) -> str:
        """Return what an operation that takes ``ms`` is bound by: ``compute``, ``memory`` or ``neither``."""
        compute, memory = self._parts(macs, traffic)
        if ms > OVERHEAD * max(compute, memory):
            return NEITHER
        return COMPUTE if compute >= memory else MEMORY

    def _parts(self, macs: int, traffic: int) -> tuple[float, float]:
        bandwidth = self.cache_bytes_per_s if traffic <= CACHE_BYTES else self.memory_bytes_per_s
        return 1e3 * macs / self.macs_per_s, 1e3 * traffic / bandwidth

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return vars(self).copy()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Roofline:
        """Restore a roofline from :meth:`to_dict`."""
        return cls(**data)


def roofline_process() -> TimingClient:
    """Start a process that measures a roofline; it imports its libraries concurrently with the caller."""
    return TimingClient(f"{__name__}:engine")


def measure_roofline(process: TimingClient | None = None) -> Roofline:
    """Measure the roofline of one core in a fresh process, less than a second.

    Args:
        process: A fresh process of :func:`roofline_process`, which is closed; None to start one.

    Raises:
        RuntimeFailure: The process failed.
    """
    from pathlib import Path

    with process or roofline_process() as client:
        client.load(Path(), {"cpus": []})
        return Roofline(**client.ask("time", {}))


def engine(request: Mapping[str, Any]) -> tuple[MachineRun, dict[str, Any]]:
    """Return a run that measures the machine instead of a model."""
    return MachineRun(), {}


class MachineRun:
    """Measures products of matrices and additions of arrays with numpy, on one thread."""

    def __call__(self) -> None:
        return None

    def time(self, request: Mapping[str, Any]) -> dict[str, float]:
        """Return the fields of a :class:`Roofline`."""
        import numpy as np

        side = 384
        rng = np.random.default_rng(0)
        a, b = (rng.standard_normal((side, side)).astype(np.float32) for _ in range(2))
        out = np.empty_like(a)
        rate = side**3 / _best(lambda: np.matmul(a, b, out=out), 0.3)
        bandwidth = []
        for count in (8 << 20, 24 << 10):  # 96 MiB in three arrays, and 288 KiB
            x, y = (np.ones(count, np.float32) for _ in range(2))
            z = np.empty_like(x)

            def add(x: Any = x, y: Any = y, z: Any = z) -> object:
                return np.add(x, y, out=z)

            bandwidth.append(3 * x.nbytes / _best(add, 0.15))
        return {"macs_per_s": rate, "memory_bytes_per_s": bandwidth[0], "cache_bytes_per_s": bandwidth[1]}


def _best(run: Callable[[], object], seconds: float) -> float:
    """Return the shortest time of a run, s, of those that fit into so many seconds."""
    run()
    best, end = float("inf"), perf_counter() + seconds
    while perf_counter() < end:
        start = perf_counter()
        run()
        best = min(best, perf_counter() - start)
    return best
