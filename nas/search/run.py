"""A search from its plan to its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from latency_db.database.db import LatencyDB
from latency_db.remote.profiler import measuring_on
from latency_db.remote.ray_connection import connect
from nas.core.precision_choice import joined
from nas.core.references import unnamed_classes
from nas.core.reporter import Reporter
from nas.core.units import label, quantity
from nas.data.source import DataPair
from nas.estimators.base import Context
from nas.estimators.predicted_latency import PredictedLatency
from nas.profiling.default_database import default_latency_db
from nas.search.accuracy_cache import AccuracyCache, accuracy_url, check_accuracies
from nas.search.cheap_objectives import cheap_estimators
from nas.search.estimation import SearchEstimators, open_estimators
from nas.search.executors.base import Executor
from nas.search.finalize import FinishedStudy, finalize_run
from nas.search.finalize_devices import finalize_devices
from nas.search.finished_run import finished_result
from nas.search.live_front import LiveFront
from nas.search.measure_baseline import with_measured_budgets
from nas.search.open_executor import WorkerSetting, open_executor
from nas.search.plan import SearchPlan, SelectionLimits
from nas.search.progress import search_progress
from nas.search.ranking_check import RankingCheck, check_ranking
from nas.search.refused import limits_kept_if_refused, removed_if_refused
from nas.search.result import SearchResult
from nas.search.run_lock import run_lock
from nas.search.run_supernet import SupernetSource, open_supernet, search_data, supernet_source
from nas.search.settings import RUN_FILE, SearchSettings
from nas.search.study import Limits, Study, TrialEvent
from nas.search.study_identity import StudyIdentity, check_existing_study, identity_of
from nas.supernet.weights import record_of
from nas.training.data import as_trained
from search_spaces.errors import InputError
from search_spaces.references import point_of
from search_spaces.text import counted


@dataclass(frozen=True)
class Prepared:
    """A search that is ready to begin: everything that can be checked without work is checked.

    Args:
        plan: The plan, with the latencies of reference models.
        data: The data set; None without.
        classes: Class names.
        supernet: Where the supernet comes from; None if no estimate needs one.
    """

    plan: SearchPlan
    data: DataPair | None
    classes: tuple[str, ...]
    supernet: SupernetSource | None


def search(settings: SearchSettings, folder: Path, reporter: Reporter, take_over: bool = False) -> SearchResult:
    """Run a search in ``folder``, or resume it; S, M and L are measured again before they are written.

    A finished search is left as it is, and its result is read.

    Args:
        settings: The settings.
        folder: Folder of the run.
        reporter: Receives notes and progress.
        take_over: Whether the process of another machine that drove the study is known to have ended.

    Raises InputError for settings that cannot be carried out, a folder or study in which another search works, or a
    study that is about something else.
    """
    with ExitStack() as stack:
        if settings.ray is not None:
            connect(settings.ray)
        stack.enter_context(measuring_on(settings.on))
        plan = SearchPlan.parse(settings).check()
        if existed := folder.exists():
            stack.enter_context(run_lock(folder))
        if (result := _finished(plan, folder, reporter)) is not None:
            return result
        prepared = _prepare(plan, folder, reporter)
        with limits_kept_if_refused(folder), removed_if_refused(folder, plan.settings) as begin:
            prepared.plan.settings.write(folder)  # only now: an error in the input must not leave a run behind
            if not existed:
                stack.enter_context(run_lock(folder))
            (folder / "candidate.onnx").unlink(missing_ok=True)  # left by a killed search of an older version
            return _search(prepared, folder, reporter, begin, take_over)


def _finished(plan: SearchPlan, folder: Path, reporter: Reporter) -> SearchResult | None:
    result = finished_result(plan, folder) if (folder / RUN_FILE).exists() else None
    if result is not None:
        other = f"other budgets: nas select {folder} --budgets …"
        reporter.note(f"{folder} holds a finished search; more candidates: --total-trials N, {other}")
    return result


def _prepare(plan: SearchPlan, folder: Path, reporter: Reporter) -> Prepared:
    """Open the data, find the supernet, measure reference models: everything that may fail comes before the work."""
    settings = plan.settings
    data = search_data(settings, reporter)
    classes = data.classes if data else unnamed_classes(settings.num_classes or 80)
    named = Path(settings.supernet) if plan.needs_supernet and settings.supernet else None
    identity = identity_of(plan, data, named if named is not None and named.is_file() else None)
    check_existing_study(identity, settings.storage_of(folder), settings.study_name(folder))
    LatencyDB(settings.latency_db or default_latency_db()).close()  # what refuses it comes before any training
    if plan.needs_supernet:
        check_accuracies(accuracy_url(settings.latency_db))
    if settings.latency == "predicted":
        _report_prediction_error(plan, len(classes), reporter)
    supernet = supernet_source(plan, data, folder) if plan.needs_supernet and data is not None else None
    if not settings.others:  # the run of each device measures its own reference models
        plan = with_measured_budgets(plan, len(classes), data, reporter)
    return Prepared(plan, data, classes, supernet)


def _search(
    prepared: Prepared, folder: Path, reporter: Reporter, begin: Callable[[], None], take_over: bool
) -> SearchResult:
    plan, data, source = prepared.plan, prepared.data, prepared.supernet
    supernet = open_supernet(plan, source, data, reporter) if source is not None and data is not None else None
    weights = source.path if source else None
    if (
        supernet is not None and data is not None
    ):  # one that an earlier version trained may have had another augmentation
        data = as_trained(data, record_of(weights), str(weights))
    identity = identity_of(plan, data, weights)
    with open_estimators(plan, len(prepared.classes), data, supernet) as estimators:
        plan = with_goals(plan, estimators, reporter)
        study = open_study(plan, plan.settings.storage_of(folder), plan.settings.study_name(folder), take_over)
        with study.driver, ExitStack() as stack:
            _describe(study, plan, identity, folder, weights)
            accuracies = stack.enter_context(AccuracyCache(plan, identity)) if supernet is not None else None
            if accuracies is not None and not study.candidates:
                _report_ranking(plan, estimators, accuracies, reporter)
            live = LiveFront(plan, study, folder, data.name if data else "")
            fingerprint = data.fingerprint if data else None
            setting = WorkerSetting(plan.settings, len(prepared.classes), weights, fingerprint)
            with open_executor(plan, setting, estimators.candidate, reporter) as executor:
                begin()
                _run_study(study, plan, estimators, reporter, live, executor, accuracies)
            done = FinishedStudy(plan, study, estimators, prepared.classes, data, folder)
            if plan.settings.others:
                return finalize_devices(done, source, reporter)[0][1]
            return finalize_run(done, reporter)


def _run_study(
    study: Study,
    plan: SearchPlan,
    estimators: SearchEstimators,
    reporter: Reporter,
    live: LiveFront,
    executor: Executor,
    accuracies: AccuracyCache | None,
) -> None:
    """Evaluate candidates until the plan has all that it wants.

    Args:
        study: The study.
        plan: Its plan.
        estimators: The estimators of a candidate.
        reporter: Receives the progress.
        live: Writes the front while the search runs.
        executor: Where estimates are made.
        accuracies: Accuracies that earlier searches with the same supernet evaluated; None without a supernet.
    """
    settings, candidate = plan.settings, estimators.candidate
    if len(study.history.progress) < settings.trials and cheap_estimators(study.objectives, candidate):
        with reporter.steps("cheap objectives") as update:
            study.warm_start(candidate, update)
    with search_progress(reporter, len(study.history.progress), settings.trials) as show:

        def watch(event: TrialEvent) -> None:
            show(event)
            live(event)

        study.run(candidate, settings.trials, watch, plan.first, settings.early_stop, plan.enough, executor, accuracies)
    progress = study.history.progress
    if settings.stop and len(progress) < settings.trials:
        reporter.note(
            f"ended after {counted(len(progress), 'candidate')} (--stop {settings.stop}): {progress.rate_text}"
        )


def open_study(plan: SearchPlan, storage: Path | str, name: str, take_over: bool = False) -> Study:
    """Open the study of a plan, new or begun; ``take_over`` as :func:`search` takes it.

    Raises InputError for a study whose int8 candidates have the accuracy of the floating-point subnet, as an earlier
    version evaluated them.
    """
    settings = plan.settings
    limits = SelectionLimits() if settings.others else plan.limits  # each device has its own
    budgets, goals = ([bound for _, bound in entries] if entries else () for entries in (limits.budgets, limits.goals))
    numbers = Limits(plan.bounds, budgets, goals)
    study = Study(storage, name, plan.points, plan.objectives, settings.sampler, settings.seed, numbers, take_over)
    own = plan.target.precision
    in_int8 = [c for c in study.candidates if (c.precision or own) == "int8"] if "int8" in plan.targets else []
    if any(c[name].target is None for c in in_int8 for name in plan.accuracies if name in c):
        raise InputError(
            f"study {name!r} has candidates in int8 with the accuracy of float",
            "a search of this version",
            "begin it anew",
        )
    return study


def with_goals(plan: SearchPlan, estimators: SearchEstimators, reporter: Reporter) -> SearchPlan:
    """Return the plan with the accuracies of the reference models of its goals, by the search's own estimate."""
    if not plan.goals or not plan.goals.references or plan.settings.goals:
        return plan
    estimator = estimators.of(plan.aims.gain.name)
    goals: dict[str, float] = {}
    references = plan.goals.references
    with reporter.steps("estimating the reference models of the goals") as update:
        for name, bound in references.items():
            update(len(goals), len(references), bound.reference)
            precision = plan.target.precision if plan.settings.precisions else None
            estimate = estimator(joined(point_of(plan.space, bound.reference), precision))
            reporter.note(
                f"goal {name}: {bound.reference} has {quantity(estimate)} {label(estimate.name)} by the same estimate"
            )
            goals[name] = estimate.value
            update(len(goals), len(references), bound.reference)
    return plan.with_references(goals=goals)


def _describe(study: Study, plan: SearchPlan, identity: StudyIdentity, folder: Path, weights: Path | None) -> None:
    """Keep in the study what it is about, and check what it keeps already."""
    name = plan.settings.study_name(folder)
    shared = replace(plan.settings, supernet=str(weights.resolve()) if weights else None, name=name)
    record = study.describe(replace(identity, settings=shared).to_dict())
    identity.check_same(StudyIdentity.from_dict(record, name), name)


def _report_prediction_error(plan: SearchPlan, num_classes: int, reporter: Reporter) -> None:
    """Report the error of predicted latencies. Raises InputError if nothing was measured on the target."""
    with LatencyDB(plan.settings.latency_db or default_latency_db()) as database:
        for target in plan.targets.values():
            reporter.note(PredictedLatency(Context(plan.space, num_classes, target=target, database=database)).note)


def _report_ranking(
    plan: SearchPlan, estimators: SearchEstimators, accuracies: AccuracyCache, reporter: Reporter
) -> None:
    """Report whether the supernet's accuracies rank candidates reliably, checked once per supernet and space."""
    if plan.aims.gain.name not in plan.accuracies:
        return
    what = f"ranking by {plan.aims.gain.name} in {plan.points.name} {[list(c.values) for c in plan.points.choices]}"
    if (known := accuracies.find_text(what)) is not None:
        found = None if known == "null" else RankingCheck(**json.loads(known))
    else:
        found = check_ranking(estimators.of(plan.aims.gain.name), plan.points, plan.settings.seed, reporter)
        accuracies.put_text(what, json.dumps(None if found is None else asdict(found)))
    if found is not None:
        (reporter.note if found.reliable else reporter.warning)(str(found))
