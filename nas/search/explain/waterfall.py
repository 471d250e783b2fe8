"""From one network to another in steps: which differences of their choices bring what.

The change of an objective is attributed to the choices by Shapley values (Shapley 1953) over random orders of the
differing choices: the mean change that a choice brings when it is switched after those before it. The parts add up to
the predicted difference of the two networks; ``unexplained`` is what the measured difference has besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.core.estimate import Candidate
from nas.search.explain.run_data import RunData
from nas.search.explain.surrogate import Difference, RunSurrogates
from search_spaces.architecture import Architecture, Value

ORDERS = 12
"""Orders of a waterfall: half of them random, and each reversed."""


@dataclass(frozen=True)
class WaterfallStep:
    """One differing choice, and the changes of cost and gain attributed to it, by the name of the estimate."""

    choice: str
    before: Value
    after: Value
    changes: Mapping[str, Difference]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        changes = {name: d.to_dict() for name, d in self.changes.items()}
        return {"choice": self.choice, "before": self.before, "after": self.after, "changes": changes}


@dataclass(frozen=True)
class Waterfall:
    """The way from a network to a chosen one.

    Args:
        start: Name of the network that it starts from.
        kind: ``stock`` for a published network, ``pick`` for the next smaller chosen one, ``front`` for a neighbour.
        values: Cost and gain of the start: measured, or predicted by the surrogates.
        steps: The differing choices, the largest change of cost first.
        unexplained: Changes that the steps do not explain, where the start was measured.
    """

    start: str
    kind: str
    values: Mapping[str, Difference]
    steps: tuple[WaterfallStep, ...]
    unexplained: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "start": self.start,
            "kind": self.kind,
            "values": {name: d.to_dict() for name, d in self.values.items()},
            "steps": [step.to_dict() for step in self.steps],
            "unexplained": dict(self.unexplained),
        }


def nearest_start(run: RunData, candidate: Candidate) -> tuple[str, str, Architecture] | None:
    """Return name, kind and point of the network that a waterfall to a candidate starts from.

    The stock network of the space with the fewest differing choices; in a space without one the pick nearest in cost,
    else the neighbour on the front. None if there is no other network.
    """
    point = candidate.point

    def distance(other: Architecture) -> int:
        return sum(other[c.name] != point[c.name] for c in run.plan.points.choices)

    if not run.plan.settings.precisions and (stock := {n: r.architecture for n, r in run.stock.items()}):
        name = min(stock, key=lambda n: (distance(stock[n]), n))
        return name, "stock", stock[name]
    picks = [(p.name, "pick", p.candidate) for p in run.selection or () if p.candidate.id != candidate.id]
    others = picks or [(c.id, "front", c) for c in run.front if c.id != candidate.id]
    if not others:
        return None
    cost = candidate[run.cost.name].value
    name, kind, nearest = min(others, key=lambda o: (abs(o[2][run.cost.name].value - cost), o[0]))
    return name, kind, nearest.point


def waterfall(run: RunData, candidate: Candidate, surrogates: RunSurrogates, seed: int = 0) -> Waterfall | None:
    """Return the waterfall to a candidate; None if there is nothing to start from. ``seed`` decides the orders."""
    found = nearest_start(run, candidate)
    if found is None:
        return None
    name, kind, start = found
    end = candidate.point
    names = [c.name for c in run.plan.points.choices if start[c.name] != end[c.name]]
    rng = np.random.default_rng(seed)
    half = [rng.permutation(len(names)) for _ in range(ORDERS // 2 if len(names) > 1 else 1)]
    orders = [*half, *(order[::-1] for order in half)] if len(names) > 1 else half
    points, places = _visited(start, end, names, orders)
    inputs, _ = surrogates.inputs(points)
    steps: dict[str, dict[str, Difference]] = {n: {} for n in names}
    values: dict[str, Difference] = {}
    unexplained: dict[str, float] = {}
    for objective in (run.cost, run.gain):
        surrogate = surrogates.of[objective.name]
        samples = surrogate.sampled(inputs, seed, noise=False)
        natural = np.exp(samples) if objective.logarithmic else samples * objective.sign
        for k, choice in enumerate(names):
            parts = [natural[after] - natural[before] for path in places for i, before, after in path if i == k]
            low, middle, high = (float(q) for q in np.quantile(np.mean(parts, 0), (0.025, 0.5, 0.975)))
            steps[choice][objective.name] = Difference(middle, low, high, "predicted")
        values[objective.name] = _start_value(run, start, objective.name, natural[0])
        total = candidate[objective.name].value - values[objective.name].value
        unexplained[objective.name] = total - sum(s[objective.name].value for s in steps.values())
    order = sorted(names, key=lambda n: -abs(steps[n][run.cost.name].value))
    done = tuple(WaterfallStep(n, start[n], end[n], steps[n]) for n in order)
    return Waterfall(name, kind, values, done, unexplained)


def _visited(
    start: Architecture, end: Architecture, names: list[str], orders: list[np.ndarray[Any, Any]]
) -> tuple[list[Architecture], list[list[tuple[int, int, int]]]]:
    """Return the distinct points on all ways, the start first, and for each way (choice, place before, place after)."""
    points: dict[Architecture, int] = {start: 0}
    places = []
    for order in orders:
        point, way = start, []
        for k in order:
            name = names[int(k)]
            after = point.replace(**{name: end[name]})
            way.append((int(k), points[point], points.setdefault(after, len(points))))
            point = after
        places.append(way)
    return list(points), places


def _start_value(run: RunData, start: Architecture, name: str, samples: np.ndarray[Any, Any]) -> Difference:
    known = next((c for c in run.candidates if c.point == start), None)
    if known is not None:
        e = known[name]
        return Difference(e.value, e.low, e.high, e.source)
    low, middle, high = (float(q) for q in np.quantile(samples, (0.025, 0.5, 0.975)))
    return Difference(middle, low, high, "predicted")
