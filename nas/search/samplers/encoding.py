"""Points of an Optuna search space as rows of numbers, inputs of a surrogate, and the moves of an evolution.

========  ======  ====================================================================================
symbol    shape   meaning
========  ======  ====================================================================================
points    (n, d)  one number per parameter: the index of a category, else the position from 0 to 1
inputs    (n, D)  inputs of a surrogate: categories one-hot, numbers as they are, counts of categories
groups    (D,)    the parameter that each input column belongs to
========  ======  ====================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Floats = NDArray[np.float64]


class Encoding:
    """A search space of Optuna distributions, whose points are rows of one number per parameter.

    The number is the index of a category, or the position from 0 to 1 between ``low`` and ``high`` (of their logarithms
    where the distribution is logarithmic), rounded to the values of the distribution.
    """

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self.names = tuple(sorted(space))  # studies pass the same space in different orders
        self._of = tuple(space[name] for name in self.names)
        self._categories = [len(d.choices) if isinstance(d, CategoricalDistribution) else 0 for d in self._of]

    @cached_property
    def groups(self) -> NDArray[np.intp]:
        """The parameter that each column of :meth:`embed` belongs to, (D,); each count is a group of its own."""
        own = np.repeat(np.arange(len(self.names)), [max(1, n) for n in self._categories])
        return np.concatenate(
            [own, len(self.names) + np.arange(sum(self._categories[alike[0]] for alike in self._alike))]
        )

    @cached_property
    def _alike(self) -> list[list[int]]:
        """Groups of at least two parameters with the same categories, such as the operations of a cell's edges."""
        by_choices: dict[tuple[Any, ...], list[int]] = {}
        for j, d in enumerate(self._of):
            if isinstance(d, CategoricalDistribution) and len(d.choices) > 1:
                by_choices.setdefault(d.choices, []).append(j)
        return [alike for alike in by_choices.values() if len(alike) > 1]

    @cached_property
    def _steps(self) -> list[Floats | None]:
        """All positions from 0 to 1 of each parameter; None for a category or a continuous parameter."""
        return [
            None if n or _levels(d) is None else _places(d) for n, d in zip(self._categories, self._of, strict=True)
        ]

    def points(self, params: Sequence[Mapping[str, Any]]) -> Floats:
        """Return the points (n, d) of parameter values."""
        rows = [[_inward(d, p[name]) for name, d in zip(self.names, self._of, strict=True)] for p in params]
        return np.array(rows, np.float64).reshape(len(rows), len(self.names))

    def params(self, point: Floats) -> dict[str, Any]:
        """Return the parameter values of one point (d,)."""
        return {name: _outward(d, float(x)) for name, d, x in zip(self.names, self._of, point, strict=True)}

    def embed(self, points: Floats) -> Floats:
        """Return the surrogate's inputs (n, D) of points (n, d).

        A category becomes columns of 0 and 1/sqrt(2), so that two categories are at distance 1; a number stays. For
        parameters with the same categories, the counts of each category follow, divided by ``sqrt(2 parameters)``:
        networks of the same parts are often similar wherever the parts are.
        """
        columns = []
        for j, count in enumerate(self._categories):
            if count:
                columns.append((points[:, j, None] == np.arange(count)) / math.sqrt(2))
            else:
                columns.append(points[:, j, None])
        for alike in self._alike:
            chosen = points[:, alike, None] == np.arange(self._categories[alike[0]])
            columns += [chosen.sum(1) / math.sqrt(2 * len(alike))]
        return np.concatenate(columns, 1) if columns else np.empty((len(points), 0))

    def random(self, rng: np.random.Generator, count: int) -> Floats:
        """Return uniform random points (count, d)."""
        return self._spread(rng.random((count, len(self.names))))

    def filling(self, rng: np.random.Generator, count: int) -> Floats:
        """Return points (count, d) of a scrambled Sobol sequence (Owen, doi:10.1007/978-1-4612-2552-2_19)."""
        from scipy.stats import qmc

        engine = qmc.Sobol(max(1, len(self.names)), seed=rng)
        return self._spread(engine.random_base2(max(1, math.ceil(math.log2(count))))[:count, : len(self.names)])

    def _spread(self, uniform: Floats) -> Floats:
        points = uniform.copy()
        for j, (count, steps) in enumerate(zip(self._categories, self._steps, strict=True)):
            if count:
                points[:, j] = np.minimum(np.floor(uniform[:, j] * count), count - 1)
            elif steps is not None:
                points[:, j] = steps[np.minimum((uniform[:, j] * len(steps)).astype(int), len(steps) - 1)]
        return points

    def mutated(self, rng: np.random.Generator, parents: Floats) -> Floats:
        """Return each of the parents (n, d) with one parameter changed, and a second one with probability 1/3.

        Numbers move mostly to an adjacent value.
        """
        children = parents.copy()
        variable = self._variable
        if len(variable) == 0:
            return children
        rows = np.arange(len(children))
        for part in (rows, rows[rng.random(len(rows)) < 1 / 3]):
            columns = rng.choice(variable, len(part))
            for j in np.unique(columns):
                hit = part[columns == j]
                children[hit, j] = self._moved(rng, int(j), children[hit, j])
        return children

    def crossed(self, rng: np.random.Generator, parents: Floats, count: int) -> Floats:
        """Return children (count, d) that take every parameter from one of two parents, of parents (n, d)."""
        first, second = (parents[rng.integers(len(parents), size=count)] for _ in range(2))
        return np.where(rng.random(first.shape) < 0.5, first, second)

    def neighbours(self, point: Floats) -> Floats:
        """Return all points (n, d) that differ from a point (d,) in one parameter: any other category, the next value
        on either side."""
        found = []
        for j, (count, steps) in enumerate(zip(self._categories, self._steps, strict=True)):
            if count:
                values: Sequence[float] = [float(v) for v in range(count) if v != point[j]]
            elif steps is None:
                values = [v for v in (point[j] - 0.05, point[j] + 0.05) if 0 <= v <= 1]
            else:
                at = int(np.abs(steps - point[j]).argmin())
                values = [float(steps[k]) for k in (at - 1, at + 1) if 0 <= k < len(steps)]
            for value in values:
                found.append(point.copy())
                found[-1][j] = value
        return np.array(found).reshape(len(found), len(self.names))

    @cached_property
    def _variable(self) -> NDArray[np.intp]:
        """Positions of the parameters with more than one value."""
        one = [n == 1 or (s is not None and len(s) == 1) for n, s in zip(self._categories, self._steps, strict=True)]
        return np.flatnonzero(~np.array(one, bool))

    def _moved(self, rng: np.random.Generator, j: int, values: Floats) -> Floats:
        """Return other values of parameter ``j`` for values (n,): any other category; for a number an adjacent value
        with probability 0.7, else any other."""
        count, steps = self._categories[j], self._steps[j]
        if count:
            return np.asarray((values + rng.integers(1, count, len(values))) % count)
        if steps is None:
            return np.clip(values + rng.normal(0, 0.1, len(values)), 0, 1)
        last = len(steps) - 1
        at = np.abs(steps - values[:, None]).argmin(1)
        near = at + np.where(at == 0, 1, np.where(at == last, -1, rng.choice((-1, 1), len(values))))
        other = (at + rng.integers(1, last + 1, len(values))) % (last + 1)
        return np.asarray(steps[np.where(rng.random(len(values)) < 0.7, near, other)])


def append_inputs(x: Floats, groups: NDArray[np.intp], more: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Return inputs (n, D) with auxiliary inputs (n, k) appended, each a group of its own, and the groups (D + k,)."""
    return np.concatenate([x, more], 1), np.concatenate([groups, groups.max(initial=-1) + 1 + np.arange(more.shape[1])])


MAX_LEVELS = 10_000


def _levels(d: BaseDistribution) -> int | None:
    """Return the number of values of a distribution; None if continuous or above :data:`MAX_LEVELS`."""
    if isinstance(d, IntDistribution):
        count = (d.high - d.low) // d.step + 1
    elif isinstance(d, FloatDistribution):
        if d.low == d.high:
            return 1
        if d.step is None:
            return None
        count = round((d.high - d.low) / d.step) + 1
    else:
        return None
    return count if count <= MAX_LEVELS else None


def _places(d: BaseDistribution) -> Floats:
    assert isinstance(d, IntDistribution | FloatDistribution)
    count = _levels(d) or 1
    return np.array([_inward(d, min(d.low + i * (d.step or 0), d.high)) for i in range(count)])


def _inward(d: BaseDistribution, value: Any) -> float:
    if isinstance(d, CategoricalDistribution):
        return float(d.to_internal_repr(value))
    assert isinstance(d, IntDistribution | FloatDistribution)
    if d.low == d.high:
        return 0.0
    if d.log:
        return (math.log(value) - math.log(d.low)) / (math.log(d.high) - math.log(d.low))
    return (value - d.low) / (d.high - d.low)


def _outward(d: BaseDistribution, place: float) -> Any:
    if isinstance(d, CategoricalDistribution):
        return d.choices[round(place)]
    assert isinstance(d, IntDistribution | FloatDistribution)
    value = (
        math.exp(math.log(d.low) + place * (math.log(d.high) - math.log(d.low)))
        if d.log
        else d.low + place * (d.high - d.low)
    )
    if d.step is not None:
        value = d.low + round((value - d.low) / d.step) * d.step
    value = min(max(value, d.low), d.high)
    return round(value) if isinstance(d, IntDistribution) else float(value)
