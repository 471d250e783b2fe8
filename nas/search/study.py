"""The study of a search: an Optuna study with ask, evaluate and tell; reopened, it resumes, and nothing is evaluated
twice.

One process writes the study (:mod:`nas.search.driver`). It asks for trials, hands the tasks of their candidates to an
executor (:mod:`nas.search.executors`), decides after each estimate what is next, and records the outcomes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.core.estimate import Candidate, Estimate, Objective
from nas.core.pareto import Archive
from nas.core.precision_choice import CHOICE, id_of
from nas.estimators.base import Estimator
from nas.search.cheap_objectives import Watch, evaluate_cheap_objectives
from nas.search.driver import Driver
from nas.search.evaluate_candidate import Bound, CandidateEvaluator, KnownAccuracies
from nas.search.evaluation_loop import EvaluationLoop
from nas.search.executors.base import Executor
from nas.search.executors.inline import InlineExecutor
from nas.search.optuna_compat import is_optunas
from nas.search.samplers import SAMPLERS, StudyInfo, WarmStarted
from nas.search.storage import open_storage, quiet_optuna, storage_errors
from nas.search.study_history import StudyHistory
from nas.search.study_reader import RECORD, REMEASURED, with_remeasured
from nas.search.terminator import SearchProgress, never
from nas.search.trial_parameters import TrialParameters
from nas.search.trial_queue import AskedTrial, TrialQueue
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace

HOPELESS = 8
"""Failures in a row from the beginning after which a search stops: the set-up is at fault, not a candidate."""
MAX_DUPLICATES = 5
"""Known points in a row after which an unseen one is enqueued: samplers converge, and small spaces run out."""
STREAM, SEEDS = 1_000_003, 2**31
"""Distance between the seeds of two proposals, and the number of seeds."""


@dataclass(frozen=True)
class TrialEvent:
    """Progress after a trial.

    Args:
        candidate: The candidate; None if it was pruned, failed, or is outside a bound.
        message: Why there is no candidate.
        done, wanted: Trials done and wanted.
        archive: The Pareto front.
        seconds: Duration of the evaluation, waits for a worker included.
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
        take_over: Whether the process of another machine that drove the study is known to have ended.

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
        take_over: bool = False,
    ) -> None:
        self.space, self.objectives, self.limits, self.seed = space, tuple(objectives), limits, seed
        self._storage, self._make, self.parameters = storage, SAMPLERS[sampler], TrialParameters(space)
        with storage_errors(storage):
            self._study = self._opened(name)
            self.driver = Driver(self._study, storage, take_over)
            self.history = StudyHistory(self.objectives, seed, self.parameters)
            self.queue = TrialQueue(self._study, self.driver, self.parameters, self.history, self.objectives)
            self.queue.sync()
        self._sampler = self._study.sampler = self._new_sampler()
        self._warm = False

    def _new_sampler(self) -> BaseSampler:
        """Return the sampler with the random numbers of the next proposal."""
        log = tuple(i for i, o in enumerate(self.objectives) if o.logarithmic)
        stream = self.history.asked * STREAM % SEEDS
        budgets, goals = tuple(self.limits.budgets), tuple(self.limits.goals)
        return self._make(self.seed, StudyInfo(self.parameters.distributions, log, budgets, goals, stream))

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
        with quiet_optuna():
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
        """Keep in the study what it is about (JSON); an earlier record stays.

        Returns the record that is kept.
        """
        with storage_errors(self._storage):
            if RECORD not in self._study.user_attrs:
                self._study.set_user_attr(RECORD, dict(record))
            return dict(self._study.user_attrs[RECORD])

    def adopt(self, trials: Sequence[FrozenTrial]) -> None:
        """Add finished trials of another study, as far as their points are not evaluated here."""
        with storage_errors(self._storage, opened=True):
            new = [t for t in trials if t.user_attrs["architecture"] not in self.history.known]
            self._study.add_trials(new)
            self.queue.sync()

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
        executor: Executor | None = None,
        accuracies: KnownAccuracies | None = None,
    ) -> None:
        """Ask, evaluate and tell until so many points were tried, or ``enough`` returns True.

        Args:
            estimators: All estimators of a candidate, the objectives' among them.
            trials: Number of points in all, failed ones and those outside a bound included.
            watch: Called after every trial.
            first: Points that are tried after the extremes of the space, with which a new study begins.
            early_stop: Whether unpromising candidates are pruned (:mod:`nas.search.pruner`).
            enough: Returns True to stop before all trials are run.
            executor: Where estimates of devices and compute devices are made; None for this process. The caller
                closes it.
            accuracies: Accuracies that are known already; None to evaluate all.

        Raises InputError if all first candidates fail, if the storage is lost, if another process drives the study, or
        if no estimator gives an objective or a bound.
        """
        pruner = self.history.pruner if early_stop else None
        evaluator = CandidateEvaluator(estimators, self.objectives, self.limits.bounds, pruner, accuracies)
        wanted = min(trials, self.space.size)
        if len(self.history.known) < wanted:
            self.warm_start(estimators)
        planned = [self.space.smallest, self.space.largest, *(self.space.check(point) for point in first)]
        loop = EvaluationLoop(self.queue, self.history, evaluator, executor or InlineExecutor(estimators))
        with storage_errors(self._storage, opened=True), self.driver:
            self.queue.sync()
            self.queue.recover()
            while True:
                more = not enough(self.history.progress)
                while more and loop.free and len(self.history.known) + len(loop) < wanted:
                    if (asked := self._ask(planned)) is not None:
                        loop.begin(asked)
                if not len(loop):
                    return
                for outcome, seconds in loop.advance():
                    done = len(self.history.known)
                    watch(TrialEvent(outcome.candidate, outcome.message, done, trials, self.archive, seconds))
                    self._check_hope()

    def _ask(self, planned: Sequence[Architecture]) -> AskedTrial | None:
        """Return the next trial: of an interrupted point, of a planned one, else of the sampler's; None if the sampler
        proposed a point that is evaluated or in flight."""
        if not self.history.waiting:
            taken = self.history.taken
            if (point := next((p for p in planned if id_of(p) not in taken), None)) is not None:
                self.queue.enqueue(point)
            elif self.history.duplicates >= MAX_DUPLICATES:
                self.queue.enqueue(self._unseen_point())
        if is_optunas(self._sampler):
            self._study.sampler = self._new_sampler()
        return self.queue.take()

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
