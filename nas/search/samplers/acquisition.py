"""How much a point would add to a front: hypervolume, and where nothing adds any, how near it comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SAMPLES = 1024


def gains(points: Floats, front: Floats, reference: Floats) -> Floats:
    """Hypervolume (n,) that each of the points (n, m), to be minimised, adds to the front (k, m) below the reference
    point (m,); one objective: how much lower. By two objectives exactly; by more, of 1,024 points that fill the box
    below the reference, those that only the new point dominates."""
    if points.shape[1] == 1:
        best = min(front.min(initial=np.inf), reference[0])
        return np.maximum(best - points[:, 0], 0.0)
    if points.shape[1] == 2:
        return _areas(points, front, reference)
    return _volumes(points, front, reference)


def _areas(points: Floats, front: Floats, reference: Floats) -> Floats:
    # Under the front lies a staircase: steps i from edges[i] to edges[i + 1] at falling heights. A point gains over
    # those right of it that are higher than it, which are neighbours: sums of steps do, whatever the length of the
    # front.
    front = front[(front < reference).all(1)]
    front = front[np.lexsort((front[:, 1], front[:, 0]))]
    heights = np.minimum.accumulate(np.concatenate([[reference[1]], front[:, 1]]))
    edges = np.concatenate([front[:, 0], [reference[0]]])  # right ends
    sums = np.concatenate(
        [[0.0, 0.0], np.cumsum(np.diff(edges) * heights[1:])]
    )  # of the steps before i; the first has no left end, and is never summed
    x, y = points.T
    first = np.searchsorted(front[:, 0], x, side="right")
    end = np.searchsorted(-heights, -y, side="left")
    higher = (end > first) & (x < reference[0])
    first, end = np.where(higher, first, 0), np.where(higher, end, 1)
    right = edges[first]
    gained = (right - x) * (heights[first] - y) + sums[end] - sums[first + 1] - y * (edges[end - 1] - right)
    return np.where(higher, gained, 0.0)


def _volumes(points: Floats, front: Floats, reference: Floats) -> Floats:
    ideal = np.minimum(front.min(0, initial=np.inf), points.min(0))
    box = ideal + _filling(points.shape[1]) * np.maximum(reference - ideal, 0.0)
    free = box[~(front[:, None] <= box).all(2).any(0)] if len(front) else box
    below = np.ones((len(points), len(free)), bool)
    for column, sample in zip(points.T, free.T, strict=True):
        below &= column[:, None] <= sample
    return np.asarray(below.sum(1) / len(box) * np.prod(np.maximum(reference - ideal, 1e-300)))


@lru_cache(8)
def _filling(dims: int) -> Floats:
    from scipy.stats import qmc

    return np.asarray(qmc.Sobol(dims, scramble=True, seed=0).random(SAMPLES))


def nearness(points: Floats, front: Floats, spread: Floats) -> Floats:
    """How far (n,) each point lies before the front (positive) or behind it: the least over the front of its best
    advantage, in units of ``spread`` (m,).

    Unlike hypervolume it has no plateau behind the front (additive epsilon indicator; Zitzler et al.,
    doi:10.1109/TEVC.2003.810758).
    """
    if len(front) == 0:
        return -(points / spread).sum(1)
    if points.shape[1] != 2:
        return np.asarray(((front[:, None] - points) / spread).max(2).min(0))
    # Along the front the first advantage grows and the second falls: the least of their maxima is where they cross.
    x, y = _staircase(front / spread).T
    own_x, own_y = (points / spread).T
    after = np.minimum(np.searchsorted(x - y, own_x - own_y), len(x) - 1)
    return np.minimum(*(np.maximum(x[i] - own_x, y[i] - own_y) for i in (np.maximum(after - 1, 0), after)))


def _staircase(front: Floats) -> Floats:
    """Of points (k, 2) those that no other beats, by rising first value."""
    front = front[np.lexsort((front[:, 1], front[:, 0]))]
    before = np.minimum.accumulate(np.concatenate([[np.inf], front[:-1, 1]]))
    return front[front[:, 1] < before]


@dataclass(frozen=True)
class Focus:
    """Bounds on one of two objectives (to be minimised, sorted) within which the other is to improve; ``swapped``:
    they are on the second one."""

    bounds: Floats
    swapped: bool = False

    @classmethod
    def of(cls, budgets: Sequence[float], goals: Sequence[float], log: Sequence[int]) -> Focus | None:
        """From upper bounds on the first objective, minimised, or lower ones on the second, maximised; both by their
        logarithm where ``log`` says so."""
        if len(budgets) and len(goals):
            raise ValueError("budgets and goals; expected one of both")
        if any(b <= 0 for b in budgets):
            raise ValueError(f"budgets {list(budgets)}; expected positive numbers")
        if not len(budgets) and not len(goals):
            return None
        values = np.asarray(budgets if len(budgets) else goals, np.float64)
        values = np.log(values) if (0 if len(budgets) else 1) in log else values
        return cls(np.sort(values)) if len(budgets) else cls(np.sort(-values), True)

    def fits(self, signs: Floats) -> bool:
        """Whether the first objective is minimised and, for goals, the second maximised."""
        return bool(signs[0] > 0 and (not self.swapped or signs[1] < 0))

    def bests(self, front: Floats, reference: Floats) -> Floats:
        """Per bound (k,): it, and the best other value (k, 2) that a point of the front has within it (the
        reference's: none)."""
        front, reference = self._turned(front), self._turned(reference)
        within = np.where(front[:, 0] <= self.bounds[:, None], front[:, 1], np.inf)
        return np.column_stack([self.bounds, np.minimum(within.min(1, initial=np.inf), reference[1])])

    def gains(self, points: Floats, best: Floats) -> Floats:
        """How much (n,) each of the points (n, 2) improves on ``best`` of :meth:`bests`; summed over bounds."""
        points = self._turned(points)
        better = np.maximum(best[:, 1] - points[:, 1:], 0.0)
        return np.asarray((better * (points[:, :1] <= best[:, 0])).sum(1))

    def nearness(self, points: Floats, best: Floats, spread: Floats) -> Floats:
        """How far (n,) each point is from improving on any bound's best: 0 or less, 0 where it does."""
        return -np.maximum(((self._turned(points)[:, None] - best) / self._turned(spread)).max(2).min(1), 0.0)

    def _turned(self, values: Floats) -> Floats:
        return values[..., ::-1] if self.swapped else values
