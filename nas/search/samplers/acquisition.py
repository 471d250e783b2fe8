"""Acquisition values of candidates: hypervolume improvement, additive epsilon, and improvement within budgets.

========  ======  ==================================================================
symbol    shape   meaning (all objectives are minimised)
========  ======  ==================================================================
``y``     (n, m)  objective values of n points
``F``     (k, m)  the front, or any set of observed values
``r``     (m,)    reference point
========  ======  ==================================================================

``HVI(y) = vol([y, r] minus the union of [f, r] over f in F)`` and ``eps(y) = min over f of max over j of
(f_j - y_j) / scale_j`` (Zitzler et al., doi:10.1109/TEVC.2003.810758).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.core.pareto import non_dominated

Floats = NDArray[np.float64]

MAX_CELLS = 1_000_000
"""Cells of an improvement's grid at most: 1,000, 100 and 31 values on each axis by two, three and four objectives."""


class HypervolumeImprovement:
    """Hypervolume that a point adds to a front, (n, m) -> (n,).

    The coordinates of the front and the reference span a grid, and each of its cells is dominated as a whole or not at
    all. ``HVI(y)``, the integral of the cells that are not dominated over ``[y, r]``, is therefore multilinear inside a
    cell, and its values at the grid's corners are sums of cells. Exact, below the lowest corner too, unless the front
    has more values on an axis than ``max_cells`` allows: then they are rounded up to quantiles.

    Args:
        front: F, (k, m); k may be 0, dominated points are allowed.
        reference: r, (m,).
        max_cells: Cells of the grid at most.
    """

    def __init__(self, front: Floats, reference: Floats, max_cells: int = MAX_CELLS) -> None:
        front = front[(front < reference).all(1)]
        front = front[non_dominated(front, ["min"] * len(reference))]
        most = max(2, int(max_cells ** (1 / len(reference)) + 1e-9))
        self._axes = [_axis(values, end, most) for values, end in zip(front.T, reference, strict=True)]
        cells = [np.searchsorted(axis, values) for axis, values in zip(self._axes, front.T, strict=True)]
        dominated = np.zeros([len(axis) - 1 for axis in self._axes], bool)
        dominated[tuple(np.minimum(c, n - 1) for c, n in zip(cells, dominated.shape, strict=True))] = True
        volumes = np.ones(())
        for j, axis in enumerate(self._axes):
            np.logical_or.accumulate(dominated, axis=j, out=dominated)
            volumes = np.multiply.outer(volumes, np.diff(axis))
        volumes[dominated] = 0.0
        for j in range(len(self._axes)):
            volumes = np.flip(np.cumsum(np.flip(volumes, j), axis=j), j)
        self._corners = np.pad(volumes, [(0, 1)] * len(self._axes))

    def __call__(self, points: Floats) -> Floats:
        """Return the improvement (n,) of points (n, m)."""
        total = np.zeros(len(points))
        lower, share = [], []
        for values, axis in zip(points.T, self._axes, strict=True):
            values = np.minimum(values, axis[-1])
            cell = np.clip(np.searchsorted(axis, values, side="right") - 1, 0, len(axis) - 2)
            lower.append(cell)
            share.append((axis[cell + 1] - values) / (axis[cell + 1] - axis[cell]))
        flat, strides = self._corners.ravel(), np.array(self._corners.strides) // self._corners.itemsize
        base = sum(cell * stride for cell, stride in zip(lower, strides, strict=True))
        for corner in np.ndindex(*[2] * len(lower)):
            weight = np.prod([1 - s if up else s for s, up in zip(share, corner, strict=True)], axis=0)
            total += weight * flat[base + int(np.dot(corner, strides))]
        # At and above the front every corner is 0, and so is the sum; rounding may leave less than nothing below it.
        return np.maximum(total, 0.0)


def _axis(values: Floats, end: float, most: int) -> Floats:
    """Return the rising corners of a grid on one axis: one below all values, the values (k,), the reference."""
    inner = np.unique(values)
    if len(inner) > most - 2:
        inner = inner[np.unique(np.linspace(0, len(inner) - 1, max(1, most - 2)).round().astype(int))]
    first = float(inner[0]) if len(inner) else float(end) - 1.0
    return np.concatenate([[2 * first - end], inner, [end]]) if len(inner) else np.array([first, end])


def additive_epsilon(points: Floats, front: Floats, scale: Floats) -> Floats:
    """Return how far (n,) each point lies before the front (positive) or behind it, in units of ``scale`` (m,).

    Unlike the hypervolume improvement it differs between points behind the front. Without a front, points compare by
    the sum of their values.
    """
    if len(front) == 0:
        return -(points / scale).sum(1)
    if points.shape[1] != 2:
        margins = np.full((len(front), len(points)), -np.inf)
        for own, values, unit in zip(front.T, points.T, scale, strict=True):
            np.maximum(margins, (own[:, None] - values) / unit, out=margins)
        return np.asarray(margins.min(0))
    # Along the front the first margin rises and the second falls: the least of their maxima is where they cross.
    x, y = _staircase(front / scale).T
    own_x, own_y = (points / scale).T
    after = np.minimum(np.searchsorted(x - y, own_x - own_y), len(x) - 1)
    return np.minimum(*(np.maximum(x[i] - own_x, y[i] - own_y) for i in (np.maximum(after - 1, 0), after)))


def _staircase(front: Floats) -> Floats:
    """Return the non-dominated ones of points (k, 2), by rising first value."""
    front = front[np.lexsort((front[:, 1], front[:, 0]))]
    before = np.minimum.accumulate(np.concatenate([[np.inf], front[:-1, 1]]))
    return front[front[:, 1] < before]


@dataclass(frozen=True)
class BudgetImprovement:
    """Improvement of one of two objectives within bounds (k,) on the other: budgets on the cost, or goals on the gain.

    ``sum over bounds b of max(best_b - y_1, 0) [y_0 <= b]``, where ``best_b`` is the best value within ``b`` so far.
    With ``swapped`` the bounds are on the second objective.
    """

    bounds: Floats
    swapped: bool = False

    @classmethod
    def of(cls, budgets: Sequence[float], goals: Sequence[float], log: Sequence[int]) -> BudgetImprovement | None:
        """Return the improvement for upper bounds on the first objective or lower bounds on the second; None without.

        Bounds of objectives in ``log`` enter by their logarithm. Raises ValueError for budgets together with goals,
        and for a budget that is not positive.
        """
        if len(budgets) and len(goals):
            raise ValueError("budgets and goals; expected one of both")
        if any(b <= 0 for b in budgets):
            raise ValueError(f"budgets {list(budgets)}; expected positive numbers")
        if not len(budgets) and not len(goals):
            return None
        values = np.asarray(budgets if len(budgets) else goals, np.float64)
        values = np.log(values) if (0 if len(budgets) else 1) in log else values
        return cls(np.sort(values)) if len(budgets) else cls(np.sort(-values), True)

    def applies(self, signs: Floats) -> bool:
        """Return whether the directions (m,) are those of a cost and, for goals, a gain (1: minimised)."""
        return bool(len(signs) == 2 and signs[0] > 0 and (not self.swapped or signs[1] < 0))

    def best(self, front: Floats, reference: Floats) -> Floats:
        """Return per bound (k, 2): the bound, and the best other value of the front (or of the reference) within it."""
        front, reference = self._turned(front), self._turned(reference)
        within = np.where(front[:, 0] <= self.bounds[:, None], front[:, 1], np.inf)
        return np.column_stack([self.bounds, np.minimum(within.min(1, initial=np.inf), reference[1])])

    def improvement(self, points: Floats, best: Floats) -> Floats:
        """Return the improvement (n,) of points (n, 2) on ``best`` (k, 2), summed over the bounds."""
        points = self._turned(points)
        better = np.maximum(best[:, 1] - points[:, 1:], 0.0)
        return np.asarray((better * (points[:, :1] <= best[:, 0])).sum(1))

    def additive_epsilon(self, points: Floats, best: Floats, scale: Floats) -> Floats:
        """Return 0 (n,) for points (n, 2) that improve on any of ``best`` (k, 2), else how far they are from it."""
        return -np.maximum(((self._turned(points)[:, None] - best) / self._turned(scale)).max(2).min(1), 0.0)

    def _turned(self, values: Floats) -> Floats:
        return values[..., ::-1] if self.swapped else values
