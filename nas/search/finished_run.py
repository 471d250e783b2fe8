"""Runs that are finished: their result is read, and nothing that belongs to it is overwritten."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas.core.architecture_file import Artifact, read_artifact
from nas.core.estimate import Candidate
from nas.search.chosen_files import chosen_files, folder_of, front_of_run, own_names
from nas.search.plan import SearchPlan
from nas.search.result import SearchResult
from nas.search.selection import Pick, Selection
from nas.search.storage import storage_errors
from nas.search.study_history import StudyHistory
from nas.search.study_reader import REMEASURED, load_readonly, with_remeasured
from nas.search.trial_parameters import TrialParameters

LIMITS = "selection"
"""Note of ``front.json``: budgets and goals that S, M and L were chosen with."""


def finished_result(plan: SearchPlan, folder: Path) -> SearchResult | None:
    """Return the result of a search that is finished; None if something is left to do.

    Finished means: all trials were run or the stop rule held, S, M and L were chosen among exactly the candidates of
    the study with the plan's budgets and goals, and their files are there. Raises InputError for files that are
    damaged.
    """
    front = front_of_run(folder)
    settings = plan.settings
    files = chosen_files(folder)
    if front is None or not files or not all(path.exists() for path in files.values()):
        return None
    limits = front.notes.get(LIMITS)
    if limits is not None and limits != {"budgets": settings.budgets, "at_least": settings.at_least}:
        return None
    storage, name = settings.storage_of(folder), settings.study_name(folder)
    with storage_errors(storage):
        if (study := load_readonly(storage, name)) is None:
            return None
        history = StudyHistory(plan.objectives, settings.seed, TrialParameters(plan.points))
        history.read(study.get_trials(deepcopy=False))
        candidates = tuple(with_remeasured(history.candidates, study.user_attrs.get(REMEASURED, {})))
    progress = history.progress
    if len(progress) < min(settings.trials, plan.points.size) and not plan.enough(progress):
        return None
    artifacts = tuple(read_artifact(path) for path in files.values())
    if any(a.study.trials != len(candidates) for a in artifacts):
        return None
    return SearchResult(candidates, selection_of(plan, artifacts), artifacts, folder_of(folder, front))


def selection_of(plan: SearchPlan, artifacts: Sequence[Artifact]) -> Selection:
    """Return the picks of a run from their files."""
    limits = plan.limits.budgets
    budgets = dict(limits.entries) if limits is not None else {}
    picks = tuple(
        Pick(
            a.name,
            Candidate(a.architecture, a.estimates, a.study.trial, a.precision if plan.settings.precisions else None),
            budgets.get(a.name),
        )
        for a in artifacts
    )
    return Selection(picks, plan.aims.cost.name, plan.aims.gain.name, confirmed=True)


def remove_stale(folder: Path, artifacts: Sequence[Artifact]) -> None:
    """Remove the architecture files of names that the selection before had, and this one has not."""
    for name in own_names(folder) - {a.name for a in artifacts}:
        (folder / f"{name}.json").unlink(missing_ok=True)
