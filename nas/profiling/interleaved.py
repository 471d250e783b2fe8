"""Latency of a few files side by side: in rounds, each file once per round, in drawn orders, so that none has one
time of the day to itself."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import Protocol, Workload
from latency_db.core.target import Target
from latency_db.database.db import usual_anchor_ms
from latency_db.runtimes import RUNTIMES, open_profiler
from nas.bench.results import together
from nas.bench.run import ROUND
from nas.core.estimate import Estimate

Files = Mapping[str, tuple[Path, Target]]


def unmeasurable(target: Target) -> str | None:
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
    usual = {runtime: usual_anchor_ms(ms) for runtime, ms in by_target.items()}
    return {name: together(ms, usual[ms[0].target.runtime]) for name, ms in measured.items() if ms}
