"""Latency of a few files side by side: in rounds, each file once per round, in drawn orders, so that none has one
time of the day to itself."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median, stdev

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import Protocol, Workload
from latency_db.core.target import Target
from latency_db.database.db import nominal_reference_ms
from latency_db.runtimes import RUNTIMES, open_profiler
from nas.core.estimate import Estimate

ROUND = Protocol(min_rounds=10, max_rounds=200, half_width=0.02, max_s=20.0)
"""Of one model in one round, in one process: the rounds are fresh processes themselves. ``max_s`` ends it for a
network that takes seconds a run."""
Files = Mapping[str, tuple[Path, Target]]


def why_unmeasurable(target: Target) -> str | None:
    """Why latency on a target cannot be measured here; None where it can."""
    return RUNTIMES[target.runtime].available()


def one_round(files: Files, seed: int, protocol: Protocol = ROUND) -> dict[str, Measurement]:
    """Every file measured once, on its target."""
    names = sorted(files)
    random.Random(seed).shuffle(names)
    with ExitStack() as opened:
        targets = {str(target): target for _, target in files.values()}
        profilers = {
            name: opened.enter_context(open_profiler(t, replace(protocol, seed=seed))) for name, t in targets.items()
        }
        return {name: profilers[str(files[name][1])].measure(Workload.of_file(files[name][0])) for name in names}


def interleaved(
    files: Files, rounds: int, seed: int = 0, said: Callable[[int], None] = lambda done: None
) -> dict[str, Estimate]:
    """Latency in ms of every file by ``rounds`` rounds, at the machine's usual speed during them."""
    measured: dict[str, list[Measurement]] = {name: [] for name in files}
    for number in range(rounds):
        for name, m in one_round(files, seed + number).items():
            measured[name].append(m)
        said(number + 1)
    return estimates(measured)


def estimates(measured: Mapping[str, list[Measurement]]) -> dict[str, Estimate]:
    """What measurements of several files say of each, all at one speed of the machine: the anchor's usual one (its
    own for each target)."""
    by_target: dict[str, list[Measurement]] = {}
    for of_file in measured.values():
        for m in of_file:
            by_target.setdefault(m.target.runtime, []).append(m)
    usual = {runtime: nominal_reference_ms(ms) for runtime, ms in by_target.items()}
    return {name: combine_rounds(ms, usual[ms[0].target.runtime]) for name, ms in measured.items() if ms}


# Student's t for 95 % by the number of rounds, from two on: few rounds know little of how much rounds differ.
_T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


def combine_rounds(measured: Sequence[Measurement], usual_anchor_ms: float | None = None) -> Estimate:
    """Latency in ms of the rounds of one model: the median of their medians, each at the anchor's usual time.

    The 95 % interval covers what the rounds differ by (of their mean, by Student's t, around the median), and is at
    least as wide as a round's own.
    """
    rounds = [m if usual_anchor_ms is None else m.at_nominal_speed(usual_anchor_ms) for m in measured]
    values = [m.median_ms for m in rounds]
    middle, n = median(values), len(values)
    reach = middle * median(m.half_width for m in rounds)
    if n > 1:
        reach = max(reach, _T95[min(n, len(_T95) + 1) - 2] * stdev(values) / math.sqrt(n))
    m = rounds[0]
    return Estimate("latency_ms", middle, "ms", max(0.0, middle - reach), middle + reach, m.source, str(m.target))
