"""One candidate through its estimators, from cheap to expensive, as far as it is worth the cost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from optuna.trial import TrialState

from nas.core.estimate import Candidate, Estimate, Objective
from nas.core.pareto import Floats
from nas.estimators.base import Estimator
from nas.search.pruner import Forecast, Pruner
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError


@dataclass(frozen=True)
class Bound:
    """A constraint on an estimate: at most (``<=``) or at least (``>=``) ``value``, in the estimate's unit."""

    name: str
    at_most: bool
    value: float

    def excess(self, estimate: Estimate) -> float:
        """Return the violation in the estimate's unit; above 0 if the bound is violated."""
        return (estimate.value - self.value) * (1 if self.at_most else -1)

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
    """What is known when a candidate's evaluation begins.

    Args:
        values: (k, m) objectives of the Pareto front in natural units.
        without_promise: Number of earlier candidates that the pruner stopped or audited.
    """

    values: Floats
    without_promise: int = 0


class BoundViolated(Exception):
    """A candidate is outside a bound; it is recorded and not evaluated further."""


class Pruned(Exception):
    """A candidate's chance to enter the Pareto front is too small."""

    def __init__(self, forecast: Forecast, after: str) -> None:
        super().__init__(f"pruned after {after}: its chance to enter the Pareto front is {forecast.chance:.1%}")
        self.forecast = forecast


class CandidateEvaluator:
    """Runs estimators in the order of their rank, with the bounds checked after each estimate.

    With a pruner, the candidate's chance to enter the Pareto front is checked before each expensive step.

    Args:
        estimators: All estimators of a candidate.
        objectives: Objectives of the study, a subset of the estimates.
        bounds: Constraints on estimates.
        pruner: Forecasts of the study; None to evaluate every candidate to the end.

    Raises InputError if an objective or a bound is on something that no estimator gives.
    """

    def __init__(
        self,
        estimators: Sequence[Estimator],
        objectives: Sequence[Objective],
        bounds: Sequence[Bound] = (),
        pruner: Pruner | None = None,
    ) -> None:
        self.estimators = sorted(estimators, key=lambda e: e.rank)
        self.objectives, self.bounds, self.pruner = tuple(objectives), tuple(bounds), pruner
        names = {e.name for e in estimators}
        for wanted in (*(o.name for o in objectives), *(b.name for b in bounds)):
            if wanted not in names:
                raise InputError(f"objective or bound on {wanted!r}", f"one of {', '.join(sorted(names))}")

    def __call__(self, point: Architecture, number: int, front: FrontState) -> TrialOutcome:
        """Evaluate one point of the search (:mod:`nas.core.precision_choice`) for the trial ``number``.

        Errors of the candidate are part of the outcome; only KeyboardInterrupt and the like pass through.
        """
        run = _Evaluation(self, front)
        try:
            for estimator in self.estimators:
                run.step(estimator, point)
        except BoundViolated as violated:
            return TrialOutcome(TrialState.PRUNED, message=str(violated), record=run.record)
        except Pruned as pruned:
            expected = pruned.forecast.means
            return TrialOutcome(TrialState.COMPLETE, message=str(pruned), expected=expected, record=run.record)
        except Exception as error:  # noqa: BLE001 - a candidate's error is recorded with it, and the search continues
            message = f"{type(error).__name__}: {error}".splitlines()[0]
            return TrialOutcome(TrialState.FAIL, message=message, record=run.record)
        return TrialOutcome(TrialState.COMPLETE, Candidate.of(point, tuple(run.estimates), number), record=run.record)


class _Evaluation:
    """One candidate in evaluation."""

    def __init__(self, evaluator: CandidateEvaluator, front: FrontState) -> None:
        self._evaluator, self._front = evaluator, front
        self._expensive = {o.name for o in evaluator.objectives}
        self.estimates: list[Estimate] = []
        self._early: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._audited = False

    @property
    def record(self) -> EvaluationRecord:
        """The course of the evaluation so far."""
        replicates = {e.name: [float(f"{v:.5g}") for v in e.replicates] for e in self.estimates if e.replicates}
        remarks = tuple(dict.fromkeys(line for e in self.estimates for line in e.remarks))
        return EvaluationRecord(self._early, replicates, self._seconds, self._audited, remarks)

    def step(self, estimator: Estimator, point: Architecture) -> None:
        """Run one estimator with its early estimates."""
        if estimator.name in self._expensive:  # nothing else is expensive enough, and nothing else is forecast
            self._check_promise()
        for estimate in self._timed(estimator.rungs(point)):
            if estimate.name == estimator.name:
                self.estimates.append(estimate)
                self._check_bounds(estimate)
            else:
                self._early[estimate.name] = estimate.value
                self._check_promise()

    def _timed(self, rungs: Iterator[Estimate]) -> Iterator[Estimate]:
        while True:
            start = time.monotonic()
            estimate = next(rungs, None)
            if estimate is None:
                return
            self._seconds[estimate.name] = round(time.monotonic() - start, 4)
            yield estimate

    def _check_bounds(self, estimate: Estimate) -> None:
        for bound in self._evaluator.bounds:
            if bound.name == estimate.name and bound.excess(estimate) > 0:
                raise BoundViolated(f"{estimate.name} {estimate.value:.4g} violates {bound}")

    def _check_promise(self) -> None:
        pruner = self._evaluator.pruner
        if pruner is None or self._audited:
            return
        known = {**{e.name: e.value for e in self.estimates}, **self._early}
        forecast = pruner.forecast(known, self._front.values)
        if forecast is None or forecast.promising:
            return
        if pruner.audits(self._front.without_promise):
            self._audited = True
            return
        raise Pruned(forecast, list(known)[-1])
