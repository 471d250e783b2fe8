"""Everything that a run's folder and study hold, read once and not changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from optuna.trial import FrozenTrial

from nas.core.architecture_file import Artifact, read_artifact
from nas.core.estimate import Candidate, Estimate, Objective
from nas.core.pareto import front_of
from nas.search.chosen_files import chosen_files, front_of_run
from nas.search.finished_run import selection_of
from nas.search.plan import SearchPlan
from nas.search.report.front_files import Front
from nas.search.selection import Selection, select
from nas.search.settings import SearchSettings
from nas.search.storage import storage_errors
from nas.search.study_history import StudyHistory
from nas.search.study_reader import FIRST, REMEASURED, load_readonly, with_remeasured
from nas.search.trial_parameters import TrialParameters
from search_spaces.errors import InputError
from search_spaces.references import Reference, point_of, references


@dataclass(frozen=True)
class RunData:
    """A run, finished or running.

    Args:
        folder: Folder of the run.
        plan: Parsed settings.
        candidates: Evaluated candidates with their newest measurements, in the order of their trials.
        trials: All trials of the study.
        history: What the trials have shown.
        front_file: Content of ``front.json``; None before the search has chosen.
        artifacts: Contents of ``S.json`` …, small to large.
        selection: The picks; of a running search those that its candidates would give, unconfirmed. None if no
            candidate is within a budget.
    """

    folder: Path
    plan: SearchPlan
    candidates: tuple[Candidate, ...]
    trials: tuple[FrozenTrial, ...]
    history: StudyHistory
    front_file: Front | None
    artifacts: tuple[Artifact, ...]
    selection: Selection | None

    @property
    def cost(self) -> Objective:
        """The objective of budgets."""
        return self.plan.aims.cost

    @property
    def gain(self) -> Objective:
        """The accuracy by which S, M and L are chosen."""
        return self.plan.aims.gain

    @cached_property
    def front(self) -> tuple[Candidate, ...]:
        """The Pareto front of all candidates at their newest values, by rising cost."""
        return front_of(self.candidates, self.plan.objectives)

    @cached_property
    def by_id(self) -> Mapping[str, Candidate]:
        """Candidates by id."""
        return {c.id: c for c in self.candidates}

    @property
    def num_classes(self) -> int:
        """Number of classes of the networks."""
        return self.artifacts[0].num_classes if self.artifacts else self.plan.settings.num_classes or 80

    @cached_property
    def stock(self) -> Mapping[str, Reference]:
        """Reference models that are points of the run's space, by name."""
        found = {}
        for name, reference in references().items():
            try:
                found[name] = replace(reference, architecture=point_of(self.plan.space, name))
            except InputError:
                continue
        return found

    def pick(self, name: str) -> Candidate:
        """Return the candidate chosen under a name. Raises InputError for an unknown name or a run without picks."""
        if self.selection is None:
            raise InputError(f"{self.folder} has no {name} yet", "a run with a candidate within every budget")
        return self.selection[name].candidate


def read_run(folder: Path) -> RunData:
    """Read a run. Raises InputError if the folder holds none, or it has no candidate yet."""
    plan = SearchPlan.parse(SearchSettings.read(folder))
    settings = plan.settings
    storage, name = settings.storage_of(folder), settings.study_name(folder)
    with storage_errors(storage):
        study = load_readonly(storage, name)
        trials = tuple(study.get_trials(deepcopy=False)) if study is not None else ()
        remeasured = study.user_attrs.get(REMEASURED, {}) if study is not None else {}
    history = StudyHistory(plan.objectives, settings.seed, TrialParameters(plan.points))
    history.read(trials)
    candidates = tuple(with_remeasured(history.candidates, remeasured))
    if not candidates:
        raise InputError(f"{folder} has no evaluated candidate yet", "a run with at least one")
    front = front_of_run(folder)
    artifacts = tuple(read_artifact(path) for path in chosen_files(folder).values() if path.exists())
    newest = tuple(_with_newest(c, artifacts) for c in candidates)
    selection = selection_of(plan, artifacts) if artifacts else _unconfirmed(plan, newest)
    return RunData(folder, plan, newest, trials, history, front, artifacts, selection)


def without_first(candidate: Candidate) -> Candidate:
    """Return the candidate without the first measurements that are kept beside newer ones."""
    return replace(candidate, estimates=tuple(e for e in candidate.estimates if not e.name.endswith(FIRST)))


def _with_newest(candidate: Candidate, artifacts: tuple[Artifact, ...]) -> Candidate:
    """Return the candidate with the estimates of its own file, which a run of the version before has only there."""
    own = next((a for a in artifacts if a.architecture == candidate.architecture and _same(a, candidate)), None)
    if own is None:
        return candidate
    for estimate in own.estimates:
        if estimate.name in candidate and _differs(candidate[estimate.name], estimate):
            candidate = candidate.with_estimate(estimate)
    return candidate


def _same(artifact: Artifact, candidate: Candidate) -> bool:
    return candidate.precision is None or candidate.precision == artifact.precision


def _differs(old: Estimate, new: Estimate) -> bool:
    return (old.value, old.low, old.high) != (new.value, new.low, new.high)


def _unconfirmed(plan: SearchPlan, candidates: tuple[Candidate, ...]) -> Selection | None:
    """Choose among the candidates as the end of the search would, without a second measurement."""
    try:
        limits = plan.limits
        return select(
            [without_first(c) for c in candidates],
            plan.aims.cost.name,
            plan.aims.gain.name,
            limits.budgets,
            goals=limits.goals,
        )
    except (InputError, KeyError):  # a budget that nothing meets yet, or a reference that is not measured yet
        return None
