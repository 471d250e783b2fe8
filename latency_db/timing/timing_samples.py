"""The CPU protocol's core: rounds of shuffled blocks until the median is known well enough, and what the samples say.

Judged per sample: it is clean when no other process interrupted it (a long run: not often) and it waited for the CPU
less than 2 % of its time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from latency_db.core.profiler import Protocol
from latency_db.timing.statistics import median_interval, quantile

MAX_DELAY = 0.02
MAX_SWITCHES = 0.01
"""Per ms. A run of a second meets the kernel's own threads on any machine; what they cost it is its delay."""
MAX_STEAL = 0.05
MAX_ELSEWHERE = 0.25
"""Of the other CPUs' time. A busy neighbour shares caches, memory and, as two threads of one core, the core itself:
no sample of ours shows that it waited."""


@dataclass(frozen=True)
class Sample:
    """One run: wall and process CPU time in ms, involuntary context switches, wait for a CPU in ms (None where the
    system does not tell)."""

    wall_ms: float
    cpu_ms: float
    switches: int
    delay_ms: float | None

    def clean(self, threads: int) -> bool:
        """Whether its wall time is the network's own."""
        delay = self.delay_ms
        if delay is None:  # one thread that is never kept waiting spends all of its time on the CPU
            delay = self.wall_ms - self.cpu_ms if threads == 1 else 0.0
        return self.switches <= self.wall_ms * MAX_SWITCHES and delay < MAX_DELAY * self.wall_ms


Block = Sequence[Sample]
Source = Callable[[], Block]


@dataclass(frozen=True)
class Summary:
    """What blocks of samples say, in ms; ``clock`` and ``verdict`` as in
    :class:`latency_db.core.measurement.Measurement`."""

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
        return (self.high_ms - self.low_ms) / 2 / self.median_ms

    def between(self, medians: Sequence[float]) -> Summary:
        """With an interval that also covers what the processes differ by: at least the normal one of the mean of
        their ``medians`` (ms), around the median."""
        if len(medians) < 2:
            return self
        reach = 1.96 * float(np.std(medians, ddof=1)) / len(medians) ** 0.5
        return replace(
            self, low_ms=min(self.low_ms, self.median_ms - reach), high_ms=max(self.high_ms, self.median_ms + reach)
        )


def summarise(blocks: Sequence[Block], threads: int, clean_share: float, seed: int) -> Summary:
    """Wall time of the clean samples when at least ``clean_share`` are clean; else the machine is contended.

    Contended with one thread, the headline is CPU time of all samples: it agreed within 5-9 % over runs on a busy
    machine where wall time was
    1.5-5 times off. With more threads CPU time is no latency, so the headline stays wall time, of all samples.
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
    candidate: Source, anchor: Source, protocol: Protocol, threads: int, clock: Callable[[], float] = time.monotonic
) -> tuple[list[Block], list[Block], bool]:
    """Blocks of the candidate and of the anchor, one each per round in drawn order, and whether the wanted interval
    was reached."""
    rng = np.random.default_rng(protocol.seed)
    end = clock() + protocol.max_s
    look = protocol.min_rounds
    measured: list[Block] = []
    anchors: list[Block] = []
    while True:
        turns = [(candidate, measured), (anchor, anchors)]
        for i in rng.permutation(2):
            source, blocks = turns[i]
            blocks.append(source())
        if len(measured) >= look:
            look = len(measured) + max(
                1, len(measured) // 10
            )  # looking costs more as samples grow, and each look is a chance to stop by luck
            if summarise(measured, threads, protocol.clean_share, protocol.seed).half_width <= protocol.half_width:
                return measured, anchors, True
        if len(measured) >= protocol.max_rounds or clock() >= end:
            return measured, anchors, False


def drift(anchors: Sequence[Block]) -> float:
    """Change of the anchor's CPU time from the first to the second half of the rounds, as a share; 0 with fewer than
    two rounds."""
    half = len(anchors) // 2
    if not half:
        return 0.0
    first, second = (float(np.median([s.cpu_ms for b in part for s in b])) for part in (anchors[:half], anchors[half:]))
    return second / first - 1
