"""S, M and L chosen anew from a finished study, with other budgets or goals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from latency_db.remote.profiler import measuring_on
from nas.core.references import unnamed_classes
from nas.core.reporter import Reporter
from nas.search.estimation import open_estimators
from nas.search.finalize import FinishedStudy, finalize
from nas.search.measure_baseline import with_measured_budgets
from nas.search.plan import SearchPlan
from nas.search.result import SearchResult
from nas.search.run import open_study, with_goals
from nas.search.run_lock import run_lock
from nas.search.run_supernet import open_supernet, search_data, supernet_source
from nas.search.settings import RUN_FILE, SearchSettings
from nas.search.study_identity import check_existing_study, identity_of
from search_spaces.errors import InputError


def select_again(
    run: Path, budgets: str | None, at_least: str | None, reporter: Reporter, out: Path | None = None
) -> SearchResult:
    """Choose S, M and L anew among the candidates of a study, measure them, and write the files of a selection.

    Nothing is searched. Without budgets and goals, the names are spread over the front.

    Args:
        run: Folder of the search.
        budgets: Budgets as text.
        at_least: Goals as text.
        reporter: Receives notes and progress.
        out: Folder of the files, by default the run's; a numbered one in it if the folder has trained weights of other
            architectures.

    Raises InputError if the study has no candidates, none meets any budget or goal, or ``out`` is another run.
    """
    old = SearchSettings.read(run)
    if out is not None and (out / RUN_FILE).exists():
        if out.resolve() != run.resolve():
            raise InputError(f"--out {out} is another run", f"a new folder, or no --out for {run} itself")
        out = None
    changed = (budgets, at_least) != (old.budgets, old.at_least)
    settings = replace(old, budgets=budgets, at_least=at_least)
    settings = replace(settings, baselines={}, goals={}) if changed else settings
    with measuring_on(settings.on):
        return _select_again(run, settings, reporter, out)


def _select_again(run: Path, settings: SearchSettings, reporter: Reporter, out: Path | None) -> SearchResult:
    plan = SearchPlan.parse(settings).check()
    storage, name = settings.storage_of(run), settings.study_name(run)
    data = search_data(settings, reporter)
    classes = data.classes if data else unnamed_classes(settings.num_classes or 80)
    with run_lock(run):
        check_existing_study(identity_of(plan, data), storage, name)
        source = supernet_source(plan, data, run) if plan.needs_supernet and data is not None else None
        if source is not None and source.ready is None:
            raise InputError(f"{run} has no trained supernet", "a search that has evaluated candidates")
        plan = with_measured_budgets(plan, len(classes), data, reporter)
        supernet = open_supernet(plan, source, data, reporter) if source is not None and data is not None else None
        with open_estimators(plan, len(classes), data, supernet) as estimators:
            plan = with_goals(plan, estimators, reporter)
            study = open_study(plan, storage, name)
            with study.driver:
                result = finalize(FinishedStudy(plan, study, estimators, classes, data, run), reporter, out)
        if out is None and result.folder == run:
            plan.settings.write(run)
    return result
