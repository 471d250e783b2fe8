"""Run a bench: many models on one or two targets, in interleaved rounds.

1. The settings (models, targets, versions, devices) are compared with the journal in the folder; the measurements that
   the journal holds are kept.
2. Each round measures every model once on every target, in a random order (:mod:`nas.profiling.interleaved`). Every
   measurement goes to the journal at once.
3. With an int8 target and a data set, the trained weights among the models are quantized and evaluated
   (:mod:`nas.bench.int8_drops`).
4. The rounds are combined (:func:`nas.bench.results.bench_result`).
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

from latency_db.core.profiler import Profiler, Protocol, Workload
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.runtimes import open_profiler
from nas.bench.int8_drops import measure_drops
from nas.bench.journal import BenchJournal
from nas.bench.results import BenchModel, BenchRecord, BenchResult, BenchSettings, bench_result
from nas.core.reporter import Reporter
from nas.data.source import DataPair
from nas.data.transforms import AREA
from nas.profiling.end_to_end import end_to_end
from nas.profiling.interleaved import ROUND, Outcome, RoundEntrant, measure_round, round_order
from nas.profiling.scene import Scene
from nas.profiling.workload import latency_workload
from search_spaces.errors import InputError
from search_spaces.spaces import space_of


@dataclass(frozen=True)
class BenchRequest:
    """What a bench measures.

    Attributes:
        models: who takes part.
        targets: one, or two of the same runtime (the second: int8).
        folder: of the journal and the results; a bench that was interrupted there is resumed.
        rounds: how often each model is measured on each target.
        seed: of the order in each round.
        data: images that int8 is calibrated with, and that trained weights are evaluated on.
        scene: images on which the way from a decoded image to detections is timed, shrunk as each model has it; None:
            the networks alone are timed.
    """

    models: Sequence[BenchModel]
    targets: Sequence[Target]
    folder: Path
    rounds: int = 3
    seed: int = 0
    data: DataPair | None = None
    scene: Scene | None = None

    def __post_init__(self) -> None:
        for model in self.models:
            model.network.image_size.check(model.name)

    def key(self, model: BenchModel) -> str:
        """Return the content key of what is timed of a model."""
        usual = self.scene is None or model.interpolation == AREA
        return model.network.key if usual else f"{model.network.key}/{model.interpolation}"


@dataclass(frozen=True)
class PlannedMeasurement:
    """One measurement of the plan: the round (from 0), the model's name, the target as text."""

    round: int
    model: str
    target: str


def measurement_plan(settings: BenchSettings) -> list[PlannedMeasurement]:
    """List all measurements in their order: in each round every model on every target, shuffled anew."""
    pairs = [(name, target) for name in settings.models for target in settings.targets]
    return [
        PlannedMeasurement(number, name, target)
        for number in range(settings.rounds)
        for name, target in round_order(pairs, settings.seed, number)
    ]


def run_bench(
    request: BenchRequest, reporter: Reporter, database: LatencyDB | None = None, protocol: Protocol = ROUND
) -> BenchResult:
    """Measure the models, or resume the bench in the request's folder.

    A model that fails is reported and left out of the rounds that follow; the same command tries it again later.

    Args:
        request: what is measured.
        reporter: receives a line per measurement.
        database: latencies are kept there besides the journal.
        protocol: of each measurement.

    Raises:
        InputError: if all models fail, or if the folder is damaged or holds a bench of other settings.
    """
    settings, machine = _describe(request)
    journal = BenchJournal(request.folder)
    records = journal.begin(settings)
    plan = measurement_plan(settings)
    with tempfile.TemporaryDirectory() as scratch, reporter.steps("bench") as update:

        def begin(number: int, entrant: RoundEntrant) -> None:
            position = plan.index(PlannedMeasurement(number, entrant.name, str(entrant.target)))
            update(position, len(plan), f"{entrant.name} on {entrant.target}")

        for number, outcome in _outcomes(request, settings, records, protocol, Path(scratch), begin):
            record = _record(number, outcome)
            records.append(record)
            journal.append(record)
            if database is not None and record.measurement is not None and outcome.profiler.measures:
                database.put(outcome.profiler.key(record.measurement.workload), record.measurement)
            reporter.note(_progress(record, plan, records, settings))
        update(len(plan), len(plan), "")
    if all(record.measurement is None for record in records):
        raise InputError(f"none of {len(request.models)} models could be measured, the first: {records[0].failure}")
    second = request.targets[1] if len(request.targets) > 1 else None
    drops = {}
    if second is not None and second.precision == "int8" and request.data is not None:
        drops = measure_drops(request.models, second, request.data, request.folder, reporter)
    return bench_result(settings, request.models, records, machine, drops)


def _outcomes(
    request: BenchRequest,
    settings: BenchSettings,
    records: list[BenchRecord],
    protocol: Protocol,
    scratch: Path,
    begin: Callable[[int, RoundEntrant], None],
) -> Iterator[tuple[int, Outcome]]:
    """Measure what the records lack, round by round; ``records`` grows while this runs. ``begin`` is called with the
    number of the round right before each measurement."""
    openers = _openers(request)
    entrants = [
        RoundEntrant(
            model.name, target, partial(_workload, model, target, request.data, scratch), openers[model.interpolation]
        )
        for model in request.models
        for target in request.targets
    ]
    for number in range(settings.rounds):
        due = partial(_due, number, records, begin)
        seeded = replace(protocol, seed=settings.seed + number)
        for outcome in measure_round(round_order(entrants, settings.seed, number), seeded, due):
            yield number, outcome


def _openers(request: BenchRequest) -> dict[str, Callable[[Target, Protocol], Profiler] | None]:
    """What opens the profiler of a model, by its interpolation; None where the networks alone are timed."""
    scene, kinds = request.scene, {model.interpolation for model in request.models}
    return {how: None if scene is None else end_to_end(scene.interpolated(how)) for how in kinds}


def _workload(model: BenchModel, target: Target, data: DataPair | None, scratch: Path) -> Workload:
    architecture, classes = model.network.architecture, model.network.classes
    sized = replace(target, image_size=model.network.image_size)
    return latency_workload(space_of(architecture), architecture, classes, sized, scratch, data)


def _record(number: int, outcome: Outcome) -> BenchRecord:
    failure = "" if outcome.error is None else str(outcome.error)
    name, target = outcome.entrant.name, str(outcome.entrant.target)
    return BenchRecord(number, name, target, outcome.measurement, failure, outcome.seconds)


def _due(
    number: int, records: Sequence[BenchRecord], begin: Callable[[int, RoundEntrant], None], entrant: RoundEntrant
) -> bool:
    """Whether a measurement is still missing, and the model has not failed on the target; if so, announce it."""
    due = _missing(PlannedMeasurement(number, entrant.name, str(entrant.target)), records)
    if due:
        begin(number, entrant)
    return due


def _missing(planned: PlannedMeasurement, records: Sequence[BenchRecord]) -> bool:
    return not any(
        (r.model, r.target) == (planned.model, planned.target) and (r.round == planned.round or r.failure)
        for r in records
    )


def _progress(
    record: BenchRecord,
    plan: Sequence[PlannedMeasurement],
    records: Sequence[BenchRecord],
    settings: BenchSettings,
) -> str:
    """One line: position in the plan, time left, result."""
    position = plan.index(PlannedMeasurement(record.round, record.model, record.target)) + 1
    left = [planned for planned in plan[position:] if _missing(planned, records)]
    who = record.model if len(settings.targets) < 2 else f"{record.model} on {record.target}"
    m = record.measurement
    result = (
        f"{who} failed: {record.failure}"
        if m is None
        else f"{who}: {m.median_ms:.3f} ms ± {m.half_width:.1%}, {m.verdict}"
    )
    return (
        f"{position}/{len(plan)} (round {record.round + 1} of {settings.rounds}, ETA {_eta(left, records)})  {result}"
    )


def _eta(left: Sequence[PlannedMeasurement], records: Sequence[BenchRecord]) -> str:
    """Estimate the time left from what each model took before, or from the mean of all."""
    took: dict[tuple[str, str], list[float]] = {}
    for record in records:
        took.setdefault((record.model, record.target), []).append(record.seconds)
    overall = mean(record.seconds for record in records)
    seconds = sum(mean(took.get((planned.model, planned.target), [overall])) for planned in left)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def partial_result(models: Sequence[BenchModel], folder: Path) -> BenchResult:
    """Read the result of an interrupted bench from its journal, also one of another machine; nothing is measured.

    Models without a record are left out.

    Raises:
        InputError: if there is no journal, it is damaged, or these models are not those that it measured.
    """
    settings, records = BenchJournal(folder).read()
    present = [m for m in models if any(record.model == m.name for record in records)]
    if other := [
        m.name for m in present if settings.models.get(m.name, "").removesuffix(f"/{m.interpolation}") != m.network.key
    ]:
        raise InputError(
            f"{folder} measured other networks as {', '.join(other)}",
            "the models that it began with, at its image size",
        )
    measured = next((record.measurement for record in records if record.measurement), None)
    if not present or measured is None:
        raise InputError(f"nothing was measured in {folder} so far", "a bench with a finished measurement")
    environment = measured.environment
    machine = {
        "program": version("hw-nas-yolo"),
        "python": environment.get("python", ""),
        "system": environment.get("system", ""),
        "runtime": environment.get("runtime_version", ""),
        "device": environment.get("device", {}),
    }
    rounds = 1 + max(record.round for record in records)
    keys = {m.name: m.network.key for m in present}
    return bench_result(replace(settings, models=keys, rounds=rounds), present, records, machine)


def _describe(request: BenchRequest) -> tuple[BenchSettings, Mapping[str, Any]]:
    """The settings and the machine as in ``bench.json``; raises InputError where a target cannot be used here."""
    versions, devices = {}, {}
    for target in request.targets:
        with end_to_end(request.scene)(target, None) if request.scene else open_profiler(target) as profiler:
            versions[str(target)], devices[str(target)] = profiler.version(), profiler.fingerprint()
    data = request.data
    settings = BenchSettings(
        targets=tuple(map(str, request.targets)),
        models={m.name: request.key(m) for m in request.models},
        rounds=request.rounds,
        seed=request.seed,
        data=f"{data.name} {data.fingerprint}" if data else None,
        versions=versions,
        devices={target: device.id for target, device in devices.items()},
    )
    first = str(request.targets[0])
    machine = {
        "program": version("hw-nas-yolo"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "runtime": versions[first],
        "device": devices[first].to_dict(),
    }
    return settings, machine
