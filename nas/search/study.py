"""The study of a search: an Optuna study with ask, evaluate and tell; reopened, it resumes, and nothing is evaluated
twice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState

from nas.core.estimate import Candidate, Estimate, Objective
from nas.core.pareto import Archive
from nas.core.precision_choice import CHOICE, id_of
from nas.estimators.base import Estimator
from nas.search.cheap_objectives import Watch, evaluate_cheap_objectives
from nas.search.evaluate_candidate import Bound, CandidateEvaluator
from nas.search.heartbeat import Heartbeat, WorkerSampler, new_worker_name, workers
from nas.search.samplers import SAMPLERS, StudyInfo, WarmStarted
from nas.search.storage import ask_lock, open_storage, quiet_optuna, storage_errors
from nas.search.study_history import StudyHistory
from nas.search.study_reader import RECORD, REMEASURED, with_remeasured
from nas.search.terminator import SearchProgress, never
from nas.search.trial_parameters import TrialParameters
from nas.search.trial_queue import LOOK_S, AskedTrial, TrialQueue
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace

HOPELESS = 8
"""Failures in a row from the beginning after which a search stops: the set-up is at fault, not a candidate."""
MAX_DUPLICATES = 5
"""Known points in a row after which an unseen one is enqueued: samplers converge, and small spaces run out."""
STREAM = 1_000_003
"""Distance between the seeds of two workers' samplers."""


@dataclass(frozen=True)
class TrialEvent:
    """Progress after a trial.

    Args:
        candidate: The candidate; None if it was pruned, failed, or is outside a bound.
        message: Why there is no candidate.
        done, wanted: Trials done and wanted.
        archive: The Pareto front.
        seconds: Duration of the evaluation.
    """

    candidate: Candidate | None
    message: str
    done: int
    wanted: int
    archive: Archive
    seconds: float


@dataclass(frozen=True)
class Limits:
    """Limits of a search.

    Args:
        bounds: Constraints on estimates: candidates outside are pruned.
        budgets: Upper bounds of the first objective for which the best of the second is wanted.
        goals: Values of the second objective that are to be reached at the least cost.
    """

    bounds: Sequence[Bound] = ()
    budgets: Sequence[float] = ()
    goals: Sequence[float] = ()


class Study:
    """Candidates of a space with their estimates, kept in an Optuna storage.

    A trial is complete (evaluated, or pruned early with forecast values), pruned (outside a bound) or failed (with
    its message). A trial that a killed process left running is recorded as interrupted, and its point enqueued again.

    Args:
        storage: Path of a journal file, or any URL of an Optuna storage.
        name: Name of the study in the storage.
        space: The space, or one with the precision as a choice (:mod:`nas.core.precision_choice`).
        objectives: One to four objectives.
        sampler: Name in :data:`nas.search.samplers.SAMPLERS`.
        seed: Seed of the sampler.
        limits: Bounds, budgets and goals.

    Raises InputError if the storage is unusable or holds a study of another space or other objectives.
    """

    def __init__(
        self,
        storage: Path | str,
        name: str,
        space: SearchSpace,
        objectives: Sequence[Objective],
        sampler: str = "guided",
        seed: int = 0,
        limits: Limits = Limits(),
    ) -> None:
        self.space, self.objectives, self.limits, self.seed = space, tuple(objectives), limits, seed
        self._storage, self.parameters = storage, TrialParameters(space)
        make = SAMPLERS[sampler]
        with storage_errors(storage):
            self._study = self._opened(name)
            trials = self._study.get_trials(deepcopy=False)
            begun = len(workers(self._study.user_attrs))
        log = tuple(i for i, o in enumerate(self.objectives) if o.logarithmic)
        # A reopened study must not repeat the random numbers of its beginning, nor one worker those of another.
        stream = len(trials) + STREAM * begun
        info = StudyInfo(self.parameters.distributions, log, tuple(limits.budgets), tuple(limits.goals), stream)
        self._sampler = make(seed, info)
        self.worker = new_worker_name()
        self._study.sampler = WorkerSampler(self._sampler, self.worker)
        self._warm, self._duplicates = False, 0
        self.history = StudyHistory(self.objectives, seed, self.parameters)
        self.queue = TrialQueue(self._study, storage, self.worker, self.parameters, self.history, self.objectives)
        with storage_errors(storage):
            self.history.read(trials)

    def _opened(self, name: str) -> optuna.Study:
        directions = [
            StudyDirection.MINIMIZE if o.direction == "min" else StudyDirection.MAXIMIZE for o in self.objectives
        ]
        identity: dict[str, Any] = {
            "space": self.space.name,
            "version": self.space.version,
            "objectives": [str(o) for o in self.objectives],
        }
        identity |= {CHOICE: list(self.space[CHOICE].values)} if CHOICE in self.parameters.choices else {}
        with ask_lock(self._storage), quiet_optuna():
            study = optuna.create_study(
                storage=open_storage(self._storage), study_name=name, directions=directions, load_if_exists=True
            )
            found = study.user_attrs.get("settings")
            if found is None:
                study.set_user_attr("settings", identity)
                study.set_metric_names([o.name for o in self.objectives])  # for dashboards
            elif found != identity:
                raise InputError(f"study {name!r} is of {found}", f"{identity}", "give the run another folder or name")
        return study

    @property
    def archive(self) -> Archive:
        """The Pareto front."""
        return self.history.archive

    @property
    def candidates(self) -> list[Candidate]:
        """Candidates evaluated to the end, in the order of their trials."""
        return self.history.candidates

    @property
    def remeasured(self) -> dict[str, Any]:
        """Second measurements of costs by candidate id (JSON)."""
        return dict(self._study.user_attrs.get(REMEASURED, {}))

    @property
    def newest_candidates(self) -> list[Candidate]:
        """The candidates with second measurements in place of the first ones, which are kept as ``NAME_first``."""
        return with_remeasured(self.candidates, self.remeasured)

    def keep_remeasured(self, id_: str, estimate: Estimate) -> None:
        """Keep the second measurement of a candidate's cost in the study."""
        with storage_errors(self._storage, opened=True):
            self._study.set_user_attr(REMEASURED, {**self.remeasured, id_: estimate.to_dict()})

    @property
    def failures(self) -> list[tuple[str, str]]:
        """(id, message) of the candidates that failed or are outside a bound."""
        return self.history.failures

    def describe(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Keep in the study what another worker must know to take part (JSON); an earlier record stays.

        Returns the record that is kept.
        """
        with storage_errors(self._storage):
            if RECORD not in self._study.user_attrs:
                self._study.set_user_attr(RECORD, dict(record))
            return dict(self._study.user_attrs[RECORD])

    def warm_start(self, estimators: Sequence[Estimator], watch: Watch = lambda done, total, names: None) -> None:
        """Give the sampler the cheap objectives at many points, once; the same points whenever the study is opened.

        :meth:`run` does so by itself, without progress.
        """
        if not self._warm and isinstance(self._sampler, WarmStarted):
            found = evaluate_cheap_objectives(self.space, self.objectives, estimators, self.seed, watch)
            for place, (points, values) in found.items():
                self._sampler.warm_start(place, [self.parameters.params(point) for point in points], values)
        self._warm = True

    def run(
        self,
        estimators: Sequence[Estimator],
        trials: int,
        watch: Callable[[TrialEvent], None] = lambda event: None,
        first: Sequence[Architecture] = (),
        early_stop: bool = False,
        enough: Callable[[SearchProgress], bool] = never,
    ) -> None:
        """Ask, evaluate and tell until so many points were tried, or ``enough`` returns True.

        Args:
            estimators: All estimators of a candidate, the objectives' among them.
            trials: Number of points in all, failed ones and those outside a bound included.
            watch: Called after every trial.
            first: Points that are tried after the extremes of the space, with which a new study begins.
            early_stop: Whether unpromising candidates are pruned (:mod:`nas.search.pruner`).
            enough: Returns True to stop before all trials are run.

        Raises InputError if all first candidates fail, if the storage is lost, or if no estimator gives an objective
        or a bound.
        """
        pruner = self.history.pruner if early_stop else None
        evaluator = CandidateEvaluator(estimators, self.objectives, self.limits.bounds, pruner)
        wanted = min(trials, self.space.size)
        if len(self.history.known) < wanted:
            self.warm_start(estimators)
        checked = [self.space.check(point) for point in first]
        with storage_errors(self._storage, opened=True):
            self._begin(checked)
            with Heartbeat(self._study, self.worker):
                while len(self.history.known) < wanted and not enough(self.history.progress):
                    if (asked := self._ask(wanted)) is not None:
                        event = self._evaluate(asked, evaluator, trials)
                        watch(event)
                        self._check_hope()

    def _begin(self, first: Sequence[Architecture]) -> None:
        self.queue.sync()
        self.queue.recover()
        extremes = () if self.history.known else (self.space.smallest, self.space.largest)
        for point in dict.fromkeys((*extremes, *first)):
            self.queue.enqueue(point)

    def _ask(self, wanted: int) -> AskedTrial | None:
        """Return a trial that only this worker evaluates; None if there is none for the moment.

        While others evaluate the rest, this waits for a moment, and takes over what dead workers left.
        """
        waiting = any(t.state == TrialState.WAITING for t in self.history.open.values())
        if not waiting and len(self.history.taken) >= wanted:
            time.sleep(LOOK_S)
            self.queue.sync()
            self.queue.recover()
            return None
        asked = self.queue.take(wanted)
        self._duplicates = 0 if asked is not None else self._duplicates + 1
        if self._duplicates >= MAX_DUPLICATES and len(self.history.taken) < wanted:
            self.queue.enqueue(self._unseen_point())
        return asked

    def _evaluate(self, asked: AskedTrial, evaluator: CandidateEvaluator, wanted: int) -> TrialEvent:
        """Evaluate the point of a trial and tell the outcome."""
        start = time.monotonic()
        try:
            outcome = evaluator(asked.point, asked.trial.number, self.history.front)
        except KeyboardInterrupt:
            self.queue.give_back(asked)
            raise
        self.queue.tell(asked, outcome)
        done, seconds = len(self.history.known), time.monotonic() - start
        return TrialEvent(outcome.candidate, outcome.message, done, wanted, self.archive, seconds)

    def _check_hope(self) -> None:
        known = self.history.known
        if len(known) >= HOPELESS and all(t.state == TrialState.FAIL for t in known.values()):
            raise InputError(
                f"all of the first {HOPELESS} candidates failed ({self.failures[-1][1]})",
                hint="mend the cause and start anew",
            )

    def _unseen_point(self) -> Architecture:
        """Return a point not tried yet: a neighbour of a member of the front, else any."""
        rng = random.Random(f"{self.seed}/{len(self.history.known)}")
        taken = self.history.taken
        front = list(self.archive.front)
        rng.shuffle(front)
        for candidate in front:
            new = [a for a in self.space.neighbours(candidate.point) if id_of(a) not in taken]
            if new:
                return rng.choice(new)
        while True:
            sample = self.space.sample(rng)
            if id_of(sample) not in taken:
                return sample
