"""A search from its settings to its files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.runtimes import open_profiler
from nas.core.budgets import BudgetRequest, Budgets, parse_request
from nas.core.compute import device_of
from nas.core.precision_choice import joined
from nas.core.references import unnamed_classes
from nas.core.reporter import Reporter
from nas.core.units import label, quantity
from nas.data.source import DataPair
from nas.estimators import ESTIMATORS
from nas.estimators.base import Context, Estimator
from nas.estimators.by_precision import by_precision
from nas.estimators.latency import Latency
from nas.estimators.predicted_latency import PredictedLatency
from nas.profiling.default_database import default_latency_db
from nas.search.baseline import Baseline
from nas.search.cheap_objectives import cheap_estimators
from nas.search.finalize import Bounds, Live, SearchResult, conclude
from nas.search.measure_baseline import measure_baseline
from nas.search.progress import search_progress
from nas.search.settings import SearchSettings
from nas.search.study import Limits, Study
from nas.supernet.supernet import Supernet
from nas.supernet.weights import load_supernet
from nas.training.data import image_size_of, open_training_data, training_batches
from nas.training.job import TrainJob
from nas.training.train_supernet import train_supernet
from search_spaces.errors import InputError
from search_spaces.references import point_of
from search_spaces.space import SearchSpace


def search(settings: SearchSettings, folder: Path, reporter: Reporter) -> SearchResult:
    """Run, or go on with, a search in ``folder``; S/M/L are measured again before they are written."""
    space = settings.open_space()
    wanted = parse_request(settings.budgets, settings.aims.cost.unit) if settings.budgets else None
    data = open_training_data(settings.data, settings.limit, reporter) if settings.data else None
    classes = data.classes if data else unnamed_classes(settings.num_classes or 80)
    if settings.latency == "predicted":
        _say_error(settings, space, len(classes), reporter)
    supernet = None
    if settings.trains:
        supernet = given_supernet(settings, space, data, folder)
        if supernet is None:
            training_batches(_with_data(data), settings.open_recipe(), image_size_of(space), settings.augment)
    if wanted and wanted.references and not settings.baselines:
        settings = replace(settings, baselines=_baselines(wanted, settings, len(classes), data, reporter))
    budgets_of(settings)
    if not (folder / "run.json").exists():  # only now: what is wrong with the input must not leave a run behind
        settings.write(folder)
    if settings.trains:
        supernet = (supernet or _train_supernet(settings, space, data, folder, reporter)).to(device_of(settings.device))
    with evaluation(settings, len(classes), data, supernet, folder) as (estimators, latency):
        settings = with_goals(settings, space, estimators, reporter)
        bounds = bounds_of(settings)
        study = open_study(settings, settings.storage or folder / "study.journal", settings.study_name(folder), bounds)
        _share(study, settings, folder, data)
        warm_start(study, estimators, settings, reporter)
        with search_progress(reporter) as watch:
            live = Live(settings, study, folder, data.name if data else "", watch)
            study.run(
                estimators,
                settings.trials,
                live,
                settings.first_candidates(),
                settings.early_stop,
                settings.open_stop(),
            )
        if len(study.history.progress) < settings.trials and settings.stop:
            reporter.note(
                f"ended after {len(study.history.progress)} candidates (--stop {settings.stop}): {study.history.progress.rate_text}"
            )
        return conclude(settings, study, estimators, latency, classes, data, bounds, folder, reporter)


def warm_start(study: Study, estimators: Sequence[Estimator], settings: SearchSettings, reporter: Reporter) -> None:
    """:meth:`Study.warm_start`, with its progress shown; nothing where nothing is left to search, or no cost is
    computed."""
    if len(study.history.progress) < settings.trials and cheap_estimators(study.objectives, estimators):
        with reporter.steps("costs that are computed") as update:
            study.warm_start(estimators, update)


def bounds_of(settings: SearchSettings) -> Bounds:
    """Budgets and goals as numbers; those of references were measured before."""
    goals = (
        parse_request(settings.at_least, settings.aims.gain.unit).resolve(settings.goals) if settings.at_least else None
    )
    return Bounds(budgets_of(settings), goals)


def budgets_of(settings: SearchSettings) -> Budgets | None:
    """Budgets as numbers; an error where two are in the wrong order."""
    wanted = parse_request(settings.budgets, settings.aims.cost.unit) if settings.budgets else None
    return wanted.resolve({name: b.latency.value for name, b in settings.baselines.items()}) if wanted else None


def with_goals(
    settings: SearchSettings, space: SearchSpace, estimators: Sequence[Estimator], reporter: Reporter
) -> SearchSettings:
    """With the accuracy of the references that something is to be as accurate as, estimated as a candidate's is."""
    likes = parse_request(settings.at_least, settings.aims.gain.unit).references if settings.at_least else {}
    if not likes or settings.goals:
        return settings
    estimator = next(e for e in estimators if e.name == settings.aims.gain.name)
    goals = {}
    for name, like in likes.items():
        point = joined(
            point_of(space, like.reference), Target.parse(settings.target).precision if settings.precisions else None
        )
        estimate = estimator(point)
        reporter.note(
            f"goal {name}: {like.reference} has {quantity(estimate)} {label(estimate.name)} by the same estimate"
        )
        goals[name] = estimate.value
    return replace(settings, goals=goals)


def open_study(settings: SearchSettings, storage: Path | str, name: str, bounds: Bounds) -> Study:
    """The study of a search, new or begun; an error for one whose candidates in int8 have the accuracy of the float
    subnet, as earlier versions gave them."""
    budgets, goals = ([bound for _, bound in entries] if entries else () for entries in (bounds.budgets, bounds.goals))
    study = Study(
        storage,
        name,
        settings.open_points(),
        settings.objectives,
        settings.sampler,
        settings.seed,
        Limits(settings.open_bounds(), budgets, goals),
    )
    own = next(iter(settings.targets))
    in_int8 = [c for c in study.candidates if (c.precision or own) == "int8"] if "int8" in settings.targets else []
    if any(c[name].target is None for c in in_int8 for name in settings.accuracies if name in c):
        raise InputError(
            f"study {name!r} has candidates in int8 with the accuracy of float",
            "a search of this version",
            "begin it anew",
        )
    return study


@contextmanager
def evaluation(
    settings: SearchSettings, num_classes: int, data: DataPair | None, supernet: Supernet | None, scratch: Path
) -> Iterator[tuple[list[Estimator], Estimator]]:
    """All that a candidate (a point of the settings) is asked, and the measuring of latencies, which may be among
    it."""
    targets = settings.targets
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
            compared_targets=tuple(targets.values()),
        )
        asked = {p: _estimators(replace(context, target=target), settings.estimators) for p, target in targets.items()}
        estimators = [
            by_precision(dict(zip(asked, kind, strict=True)))
            for kind in zip(*(made for made, _ in asked.values()), strict=True)
        ]
        latency = by_precision({p: measuring for p, (_, measuring) in asked.items()})
        try:
            yield estimators, latency
        finally:
            for estimator in (*estimators, latency):
                estimator.close()
            (scratch / "candidate.onnx").unlink(missing_ok=True)


def _estimators(context: Context, names: Sequence[str]) -> tuple[list[Estimator], Latency]:
    """Those with these names in the registry, and the one that measures latencies."""
    estimators = [ESTIMATORS[name](context) for name in names]
    return estimators, next(
        (e for e in estimators if isinstance(e, Latency) and e.name == Latency.name), None
    ) or Latency(context)


def _share(study: Study, settings: SearchSettings, folder: Path, data: DataPair | None) -> None:
    """Says in the study what ``nas worker`` needs. A run goes on where it began: latencies of two devices are not to
    be compared."""
    path = str(Path(settings.supernet or folder / "supernet.safetensors").resolve()) if settings.trains else None
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


def _baselines(
    wanted: BudgetRequest, settings: SearchSettings, num_classes: int, data: DataPair | None, reporter: Reporter
) -> dict[str, Baseline]:
    """The references whose latency is a budget, each measured once, with the classes of the search."""
    measured: dict[str, Baseline] = {}
    with tempfile.TemporaryDirectory() as scratch, LatencyDB(settings.latency_db or default_latency_db()) as database:
        context = Context(
            settings.open_space(), num_classes, data, Target.parse(settings.target), database, scratch=Path(scratch)
        )
        for like in wanted.references.values():
            if str(like) not in measured:
                measured[str(like)] = found = measure_baseline(like, context)
                reporter.note(
                    f"budget {like}: {found} takes {quantity(found.latency)} on {settings.target}, with {num_classes} classes"
                )
    return {name: measured[str(like)] for name, like in wanted.references.items()}


def _say_error(settings: SearchSettings, space: SearchSpace, num_classes: int, reporter: Reporter) -> None:
    """How far predicted latencies can be trusted, before anything is trained; an error where nothing was measured on
    the target."""
    with LatencyDB(settings.latency_db or default_latency_db()) as database:
        for target in settings.targets.values():
            reporter.note(PredictedLatency(Context(space, num_classes, target=target, database=database)).note)


def given_supernet(
    settings: SearchSettings, space: SearchSpace, data: DataPair | None, folder: Path
) -> Supernet | None:
    """The supernet that is named, or that the run has trained already, checked to fit; none where it has yet to be
    trained."""
    data = _with_data(data)
    path = Path(settings.supernet) if settings.supernet else folder / "supernet.safetensors"
    if not settings.supernet and not path.exists():
        return None
    supernet, classes, _ = load_supernet(path)
    if classes != data.classes:
        raise InputError(
            f"{path} was trained for classes {list(classes)}", f"those of the data set: {list(data.classes)}"
        )
    for choice in space.choices:
        if missing := [v for v in choice.values if choice.weights and v not in supernet.space[choice.name].values]:
            raise InputError(
                f"{choice.name} = {missing} of the search",
                f"values the supernet has: {supernet.space[choice.name].values}",
            )
    return supernet


def _train_supernet(
    settings: SearchSettings, space: SearchSpace, data: DataPair | None, folder: Path, reporter: Reporter
) -> Supernet:
    path = folder / "supernet.safetensors"
    job = TrainJob(_with_data(data), settings.open_recipe(), augment=settings.augment, compute=settings.compute())
    return train_supernet(space, job, path, reporter)


def _with_data(data: DataPair | None) -> DataPair:
    if data is None:
        raise InputError(
            "--accuracy supernet without a data set",
            "--data",
            "name a data set, or use a zero-cost score: --accuracy nwot",
        )
    return data
