"""Runs that are finished: their result is read, and nothing that belongs to it is overwritten."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas.core.architecture_file import Artifact, read_artifact
from nas.core.estimate import Candidate
from nas.search.plan import SearchPlan
from nas.search.report.front_files import Front, read_front
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
    front = _front_of(folder)
    settings = plan.settings
    if front is None or not all((folder / f"{name}.json").exists() for name, _ in front.chosen):
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
    artifacts = tuple(read_artifact(folder / f"{name}.json") for name, _ in front.chosen)
    if any(a.study.trials != len(candidates) for a in artifacts):
        return None
    return SearchResult(candidates, selection_of(plan, artifacts), artifacts, folder)


def _front_of(folder: Path) -> Front | None:
    path = folder / "front.json"
    front = read_front(path) if path.exists() else None
    return front if front is not None and front.chosen else None


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


def free_folder(folder: Path, artifacts: Sequence[Artifact]) -> Path:
    """Return where the files of a selection may go: ``folder``, or its first free ``selection-N`` if trained weights of
    another architecture are beside one of the names, or beside a name that the selection has no more."""
    wanted = {a.name: (a.architecture, a.precision) for a in artifacts}
    for name in {*wanted, *_names_in(folder)}:
        file = folder / f"{name}.json"
        if file.with_suffix(".safetensors").exists() and file.exists():
            old = read_artifact(file)
            if (old.architecture, old.precision) != wanted.get(name):
                number = 2
                while (folder / f"selection-{number}").exists():
                    number += 1
                return folder / f"selection-{number}"
    return folder


def remove_stale(folder: Path, artifacts: Sequence[Artifact]) -> None:
    """Remove the architecture files of names that the selection before had, and this one has not."""
    for name in _names_in(folder) - {a.name for a in artifacts}:
        (folder / f"{name}.json").unlink(missing_ok=True)


def _names_in(folder: Path) -> set[str]:
    front = _front_of(folder)
    return set() if front is None else {name for name, _ in front.chosen}
