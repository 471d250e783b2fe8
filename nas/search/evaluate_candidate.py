"""One candidate through its estimators, from cheap to expensive, as far as it is worth the cost.

The evaluation of a candidate is a chain of tasks, one per run of estimators of the same role. The estimates are made
elsewhere (:mod:`nas.search.executors`); what they mean for the candidate is decided here, after each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any, Protocol

from optuna.trial import TrialState

from nas.core.estimate import Candidate, Estimate, Objective
from nas.core.pareto import Floats
from nas.estimators.base import Estimator
from nas.search.pruner import Pruner
from nas.search.tasks import COMPUTE, DRIVER, Step, Task, TaskRunner
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError


@dataclass(frozen=True)
class KnownAccuracy:
    """One accuracy of one architecture.

    Args:
        estimate: With its bootstrap replicates and remarks.
        early: Early estimates by name (``map@62``).
    """

    estimate: Estimate
    early: Mapping[str, float]


class KnownAccuracies(Protocol):
    """Accuracies that are known already (:mod:`nas.search.accuracy_cache`)."""

    def find(self, names: Sequence[str], point: Architecture) -> Sequence[KnownAccuracy] | None:
        """Return the accuracies of a point of the search in the order of their names; None unless all are known."""

    def put(self, known: Sequence[KnownAccuracy], point: Architecture) -> None:
        """Keep accuracies of a point of the search."""


@dataclass(frozen=True)
class Bound:
    """A constraint on an estimate: at most (``<=``) or at least (``>=``) ``value``, in the estimate's unit."""

    name: str
    at_most: bool
    value: float

    def excess(self, estimate: Estimate) -> float:
        """Return the violation in the estimate's unit; above 0 if the bound is violated."""
        return (estimate.value - self.value) * (1 if self.at_most else -1)

    def describe(self, estimate: Estimate) -> str:
        """Return the message of a candidate outside the bound."""
        return f"{estimate.name} {estimate.value:.4g} violates {self}"

    def violation(self, message: str) -> float | None:
        """Return the value in a message of :meth:`describe`; None for another message."""
        value = message.removeprefix(f"{self.name} ").removesuffix(f" violates {self}")
        return float(value) if message == f"{self.name} {value} violates {self}" else None

    def __str__(self) -> str:
        return f"{self.name} {'<=' if self.at_most else '>='} {self.value:g}"


@dataclass(frozen=True)
class EvaluationRecord:
    """The course of one evaluation, kept with its trial.

    Args:
        early: Early estimates by name (``map@62``).
        draws: Bootstrap replicates by the estimate's name (:attr:`nas.core.estimate.Estimate.replicates`).
        seconds: Wall time of every step by the estimate's name.
        audited: Whether the pruner would have stopped the candidate, but let it through to stay calibrated.
        remarks: Remarks of the estimates, each once.
    """

    early: Mapping[str, float] = field(default_factory=dict)
    draws: Mapping[str, Sequence[float]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    audited: bool = False
    remarks: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; the constructor takes its items back."""
        kept = asdict(self)
        return {**kept, "remarks": list(self.remarks)} if self.remarks else {k: kept[k] for k in kept if k != "remarks"}


@dataclass(frozen=True)
class TrialOutcome:
    """The result of a candidate: evaluated, pruned early, outside a bound, or failed.

    Args:
        state: The trial's state. A candidate that was pruned early is COMPLETE with its forecast values.
        candidate: The candidate with its estimates; None unless it was evaluated to the end.
        message: Why it was not evaluated to the end.
        expected: Forecast objectives of a pruned candidate, in natural units.
        record: The course of the evaluation.
    """

    state: TrialState
    candidate: Candidate | None = None
    message: str = ""
    expected: tuple[float, ...] | None = None
    record: EvaluationRecord = field(default_factory=EvaluationRecord)


@dataclass(frozen=True)
class FrontState:
    """What is known of the other candidates.

    Args:
        values: (k, m) objectives of the Pareto front in natural units.
        without_promise: Number of earlier candidates that the pruner stopped or audited.
    """

    values: Floats
    without_promise: int = 0


class CandidateEvaluator:
    """Runs estimators in the order of their rank, with the bounds checked after each estimate.

    With a pruner, the candidate's chance to enter the Pareto front is checked before each expensive step.

    Args:
        estimators: All estimators of a candidate.
        objectives: Objectives of the study, a subset of the estimates.
        bounds: Constraints on estimates.
        pruner: Forecasts of the study; None to evaluate every candidate to the end.
        accuracies: Accuracies that are known already; None to evaluate all.

    Raises InputError if an objective or a bound is on something that no estimator gives.
    """

    def __init__(
        self,
        estimators: Sequence[Estimator],
        objectives: Sequence[Objective],
        bounds: Sequence[Bound] = (),
        pruner: Pruner | None = None,
        accuracies: KnownAccuracies | None = None,
    ) -> None:
        self.estimators = sorted(estimators, key=lambda e: e.rank)
        self.objectives, self.bounds, self.pruner = tuple(objectives), tuple(bounds), pruner
        self.accuracies = accuracies
        self.driver = TaskRunner([e for e in estimators if e.role == DRIVER])
        names = {e.name for e in estimators}
        for wanted in (*(o.name for o in objectives), *(b.name for b in bounds)):
            if wanted not in names:
                raise InputError(f"objective or bound on {wanted!r}", f"one of {', '.join(sorted(names))}")

    def tasks(self, point: Architecture, number: int) -> list[Task]:
        """Return the chain of tasks of a point of the search for the trial ``number``."""
        groups = groupby(self.estimators, lambda e: e.role)
        return [Task(number, role, tuple(e.name for e in group), point) for role, group in groups]

    def __call__(self, point: Architecture, number: int, front: FrontState) -> TrialOutcome:
        """Evaluate one point of the search (:mod:`nas.core.precision_choice`) for the trial ``number``, here.

        Errors of the candidate are part of the outcome; only KeyboardInterrupt and the like pass through.
        """
        evaluation, runner = Evaluation(self, point, number, lambda: front), TaskRunner(self.estimators)
        evaluation.run_here()
        while evaluation.outcome is None:
            evaluation.receive(runner.step(evaluation.task, evaluation.step))
        return evaluation.outcome


class Evaluation:
    """One candidate in evaluation: which step is next, and what the estimates so far mean.

    Estimates of the role ``driver`` are made by :meth:`run_here`.

    Args:
        evaluator: Estimators, bounds and pruner.
        point: The point of the search.
        number: Number of the trial.
        front: Returns what is known of the other candidates now.

    Attributes:
        task, step: The task under way and the position of its next step; meaningless once there is an outcome.
        outcome: The result; None while something is left to do.
    """

    def __init__(
        self, evaluator: CandidateEvaluator, point: Architecture, number: int, front: Callable[[], FrontState]
    ) -> None:
        self._evaluator, self._point, self._number, self._front = evaluator, point, number, front
        self._tasks = evaluator.tasks(point, number)
        self._expensive = {o.name for o in evaluator.objectives}
        self._estimates: list[Estimate] = []
        self._early: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._audited = False
        self._known: Sequence[KnownAccuracy] = ()
        self.outcome: TrialOutcome | None = self._begin_next()

    def receive(self, step: Step) -> None:
        """Take the result of the next step of the task."""
        self.outcome = self._take(step)
        self.run_here()

    def run_here(self) -> None:
        """Make the estimates of the role ``driver`` that are next, and take those that are known already."""
        while self.outcome is None and (self._known or self.task.role == DRIVER):
            if self._known:
                self.outcome = self._take(Step(self.task, self.step, self._known[self.step].estimate))
            else:
                self.outcome = self._take(self._evaluator.driver.step(self.task, self.step))

    def _take(self, step: Step) -> TrialOutcome | None:
        """Take the result of a step; return the outcome if it ends the candidate."""
        if step.estimate is None:
            return TrialOutcome(TrialState.FAIL, message=step.error, record=self._record)
        estimate, names = step.estimate, self.task.names
        self._seconds[estimate.name] = step.seconds
        self.step += 1
        if estimate.name not in names:
            self._early[estimate.name] = estimate.value
            return self._pruned()
        self._estimates.append(estimate)
        if estimate.name == names[-1]:
            self._keep()
        for bound in self._evaluator.bounds:
            if bound.name == estimate.name and bound.excess(estimate) > 0:
                return TrialOutcome(TrialState.PRUNED, message=bound.describe(estimate), record=self._record)
        if estimate.name != names[-1]:
            return self._pruned_before(names[names.index(estimate.name) + 1])
        if self._tasks:
            return self._begin_next()
        candidate = Candidate.of(self._point, tuple(self._estimates), self._number)
        return TrialOutcome(TrialState.COMPLETE, candidate, record=self._record)

    def _begin_next(self) -> TrialOutcome | None:
        """Begin the next task, unless the candidate is pruned before it."""
        self.task, self.step, accuracies = self._tasks.pop(0), 0, self._evaluator.accuracies
        found = accuracies.find(self.task.names, self._point) if accuracies and self.task.role == COMPUTE else None
        self._known = found or ()
        for known in self._known:
            self._early.update(known.early)
        return self._pruned_before(self.task.names[0])

    def _keep(self) -> None:
        """Keep the accuracies of the task that has ended."""
        accuracies, names = self._evaluator.accuracies, self.task.names
        if accuracies is None or self.task.role != COMPUTE or self._known:
            return
        made = [e for e in self._estimates if e.name in names]
        early = {e.name: {n: v for n, v in self._early.items() if n.startswith(f"{e.name}@")} for e in made}
        accuracies.put([KnownAccuracy(e, early[e.name]) for e in made], self._point)

    def _pruned_before(self, name: str) -> TrialOutcome | None:
        """Return the outcome of a candidate that is pruned before an estimate. Only the objectives are expensive enough
        for a forecast, and accuracies that are known cost nothing."""
        return self._pruned() if name in self._expensive and not self._known else None

    @property
    def _record(self) -> EvaluationRecord:
        """The course of the evaluation so far."""
        replicates = {e.name: [float(f"{v:.5g}") for v in e.replicates] for e in self._estimates if e.replicates}
        remarks = tuple(dict.fromkeys(line for e in self._estimates for line in e.remarks))
        return EvaluationRecord(self._early, replicates, self._seconds, self._audited, remarks)

    def _pruned(self) -> TrialOutcome | None:
        """Return the outcome of a candidate whose chance to enter the Pareto front is too small."""
        pruner = self._evaluator.pruner
        if pruner is None or self._audited:
            return None
        front = self._front()
        known = {**{e.name: e.value for e in self._estimates}, **self._early}
        forecast = pruner.forecast(known, front.values)
        if forecast is None or forecast.promising:
            return None
        if pruner.audits(front.without_promise):
            self._audited = True
            return None
        message = f"pruned after {list(known)[-1]}: its chance to enter the Pareto front is {forecast.chance:.1%}"
        return TrialOutcome(TrialState.COMPLETE, None, message, forecast.means, self._record)
