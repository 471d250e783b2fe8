"""A search from its settings to its files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latency_db.db import LatencyDB
from latency_db.runtimes import open_profiler
from latency_db.target import Target
from nas.artifact import Artifact, DataRecord, StudyRecord, write_artifact
from nas.baseline import Baseline, compare
from nas.budgets import Budgets, Wanted, parse_wanted
from nas.console import Display
from nas.data.source import DataPair
from nas.estimate import Candidate
from nas.estimators import ESTIMATORS
from nas.estimators.base import Context, Estimator
from nas.estimators.latency import Latency
from nas.estimators.predicted_latency import PredictedLatency
from nas.models import NO_DATA, unnamed_classes
from nas.report.frontier import frontier_data, write_frontier
from nas.report.quantities import quantity
from nas.report.tables import Front, write_front
from nas.selection import Selection, confirm, select
from nas.study import Study
from nas.supernet import Supernet
from nas.training.precision import device_of
from nas.weights import load_supernet
from nas.workflow.measuring import default_latency_db, measure_baseline
from nas.workflow.settings import SearchSettings
from nas.workflow.training import image_size_of, open_training_data, train_supernet, training_batches
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace


@dataclass(frozen=True)
class SearchResult:
    """What a search gives: everything evaluated, and the chosen."""

    candidates: tuple[Candidate, ...]
    selection: Selection
    artifacts: tuple[Artifact, ...]


def search(settings: SearchSettings, folder: Path, display: Display) -> SearchResult:
    """Run, or go on with, a search in ``folder``; S/M/L are measured again before they are written."""
    space = settings.open_space()
    wanted = parse_wanted(settings.budgets) if settings.budgets else None
    data = open_training_data(settings.data, settings.limit, display) if settings.data else None
    classes = data.classes if data else unnamed_classes(settings.num_classes or 80)
    if settings.latency == "predicted":
        _say_error(settings, space, len(classes), display)
    supernet = None
    if settings.accuracy == "supernet":
        supernet = given_supernet(settings, space, data, folder)
        if supernet is None:
            training_batches(_with_data(data), settings.open_recipe(), image_size_of(space), settings.augment)
    if wanted and wanted.likes and not settings.baselines:
        settings = replace(settings, baselines=_baselines(wanted, settings, len(classes), data, display))
    budgets = wanted.resolve({name: b.latency.value for name, b in settings.baselines.items()}) if wanted else None
    if not (folder / "run.json").exists():  # only now: what is wrong with the input must not leave a run behind
        settings.write(folder)
    if settings.accuracy == "supernet":
        supernet = (supernet or _train_supernet(settings, space, data, folder, display)).to(device_of(settings.device))
    study = open_study(settings, settings.storage or folder / "study.journal", settings.study_name(folder), budgets)
    with evaluation(settings, len(classes), data, supernet, folder) as (estimators, latency):
        _share(study, settings, folder, data)
        with display.search() as watch:
            study.run(estimators, settings.trials, watch, settings.first_candidates())
        return _conclude(settings, study, latency, classes, data, budgets, folder, display)


def open_study(settings: SearchSettings, storage: Path | str, name: str, budgets: Budgets | None) -> Study:
    """The study of a search, new or begun."""
    bounds = [bound for _, bound in budgets] if budgets else ()
    return Study(storage, name, settings.open_space(), settings.objectives, settings.sampler, settings.seed, settings.open_bounds(), bounds)


@contextmanager
def evaluation(
    settings: SearchSettings, num_classes: int, data: DataPair | None, supernet: Supernet | None, scratch: Path
) -> Iterator[tuple[list[Estimator], Latency]]:
    """All that a candidate is asked, and the measuring of latencies, which may be among it."""
    with LatencyDB(settings.latency_db or default_latency_db()) as database:
        context = Context(
            settings.open_space(),
            num_classes,
            data,
            Target.parse(settings.target),
            database,
            supernet,
            settings.device,
            settings.eval_images,
            seed=settings.seed,
            scratch=scratch,
        )
        estimators = [ESTIMATORS[name](context) for name in settings.estimators]
        latency = next((e for e in estimators if isinstance(e, Latency)), None) or Latency(context)
        try:
            yield estimators, latency
        finally:
            for estimator in (*estimators, latency):
                estimator.close()
            (scratch / "candidate.onnx").unlink(missing_ok=True)


def _share(study: Study, settings: SearchSettings, folder: Path, data: DataPair | None) -> None:
    """Says in the study what ``nas worker`` needs. A run goes on where it began: latencies of two devices are not to be compared."""
    path = str(Path(settings.supernet or folder / "supernet.safetensors").resolve()) if settings.accuracy == "supernet" else None
    shared = replace(settings, supernet=path, name=settings.study_name(folder)).to_dict()
    here = device_id(settings)
    check_device(study.describe({"settings": shared, "data": data.fingerprint if data else None, "device": here}), here)


def device_id(settings: SearchSettings) -> str | None:
    """What this machine is, where latencies are measured on it."""
    if settings.latency != "measured":
        return None
    with open_profiler(Target.parse(settings.target)) as profiler:
        return profiler.fingerprint().id


def check_device(record: Mapping[str, Any], here: str | None) -> None:
    """An error where the study's latencies are those of another device than :func:`device_id` says."""
    there = record.get("device")
    if here and there and here != there:
        hint = "run it on such a device, or search anew here (with --latency predicted, any machine can take part)"
        raise InputError(f"this device ({here}) is not the one whose latencies the study holds", there, hint)


def _conclude(
    settings: SearchSettings,
    study: Study,
    latency: Latency,
    classes: tuple[str, ...],
    data: DataPair | None,
    budgets: Budgets | None,
    folder: Path,
    display: Display,
) -> SearchResult:
    cost, gain = settings.objectives
    if not study.archive.front:
        first = study.failures[0][1] if study.failures else "no trial was run"
        raise InputError(f"no candidate was evaluated ({len(study.failures)} failed or outside a bound, the first: {first})", "at least one")
    display.note("measuring the chosen again, each in a fresh process")
    # Every candidate, not the front alone: where noise put a pick over its budget, the next one may lie behind the front.
    selection = confirm(select(study.candidates, cost.name, gain.name, budgets), lambda c: latency.again(c.architecture))
    for note in (*selection.notes, *(f"{r.name}: {r.before.id} was replaced, {r.reason}" for r in selection.replaced)):
        display.note(note)
    record = DataRecord(data.name, data.fingerprint) if data else NO_DATA
    comparisons = {c.name: c for c in compare(settings.baselines, selection)}
    for comparison in comparisons.values():
        display.note(str(comparison))
    artifacts = []
    for pick in selection:
        c = pick.candidate
        origin = StudyRecord(settings.study_name(folder), settings.seed, c.trial, len(study.candidates))
        gained = (comparisons[pick.name].speed_up,) if pick.name in comparisons else ()
        artifacts.append(Artifact(pick.name, c.architecture, (*c.estimates, *gained), origin, classes, record))
        write_artifact(folder / f"{pick.name}.json", artifacts[-1])
    write_outputs(settings, study.candidates, study, selection, folder, data.name if data else "")
    return SearchResult(tuple(study.candidates), selection, tuple(artifacts))


def write_outputs(settings: SearchSettings, candidates: list[Candidate], study: Study, selection: Selection, folder: Path, data_name: str) -> None:
    """``front.json``, ``front.csv``, ``frontier.html``, ``frontier.png``."""
    cost, gain = settings.objectives
    archive = study.archive
    chosen = tuple((pick.name, pick.candidate.id) for pick in selection)
    write_front(folder, Front((cost, gain), archive.front, chosen, archive.hypervolume, archive.reference, compare(settings.baselines, selection)))
    data = frontier_data(
        candidates,
        cost,
        gain,
        selection=selection,
        target=settings.target,
        data_set=data_name,
        hypervolume=archive.hypervolume,
        title=f"Efficiency frontier: {settings.space}",
    )
    write_frontier(folder, data)


def _baselines(wanted: Wanted, settings: SearchSettings, num_classes: int, data: DataPair | None, display: Display) -> dict[str, Baseline]:
    """The references whose latency is a budget, each measured once, with the classes of the search."""
    measured: dict[str, Baseline] = {}
    with tempfile.TemporaryDirectory() as scratch, LatencyDB(settings.latency_db or default_latency_db()) as database:
        context = Context(settings.open_space(), num_classes, data, Target.parse(settings.target), database, scratch=Path(scratch))
        for like in wanted.likes.values():
            if str(like) not in measured:
                measured[str(like)] = found = measure_baseline(like, context)
                display.note(f"budget {like}: {found} takes {quantity(found.latency)} on {settings.target}, with {num_classes} classes")
    return {name: measured[str(like)] for name, like in wanted.likes.items()}


def _say_error(settings: SearchSettings, space: SearchSpace, num_classes: int, display: Display) -> None:
    """How far predicted latencies can be trusted, before anything is trained; an error where nothing was measured on the target."""
    with LatencyDB(settings.latency_db or default_latency_db()) as database:
        display.note(PredictedLatency(Context(space, num_classes, target=Target.parse(settings.target), database=database)).note)


def given_supernet(settings: SearchSettings, space: SearchSpace, data: DataPair | None, folder: Path) -> Supernet | None:
    """The supernet that is named, or that the run has trained already, checked to fit; none where it has yet to be trained."""
    data = _with_data(data)
    path = Path(settings.supernet) if settings.supernet else folder / "supernet.safetensors"
    if not settings.supernet and not path.exists():
        return None
    supernet, classes, _ = load_supernet(path)
    if classes != data.classes:
        raise InputError(f"{path} was trained for classes {list(classes)}", f"those of the data set: {list(data.classes)}")
    for choice in space.choices:
        if missing := [v for v in choice.values if choice.weights and v not in supernet.space[choice.name].values]:
            raise InputError(f"{choice.name} = {missing} of the search", f"values the supernet has: {supernet.space[choice.name].values}")
    return supernet


def _train_supernet(settings: SearchSettings, space: SearchSpace, data: DataPair | None, folder: Path, display: Display) -> Supernet:
    path = folder / "supernet.safetensors"
    return train_supernet(space, _with_data(data), settings.open_recipe(), path, display, settings.open_means())


def _with_data(data: DataPair | None) -> DataPair:
    if data is None:
        raise InputError("--accuracy supernet without a data set", "--data", "name a data set, or use a zero-cost score: --accuracy nwot")
    return data
