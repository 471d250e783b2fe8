"""Samples of the CPU protocol: rounds of shuffled blocks until the median is precise enough, and their summary.

A sample is one run of a model. It is clean if its process was not interrupted and waited for a CPU less than 2 % of
the time of the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from latency_db.core.profiler import Protocol
from latency_db.timing.statistics import median_interval, quantile

MAX_DELAY = 0.02
"""Largest wait for a CPU of a clean sample, as a share of its wall time."""
MAX_SWITCHES = 0.01
"""Most involuntary context switches of a clean sample, per ms. The kernel's own threads interrupt any run of a second;
what they cost is in the wait."""
MAX_STEAL = 0.05
"""Largest share of CPU time taken by the hypervisor with which a measurement is clean."""
MAX_ELSEWHERE = 0.25
"""Largest share of the other CPUs' time in use with which a measurement is clean. A busy neighbour shares caches and
memory, and as a second hardware thread the core; no sample shows that wait."""


@dataclass(frozen=True)
class Sample:
    """One run: wall time and process CPU time in ms, involuntary context switches, wait for a CPU in ms.

    ``delay_ms`` is None on systems that do not report it.
    """

    wall_ms: float
    cpu_ms: float
    switches: int
    delay_ms: float | None

    def clean(self, threads: int) -> bool:
        """Return whether the wall time is the model's own, for a model that runs on so many ``threads``."""
        delay = self.delay_ms
        if delay is None:  # one thread that never waits spends all of its wall time on the CPU
            delay = self.wall_ms - self.cpu_ms if threads == 1 else 0.0
        return self.switches <= self.wall_ms * MAX_SWITCHES and delay < MAX_DELAY * self.wall_ms


Block = Sequence[Sample]
Source = Callable[[], Block]


@dataclass(frozen=True)
class Summary:
    """Summary of blocks of samples, in ms.

    ``clock`` and ``verdict`` are those of :class:`latency_db.core.measurement.Measurement`; ``clean_share`` is the
    share of clean samples, 0 to 1.
    """

    clock: str
    verdict: str
    median_ms: float
    p90_ms: float
    p99_ms: float
    low_ms: float
    high_ms: float
    runs: int
    wall_median_ms: float
    cpu_median_ms: float
    clean_share: float

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval, as a share of the median."""
        return (self.high_ms - self.low_ms) / 2 / self.median_ms

    def covering(self, medians: Sequence[float]) -> Summary:
        """Return the summary with an interval that also covers the differences between processes.

        With the medians m_1 … m_k of k > 1 processes (ms) the interval holds at least
        ``median ± 1.96 std(m) / sqrt(k)``.
        """
        if len(medians) < 2:
            return self
        reach = 1.96 * float(np.std(medians, ddof=1)) / len(medians) ** 0.5
        return replace(
            self, low_ms=min(self.low_ms, self.median_ms - reach), high_ms=max(self.high_ms, self.median_ms + reach)
        )


def summarise(blocks: Sequence[Block], threads: int, clean_share: float, seed: int) -> Summary:
    """Summarise blocks: wall time of the clean samples if at least ``clean_share`` of all are clean.

    Otherwise the verdict is ``contended``. With one thread the latency is then the CPU time of all samples: on a busy
    machine it agreed within 5 to 9 % between measurements where wall time was 1.5 to 5 times too long. With several
    threads CPU time is no latency, and wall time of all samples remains.
    """
    clean = [[s for s in b if s.clean(threads)] for b in blocks]
    total = sum(len(b) for b in blocks)
    share = sum(len(b) for b in clean) / total
    contended = share < clean_share
    clock = "cpu" if contended and threads == 1 else "wall"
    used = blocks if contended else clean
    values = [[s.cpu_ms if clock == "cpu" else s.wall_ms for s in b] for b in used]
    flat = [v for b in values for v in b]
    low, high = median_interval(values, np.random.default_rng(seed))
    best = [s for b in (clean if share > 0 else blocks) for s in b]
    return Summary(
        clock=clock,
        verdict="contended" if contended else "clean",
        median_ms=float(np.median(flat)),
        p90_ms=quantile(flat, 0.90),
        p99_ms=quantile(flat, 0.99),
        low_ms=low,
        high_ms=high,
        runs=len(flat),
        wall_median_ms=float(np.median([s.wall_ms for s in best])),
        cpu_median_ms=float(np.median([s.cpu_ms for s in (best if not contended else [s for b in blocks for s in b])])),
        clean_share=round(share, 4),
    )


def run_rounds(
    candidate: Source, reference: Source, protocol: Protocol, threads: int, clock: Callable[[], float] = time.monotonic
) -> tuple[list[Block], list[Block], bool]:
    """Time rounds of one block of the candidate and one of the reference model, in random order.

    Args:
        candidate: Times one block of the candidate.
        reference: Times one block of the reference model.
        protocol: When to stop; ``seed`` gives the orders.
        threads: Threads of the candidate.
        clock: Time in seconds.

    Returns:
        Blocks of the candidate, blocks of the reference model, and whether the interval became narrow enough.
    """
    rng = np.random.default_rng(protocol.seed)
    end = clock() + protocol.max_s
    next_check = protocol.min_rounds
    measured: list[Block] = []
    references: list[Block] = []
    while True:
        pair = [(candidate, measured), (reference, references)]
        for i in rng.permutation(2):
            source, blocks = pair[i]
            blocks.append(source())
        if len(measured) >= next_check:
            # Checks become rarer: each costs more as samples grow, and each is a chance to stop too early.
            next_check = len(measured) + max(1, len(measured) // 10)
            if summarise(measured, threads, protocol.clean_share, protocol.seed).half_width <= protocol.half_width:
                return measured, references, True
        if len(measured) >= protocol.max_rounds or clock() >= end:
            return measured, references, False


def drift(blocks: Sequence[Block]) -> float:
    """Return the change of the median CPU time from the first to the second half of the rounds, as a share.

    It is 0 with fewer than two rounds.
    """
    half = len(blocks) // 2
    if not half:
        return 0.0
    first, second = (float(np.median([s.cpu_ms for b in part for s in b])) for part in (blocks[:half], blocks[half:]))
    return second / first - 1
