"""Counterfactuals of a chosen network: what one step of one choice would change.

A step of an ordered choice (a width, a depth) is to the next value up or down; of any other choice (a block type) to
each other value. The efficiency of a step is the accuracy per unit of cost that it gives or saves:

    efficiency = change of gain / change of cost

A step that saves cost is worth it where little gain is lost for it (a small efficiency), a step that costs where much is
gained (a large one). Where the interval of the cost's change contains 0, the step is open: its efficiency means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nas.core.estimate import Candidate
from nas.core.precision_choice import id_of
from nas.search.explain.run_data import RunData
from nas.search.explain.surrogate import COMPUTED, Difference, RunSurrogates
from nas.search.samplers.blas import on_one_blas_thread
from search_spaces.architecture import Architecture, Value
from search_spaces.space import Choice

UP, DOWN, OTHER = "up", "down", "other"
SAVES, COSTS, OPEN = "saves", "costs", "open"


@dataclass(frozen=True)
class Counterfactual:
    """One step of one choice, and what it changes.

    Args:
        choice: Name of the choice.
        before, after: Its values.
        step: ``up``, ``down`` or ``other``.
        id: Id of the network after the step.
        predicted: Changes of cost and gain by the surrogates, by the name of the estimate.
        measured: Changes that were measured: the network was evaluated, or verified.
        computed: Exact changes of parameters and MACs.
        verified: Whether it was measured to check this prediction, side by side with the network.
    """

    choice: str
    before: Value
    after: Value
    step: str
    id: str
    predicted: Mapping[str, Difference]
    measured: Mapping[str, Difference]
    computed: Mapping[str, Difference]
    verified: bool = False

    def best(self, name: str) -> Difference:
        """Return the measured change of an estimate, else the predicted one."""
        return self.measured.get(name) or self.predicted[name]

    def efficiency(self, cost: str, gain: str) -> float | None:
        """Return the change of gain per unit of cost; None where the cost does not change."""
        change = self.best(cost).value
        return None if change == 0 else self.best(gain).value / change

    def effect(self, cost: str) -> str:
        """Return what the step does to the cost: ``saves``, ``costs``, or ``open`` where its interval contains 0."""
        change = self.best(cost)
        low, high = (change.value if end is None else end for end in (change.low, change.high))
        if high < 0:
            return SAVES
        return COSTS if low > 0 else OPEN

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        parts = {name: getattr(self, name) for name in ("predicted", "measured", "computed")}
        return {
            "choice": self.choice,
            "before": self.before,
            "after": self.after,
            "step": self.step,
            "id": self.id,
            **{part: {name: d.to_dict() for name, d in changes.items()} for part, changes in parts.items()},
            "verified": self.verified,
        }


def steps_of(choice: Choice, value: Value) -> list[tuple[str, Value]]:
    """Return (step, value) of every step from a value of a choice."""
    at = choice.index(value)
    if not choice.ordered:
        return [(OTHER, v) for i, v in enumerate(choice.values) if i != at]
    below = [(DOWN, choice.values[at - 1])] if at > 0 else []
    above = [(UP, choice.values[at + 1])] if at + 1 < len(choice.values) else []
    return [*below, *above]


@on_one_blas_thread
def counterfactuals(run: RunData, candidate: Candidate, surrogates: RunSurrogates) -> tuple[Counterfactual, ...]:
    """Return all counterfactuals of a candidate: steps that help most first.

    The order: steps that save cost by rising efficiency (accuracy lost per time saved), steps that cost by falling
    efficiency (accuracy gained per time spent), open steps by falling gain.
    """
    point = candidate.point
    neighbours: list[tuple[Choice, str, Value, Architecture]] = [
        (choice, step, value, point.replace(**{choice.name: value}))
        for choice in run.plan.points.choices
        for step, value in steps_of(choice, point[choice.name])
    ]
    changes = surrogates.changes(candidate, [p for *_, p in neighbours])
    found = [
        Counterfactual(
            choice.name,
            point[choice.name],
            value,
            step,
            id_of(other),
            predicted,
            measured_changes(run, candidate, id_of(other)),
            _computed(surrogates, point, other),
        )
        for (choice, step, value, other), predicted in zip(neighbours, changes, strict=True)
    ]
    return ordered(found, run.cost.name, run.gain.name)


def ordered(found: Sequence[Counterfactual], cost: str, gain: str) -> tuple[Counterfactual, ...]:
    """Return counterfactuals with those that help most first, as :func:`counterfactuals` describes."""

    def key(one: Counterfactual) -> tuple[int, float]:
        effect, efficiency = one.effect(cost), one.efficiency(cost, gain) or 0.0
        if effect == OPEN:
            return 2, -one.best(gain).value
        return (0, efficiency) if effect == SAVES else (1, -efficiency)

    return tuple(sorted(found, key=key))


def measured_changes(run: RunData, candidate: Candidate, other: str) -> dict[str, Difference]:
    """Return the changes of cost and gain to an evaluated candidate; empty where it was not evaluated.

    The interval adds the half-widths of both in quadrature.
    """
    if other not in run.by_id:
        return {}
    found = {}
    for objective in (run.cost, run.gain):
        before, after = candidate[objective.name], run.by_id[other][objective.name]
        halves = [(e.high - e.low) / 2 for e in (before, after) if e.low is not None and e.high is not None]
        change = after.value - before.value
        reach = sum(h * h for h in halves) ** 0.5 if len(halves) == 2 else None
        low, high = (None, None) if reach is None else (change - reach, change + reach)
        found[objective.name] = Difference(change, low, high, "measured")
    return found


def _computed(surrogates: RunSurrogates, before: Architecture, after: Architecture) -> dict[str, Difference]:
    (macs, params), (macs_after, params_after) = surrogates.computed(before), surrogates.computed(after)
    changes = dict(zip(COMPUTED, (params_after - params, macs_after - macs), strict=True))
    return {name: Difference(float(change), None, None, "computed") for name, change in changes.items()}


def with_verified(
    found: Sequence[Counterfactual], verified: Mapping[str, Mapping[str, Difference]]
) -> list[Counterfactual]:
    """Return counterfactuals with the changes that were measured to verify them, by id of the network."""
    return [
        replace(one, measured={**one.measured, **verified[one.id]}, verified=True) if one.id in verified else one
        for one in found
    ]
