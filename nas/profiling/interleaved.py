"""Interleaved rounds: every round measures each network once, in a random order of its own.

Networks that are timed one after the other are compared across minutes or hours of a machine that changes its speed.
In interleaved rounds a slow drift falls on all of them. :func:`measure_round` is the one implementation:
``nas bench`` uses it with networks, ``nas quantize`` with files (:func:`interleaved`).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, stdev
from typing import TypeVar

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import Profiler, Protocol, Workload
from latency_db.core.target import Target
from latency_db.database.db import nominal_reference_ms
from latency_db.runtimes import RUNTIMES, open_profiler
from nas.core.estimate import Estimate
from nas.core.reporter import Update
from search_spaces.errors import InputError

T = TypeVar("T")

ROUND = Protocol(min_rounds=10, max_rounds=200, half_width=0.02, max_s=20.0)
"""Protocol of one measurement in one round, in one process, because every round starts a fresh process.

``max_s`` bounds the time of a network that takes seconds per run.
"""

Files = Mapping[str, tuple[Path, Target]]
"""Name -> ONNX file and the target that it is timed on."""


@dataclass(frozen=True)
class RoundEntrant:
    """One network of a round: its name, the target, and functions that make its workload when it is timed and open
    its profiler (None: that of the target)."""

    name: str
    target: Target
    workload: Callable[[], Workload]
    opener: Callable[[Target, Protocol], Profiler] | None = None


@dataclass(frozen=True)
class Outcome:
    """What one entrant gave in one round: a measurement or the error, and the seconds that both took."""

    entrant: RoundEntrant
    measurement: Measurement | None
    error: InputError | None
    seconds: float
    profiler: Profiler


def why_unmeasurable(target: Target) -> str | None:
    """Say why latency on a target cannot be measured on this machine; None where it can."""
    return RUNTIMES[target.runtime].available()


def round_order(items: Sequence[T], seed: int, number: int) -> list[T]:
    """Shuffle the items of round ``number`` (from 0); ``seed`` and ``number`` decide the order."""
    order = list(items)
    random.Random(f"{seed}/{number}").shuffle(order)
    return order


def measure_round(
    order: Sequence[RoundEntrant],
    protocol: Protocol = ROUND,
    due: Callable[[RoundEntrant], bool] = lambda entrant: True,
) -> Iterator[Outcome]:
    """Measure each entrant once, in the given order; one profiler per target and opener serves the whole round.

    An entrant's InputError is part of its outcome; the round continues.

    Args:
        order: the entrants as :func:`round_order` gives them.
        protocol: of each measurement.
        due: asked right before each measurement; an entrant for which it is false is skipped.
    """
    with ExitStack() as opened:
        profilers: dict[tuple[str, object], Profiler] = {}
        for entrant in order:
            if not due(entrant):
                continue
            key = (str(entrant.target), entrant.opener)
            if key not in profilers:
                profilers[key] = opened.enter_context((entrant.opener or open_profiler)(entrant.target, protocol))
            start = time.monotonic()
            measured, failed = None, None
            try:
                measured = profilers[key].measure(entrant.workload())
            except InputError as error:
                failed = error
            yield Outcome(entrant, measured, failed, time.monotonic() - start, profilers[key])


def one_round(files: Files, seed: int, protocol: Protocol = ROUND) -> dict[str, Measurement]:
    """Measure every file once, each on its target.

    Raises:
        InputError: if a file cannot be measured.
    """
    entrants = [RoundEntrant(name, target, _workload_of(path)) for name, (path, target) in sorted(files.items())]
    found = {}
    for outcome in measure_round(round_order(entrants, seed, 0), replace(protocol, seed=seed)):
        if outcome.measurement is None:
            raise outcome.error or InputError(f"no latency of {outcome.entrant.name}")
        found[outcome.entrant.name] = outcome.measurement
    return found


def _workload_of(path: Path) -> Callable[[], Workload]:
    return lambda: Workload.of_file(path)


def interleaved(
    files: Files, rounds: int, seed: int = 0, update: Update = lambda done, total, text: None
) -> dict[str, Estimate]:
    """Measure files in interleaved rounds.

    Args:
        files: name -> file and target.
        rounds: how many.
        seed: of the orders.
        update: receives the progress after each round.

    Returns:
        Latency in ms of each file, at the nominal speed of the machine during the rounds.

    Raises:
        InputError: if a file cannot be measured.
    """
    measured: dict[str, list[Measurement]] = {name: [] for name in files}
    update(0, rounds, "")
    for number in range(rounds):
        for name, m in one_round(files, seed + number).items():
            measured[name].append(m)
        update(number + 1, rounds, "")
    return estimates(measured)


def estimates(measured: Mapping[str, list[Measurement]]) -> dict[str, Estimate]:
    """Combine the measurements of several files, all at one speed of the machine.

    That speed is the nominal one: the median time of the reference model, per runtime.
    """
    by_target: dict[str, list[Measurement]] = {}
    for of_file in measured.values():
        for m in of_file:
            by_target.setdefault(m.target.runtime, []).append(m)
    nominal = {runtime: nominal_reference_ms(ms) for runtime, ms in by_target.items()}
    return {name: combine_rounds(ms, nominal[ms[0].target.runtime]) for name, ms in measured.items() if ms}


_T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""Student's t for a 95 % interval of 2, 3, … rounds."""


def combine_rounds(measured: Sequence[Measurement], reference_ms: float | None = None) -> Estimate:
    """Combine the rounds of one network into one latency in ms.

    The value is the median m of the rounds' medians x_1 … x_n, each scaled to the nominal speed of the machine. The
    95 % interval is m ± max(t_{n-1} s / √n, m h): s is the standard deviation of the x_i, t Student's quantile, h the
    median of the rounds' own relative half-widths.

    Args:
        measured: one measurement per round.
        reference_ms: the reference model's time at the nominal speed; None leaves the measurements as they are.
    """
    rounds = [m if reference_ms is None else m.at_nominal_speed(reference_ms) for m in measured]
    values = [m.median_ms for m in rounds]
    middle, n = median(values), len(values)
    reach = middle * median(m.half_width for m in rounds)
    if n > 1:
        reach = max(reach, _T95[min(n, len(_T95) + 1) - 2] * stdev(values) / math.sqrt(n))
    m = rounds[0]
    return Estimate("latency_ms", middle, "ms", max(0.0, middle - reach), middle + reach, m.source, str(m.target))
