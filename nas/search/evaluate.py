"""One candidate through its estimators, from the cheapest to the dearest, as far as it is worth it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from optuna.trial import TrialState

from nas.core.estimate import Candidate, Estimate, Objective
from nas.core.pareto import Floats
from nas.estimators.base import Estimator
from nas.search.pruner import Fidelity, Forecast
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError


@dataclass(frozen=True)
class Bound:
    """A constraint: an estimate at most (``<=``) or at least (``>=``) so much."""

    name: str
    at_most: bool
    value: float

    def excess(self, estimate: Estimate) -> float:
        """Above 0 when violated, in the estimate's unit."""
        return (estimate.value - self.value) * (1 if self.at_most else -1)

    def __str__(self) -> str:
        return f"{self.name} {'<=' if self.at_most else '>='} {self.value:g}"


@dataclass(frozen=True)
class Course:
    """How an evaluation went: early estimates by name, values drawn beside the estimates (:attr:`Estimator.draws`),
    seconds of every step, and whether it would have been stopped early had it not been let through to learn from."""

    early: Mapping[str, float] = field(default_factory=dict)
    draws: Mapping[str, Sequence[float]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    audited: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the constructor takes it back."""
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """What became of a candidate: evaluated (``candidate``), stopped early (``expected``: the values to be told
    instead), outside a bound, or failed.

    All but the first have a ``message``.
    """

    state: TrialState
    candidate: Candidate | None = None
    message: str = ""
    expected: tuple[float, ...] | None = None
    course: Course = field(default_factory=Course)


class Violated(Exception):
    """A candidate is outside a bound; it is recorded, not evaluated further."""


class Stopped(Exception):
    """A candidate has too small a chance to come to the front."""

    def __init__(self, forecast: Forecast, after: str) -> None:
        super().__init__(f"stopped after {after}: its chance to come to the front is {forecast.chance:.1%}")
        self.forecast = forecast


class Evaluation:
    """Asks ``estimators`` in the order of their rank. Bounds are checked after each; with ``fidelity``, so is whether
    the candidate can still succeed."""

    def __init__(
        self,
        estimators: Sequence[Estimator],
        objectives: Sequence[Objective],
        bounds: Sequence[Bound] = (),
        fidelity: Fidelity | None = None,
    ) -> None:
        self._estimators = sorted(estimators, key=lambda e: e.rank)
        self._objectives, self._bounds, self._fidelity = tuple(objectives), tuple(bounds), fidelity
        names = {e.name for e in estimators}
        for wanted in (*(o.name for o in objectives), *(b.name for b in bounds)):
            if wanted not in names:
                raise InputError(f"objective or bound on {wanted!r}", f"one of {', '.join(sorted(names))}")

    def __call__(self, point: Architecture, number: int, front: Floats, stopped_before: int = 0) -> Outcome:
        """The outcome of one (a point as :mod:`nas.core.precision_choice` says); whatever goes wrong with it is in
        there. ``front``: objectives (k, m) of what there is, in natural units."""
        run = _Run(self._objectives, self._bounds, self._fidelity, front, stopped_before)
        try:
            for estimator in self._estimators:
                run.ask(estimator, point)
        except Violated as violated:
            return Outcome(TrialState.PRUNED, message=str(violated), course=run.course)
        except Stopped as stopped:
            return Outcome(
                TrialState.COMPLETE, message=str(stopped), expected=stopped.forecast.means, course=run.course
            )
        except Exception as error:  # noqa: BLE001 - whatever goes wrong with one candidate is recorded with it, and the search goes on
            return Outcome(
                TrialState.FAIL, message=f"{type(error).__name__}: {error}".splitlines()[0], course=run.course
            )
        return Outcome(TrialState.COMPLETE, Candidate.of(point, tuple(run.estimates), number), course=run.course)


class _Run:
    """One candidate on its way."""

    def __init__(
        self,
        objectives: Sequence[Objective],
        bounds: Sequence[Bound],
        fidelity: Fidelity | None,
        front: Floats,
        stopped_before: int,
    ) -> None:
        self._objectives, self._bounds, self._fidelity, self._front, self._before = (
            objectives,
            bounds,
            fidelity,
            front,
            stopped_before,
        )
        self.estimates: list[Estimate] = []
        self._early: dict[str, float] = {}
        self._draws: dict[str, list[float]] = {}
        self._seconds: dict[str, float] = {}
        self._audited = False

    @property
    def course(self) -> Course:
        return Course(self._early, self._draws, self._seconds, self._audited)

    def ask(self, estimator: Estimator, point: Architecture) -> None:
        """One estimator, early estimates and all."""
        if estimator.name in {
            o.name for o in self._objectives
        }:  # nothing else is dear enough, and nothing else is forecast
            self._worth_it()
        for estimate in self._timed(estimator.rungs(point)):
            if estimate.name == estimator.name:
                self.estimates.append(estimate)
                if drawn := estimator.draws:
                    self._draws[estimate.name] = [float(f"{v:.5g}") for v in drawn]
                self._check(estimate)
            else:
                self._early[estimate.name] = estimate.value
                self._worth_it()

    def _timed(self, rungs: Iterator[Estimate]) -> Iterator[Estimate]:
        while True:
            start = time.monotonic()
            estimate = next(rungs, None)
            if estimate is None:
                return
            self._seconds[estimate.name] = round(time.monotonic() - start, 4)
            yield estimate

    def _check(self, estimate: Estimate) -> None:
        for bound in self._bounds:
            if bound.name == estimate.name and bound.excess(estimate) > 0:
                raise Violated(f"{estimate.name} {estimate.value:.4g} violates {bound}")

    def _worth_it(self) -> None:
        if self._fidelity is None or self._audited:
            return
        known = {**{e.name: e.value for e in self.estimates}, **self._early}
        forecast = self._fidelity.forecast(known, self._front)
        if forecast is None or forecast.promising:
            return
        if self._fidelity.audits(self._before):
            self._audited = True
            return
        raise Stopped(forecast, list(known)[-1])
