"""Many models on one target, in rounds: every round measures each of them once, in an order of its own, and every
measurement is kept at once."""

from __future__ import annotations

import platform
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

from latency_db.core.profiler import Profiler, Protocol
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.runtimes import open_profiler
from nas.bench.int8_drops import measure_drops
from nas.bench.results import BenchModel, BenchRecord, BenchResult, BenchSettings, bench_result
from nas.core.journal import Journal
from nas.core.reporter import Reporter
from nas.data.source import DataPair
from nas.profiling.interleaved import ROUND
from nas.profiling.workload import latency_workload
from search_spaces.errors import InputError
from search_spaces.spaces import space_of

JOURNAL = "bench.jsonl"
JOURNAL_VERSION = 1


@dataclass(frozen=True)
class PlannedMeasurement:
    """One model's turn: round from 0, the model's name, the target as text."""

    round: int
    model: str
    target: str


def measurement_plan(settings: BenchSettings) -> list[PlannedMeasurement]:
    """All turns in their order: in each round every model on every target, shuffled anew, so that no model has one
    time of the day to itself."""
    jobs = []
    for number in range(settings.rounds):
        turns = [PlannedMeasurement(number, model, target) for model in settings.models for target in settings.targets]
        random.Random(f"{settings.seed}/{number}").shuffle(turns)
        jobs += turns
    return jobs


def run_bench(
    models: Sequence[BenchModel],
    targets: Sequence[Target],
    folder: Path,
    reporter: Reporter,
    *,
    rounds: int = 3,
    seed: int = 0,
    data: DataPair | None = None,
    database: LatencyDB | None = None,
    protocol: Protocol = ROUND,
) -> BenchResult:
    """Measure ``models`` on ``targets``, or go on where an earlier call with this ``folder`` was ended.

    ``data``: images that int8 is calibrated with, and evaluated on where models bring weights
    (:mod:`nas.bench.int8_drops`). ``database``: where the figures go besides the folder. A model that fails is named
    and left out of the rounds that follow; the same command later tries it again. InputError if all fail, and for a
    folder that is damaged or of other settings.
    """
    settings, machine = _describe(models, targets, rounds, seed, data)
    journal = BenchJournal(folder / JOURNAL)
    turns = journal.begin(settings)
    by_name = {m.name: m for m in models}
    jobs = measurement_plan(settings)
    with tempfile.TemporaryDirectory() as scratch:
        for number, of_round in groupby(enumerate(jobs, 1), key=lambda item: item[1].round):
            with ExitStack() as opened:
                seeded = replace(protocol, seed=seed + number)
                profilers = {str(t): opened.enter_context(open_profiler(t, seeded)) for t in targets}
                for i, job in of_round:
                    if not _due(job, turns):
                        continue
                    turn = _measure(job, by_name[job.model], profilers[job.target], data, Path(scratch), database)
                    turns.append(turn)
                    journal.append(turn)
                    left = [later for later in jobs[i:] if _due(later, turns)]
                    reporter.note(
                        f"{i}/{len(jobs)} (round {number + 1} of {rounds}, ETA {_eta(left, turns)})  {_said(turn, settings)}"
                    )
    if all(turn.measurement is None for turn in turns):
        raise InputError(f"none of {len(models)} models could be measured, the first: {turns[0].failure}")
    second = targets[1] if len(targets) > 1 else None
    lost = (
        measure_drops(models, second, data, folder, reporter)
        if second is not None and second.precision == "int8" and data is not None
        else {}
    )
    return bench_result(settings, models, turns, machine, lost)


def partial_result(models: Sequence[BenchModel], folder: Path) -> BenchResult:
    """What the journal of an interrupted bench says, also of one that another machine began; nothing is measured.
    Models without a turn are left out.

    InputError where there is no journal, it is damaged, or these models are not those that it measured.
    """
    journal = BenchJournal(folder / JOURNAL)
    settings, turns = journal.read()
    taken = [m for m in models if any(turn.model == m.name for turn in turns)]
    if other := [m.name for m in taken if settings.models.get(m.name) != m.network.key]:
        raise InputError(
            f"{folder} measured other networks as {', '.join(other)}",
            "the models that it began with, at its image size",
        )
    measured = next((turn.measurement for turn in turns if turn.measurement), None)
    if not taken or measured is None:
        raise InputError(f"nothing was measured in {folder} so far", "a bench with a finished turn")
    said = measured.environment
    machine = {
        "program": version("hw-nas-yolo"),
        "python": said.get("python", ""),
        "system": said.get("system", ""),
        "runtime": said.get("runtime_version", ""),
        "device": said.get("device", {}),
    }
    rounds = 1 + max(turn.round for turn in turns)
    return bench_result(
        replace(settings, models={m.name: m.network.key for m in taken}, rounds=rounds), taken, turns, machine
    )


def _describe(
    models: Sequence[BenchModel], targets: Sequence[Target], rounds: int, seed: int, data: DataPair | None
) -> tuple[BenchSettings, dict[str, Any]]:
    """The settings, and the machine as ``bench.json`` has it; an error now where a target cannot be used here."""
    versions, devices = {}, {}
    for target in targets:
        with open_profiler(target) as profiler:
            versions[str(target)], devices[str(target)] = profiler.version(), profiler.fingerprint()
    settings = BenchSettings(
        targets=tuple(map(str, targets)),
        models={m.name: m.network.key for m in models},
        rounds=rounds,
        seed=seed,
        data=f"{data.name} {data.fingerprint}" if data else None,
        versions=versions,
        devices={target: device.id for target, device in devices.items()},
    )
    machine = {
        "program": version("hw-nas-yolo"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "runtime": versions[str(targets[0])],
        "device": devices[str(targets[0])].to_dict(),
    }
    return settings, machine


def _due(job: PlannedMeasurement, turns: Sequence[BenchRecord]) -> bool:
    """Whether a turn is still to be taken: it was not, and the model has not failed on the target."""
    return not any(
        (t.model, t.target) == (job.model, job.target) and (t.round == job.round or t.failure) for t in turns
    )


def _measure(
    job: PlannedMeasurement,
    model: BenchModel,
    profiler: Profiler,
    data: DataPair | None,
    scratch: Path,
    database: LatencyDB | None,
) -> BenchRecord:
    start = time.monotonic()
    network = model.network
    sized = replace(profiler.target, image_size=network.image_size)
    space = space_of(network.architecture)
    workload = latency_workload(space, network.architecture, network.classes, sized, scratch, data)
    try:
        measured = profiler.measure(workload)
    except InputError as error:  # of this model or of the run; the others go on
        return BenchRecord(job.round, job.model, job.target, failure=str(error), seconds=time.monotonic() - start)
    if database is not None and profiler.measures:
        database.put(profiler.key(workload.key), measured)
    return BenchRecord(job.round, job.model, job.target, measured, seconds=time.monotonic() - start)


def _said(turn: BenchRecord, settings: BenchSettings) -> str:
    who = turn.model if len(settings.targets) < 2 else f"{turn.model} on {turn.target}"
    if turn.measurement is None:
        return f"{who} failed: {turn.failure}"
    m = turn.measurement
    return f"{who}: {m.median_ms:.3f} ms ± {m.half_width:.1%}, {m.verdict}"


def _eta(left: Sequence[PlannedMeasurement], turns: Sequence[BenchRecord]) -> str:
    """By what each model took before, or all of them on average."""
    took: dict[tuple[str, str], list[float]] = {}
    for turn in turns:
        took.setdefault((turn.model, turn.target), []).append(turn.seconds)
    usual = mean(turn.seconds for turn in turns)
    seconds = sum(mean(took.get((job.model, job.target), [usual])) for job in left)
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


class BenchJournal:
    """A bench's file of lines: its settings, then every turn as soon as it was taken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = Journal(path)

    def begin(self, settings: BenchSettings) -> list[BenchRecord]:
        """What was measured already; InputError if that was with other settings, or if the file is damaged. Failures
        are not kept: they get a new try."""
        lines = self._lines.read()
        if not lines:
            self._lines.start({"bench": JOURNAL_VERSION, **settings.to_dict()})
            return []
        first, *others = lines
        if first.get("bench") != JOURNAL_VERSION:
            raise InputError(f"{self.path} is not the journal of a bench of this version", hint="take another --out")
        if differences := settings.differences(first):
            hint = "repeat its settings to go on with it, or take another --out"
            raise InputError(f"{self.path.parent} holds a bench of other settings: {'; '.join(differences)}", hint=hint)
        turns = [self._turn(data, i) for i, data in enumerate(others, 2)]
        return [turn for turn in turns if turn.measurement is not None]

    def read(self) -> tuple[BenchSettings, list[BenchRecord]]:
        """What was asked and what was measured, whatever was asked for; InputError if there is no journal, or it is
        damaged."""
        lines = self._lines.read()
        if not lines:
            raise InputError(f"no bench in {self.path.parent}", "the folder of one that was begun")
        first, *others = lines
        try:
            settings = BenchSettings(
                **{
                    **{name: value for name, value in first.items() if name != "bench"},
                    "targets": tuple(first["targets"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"{self.path} is not the journal of a bench of this version ({error})") from None
        return settings, [self._turn(data, i) for i, data in enumerate(others, 2)]

    def append(self, turn: BenchRecord) -> None:
        """Keep a turn; once this returns, a kill loses nothing of it."""
        self._lines.append(turn.to_dict())

    def _turn(self, data: Mapping[str, Any], number: int) -> BenchRecord:
        try:
            return BenchRecord.from_dict(data)
        except (InputError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"line {number} of {self.path} is no turn of a bench ({error})",
                hint="remove that line, or take another --out",
            ) from None
