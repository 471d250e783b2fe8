"""Pareto fronts: non-dominated points, hypervolume, and the archive of a search.

========  ======  ==================================================================
symbol    shape   meaning
========  ======  ==================================================================
points    (n, m)  objective values in natural units, with a direction per objective
costs     (n, m)  the same, all to be minimised
r         (m,)    reference point
========  ======  ==================================================================

A point dominates another if it is at least as good in every objective and better in one. The hypervolume of points is
the volume of the union of the boxes between each point and ``r``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.core.estimate import Candidate, Objective
from search_spaces.errors import InputError

Floats = NDArray[np.float64]


def non_dominated(points: ArrayLike, directions: Sequence[str]) -> NDArray[np.bool_]:
    """Return the mask (n,) of the non-dominated ones of points (n, m); of equal points the first is kept.

    ``directions`` are ``min`` or ``max``, one per objective. Two objectives take one sort; more take one pass over the
    rest per point of the front (20,000 points that are all on it: half a second). Raises ValueError for a wrong shape
    or direction, and for values that are not finite.
    """
    costs = _costs(points, directions)
    unique, first = np.unique(costs, axis=0, return_index=True)
    kept = _front_2d(unique) if costs.shape[1] <= 2 else _front_nd(unique)
    mask = np.zeros(len(costs), dtype=bool)
    mask[first[kept]] = True
    return mask


def _front_2d(unique: Floats) -> NDArray[np.intp]:
    # In lexicographic order a point is on the front exactly if its last cost is below that of everything before it.
    if len(unique) == 0 or unique.shape[1] == 1:
        return np.arange(min(1, len(unique)))
    best_before = np.minimum.accumulate(np.concatenate([[np.inf], unique[:-1, 1]]))
    return np.flatnonzero(unique[:, 1] < best_before)


def _front_nd(unique: Floats) -> NDArray[np.intp]:
    # By rising sum of ranks (equal values, equal rank) no point is dominated by a later one, and points that dominate
    # many come first.
    ranks = sum(np.unique(column, return_inverse=True)[1] for column in unique.T)
    left = np.argsort(ranks, kind="stable")
    columns = np.ascontiguousarray(unique[left].T)
    alive = np.ones(len(left), dtype=bool)
    at = 0
    while at < len(left):
        if alive[at]:
            alive[at + 1 :] &= (columns[:, at + 1 :] < columns[:, at, None]).any(axis=0)
        at += 1
        # Dropping dominated points copies all others: only when it halves the rest.
        if 2 * np.count_nonzero(alive[at:]) < len(left) - at:
            at = int(np.count_nonzero(alive[:at]))
            left, columns = left[alive], columns[:, alive]
            alive = np.ones(len(left), dtype=bool)
    return left[alive]


def hypervolume(points: ArrayLike, reference: ArrayLike, directions: Sequence[str]) -> float:
    """Return the hypervolume of points (n, m) below the reference point (m,).

    Points that are not better than the reference in every objective add nothing. Raises ValueError as
    :func:`non_dominated` does.
    """
    costs = _costs(points, directions)
    bound = _costs(np.asarray(reference, dtype=np.float64)[None], directions)[0]
    costs = costs[(costs < bound).all(axis=1)]
    if len(costs) == 0:
        return 0.0
    front = costs[non_dominated(costs, ["min"] * costs.shape[1])]
    return _volume(front, bound)


def _volume(front: Floats, reference: Floats) -> float:
    """Return the volume between a front (n, m), all of it below the reference (m,), and the reference.

    Dimension sweep: the front is cut into slabs at its first costs, and a slab's content is the volume of the other
    costs of all points before it (for three costs: Beume et al., doi:10.1109/TEVC.2009.2015575). O(n log n) for two
    objectives, O(n^2) for three, O(n^3) for four.
    """
    front = front[np.lexsort(front.T[::-1])]
    widths = np.append(front[1:, 0], reference[0]) - front[:, 0]
    if front.shape[1] == 1:
        return float(reference[0] - front[0, 0])
    if front.shape[1] == 2:
        return float(widths @ (reference[1] - np.minimum.accumulate(front[:, 1])))
    if front.shape[1] == 3:
        return _volume_3d(front, widths, reference)
    total, area, others = 0.0, 0.0, np.empty((0, front.shape[1] - 1))
    for point, width in zip(front[:, 1:], widths, strict=True):
        if not (others <= point).all(axis=1).any():
            others = np.vstack([others[~(point <= others).all(axis=1)], point])
            area = _volume(others, reference[1:])
        total += width * area
    return total


def _volume_3d(front: Floats, widths: Floats, reference: Floats) -> float:
    # The slab's content is kept as a profile: over each interval of second costs, the depth below the third reference.
    edges = np.sort(front[:, 1])
    intervals = np.append(edges[1:], reference[1]) - edges
    depths, total = np.zeros(len(edges)), 0.0
    starts = np.searchsorted(edges, front[:, 1])
    for start, width, depth in zip(starts, widths, reference[2] - front[:, 2], strict=True):
        np.maximum(depths[start:], depth, out=depths[start:])
        total += width * float(intervals @ depths)
    return total


def _costs(points: ArrayLike, directions: Sequence[str]) -> Floats:
    """Return points (n, m) as costs.

    Raises ValueError for a wrong shape or direction, and for values that are not finite.
    """
    values = np.asarray(points, dtype=np.float64)
    if values.size == 0:
        values = values.reshape(0, len(directions))
    if values.ndim != 2 or values.shape[1] != len(directions):
        raise ValueError(
            f"points of shape {values.shape}; expected (n, {len(directions)}) for directions {list(directions)}"
        )
    if wrong := [direction for direction in directions if direction not in ("min", "max")]:
        raise ValueError(f"directions {wrong}; expected min or max")
    if not np.isfinite(values).all():
        raise ValueError("points that are not finite; expected finite numbers: leave failed candidates out")
    return values * np.array([1.0 if direction == "min" else -1.0 for direction in directions])


def values_of(candidates: Iterable[Candidate], objectives: Sequence[Objective]) -> Floats:
    """Return the objectives (n, m) of candidates, in natural units."""
    rows = [[candidate[objective.name].value for objective in objectives] for candidate in candidates]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(objectives))


def front_of(candidates: Sequence[Candidate], objectives: Sequence[Objective]) -> tuple[Candidate, ...]:
    """Return the non-dominated candidates, by rising first cost objective."""
    values = values_of(candidates, objectives)
    mask = non_dominated(values, [objective.direction for objective in objectives])
    return tuple(candidates[i] for i in _order(values, objectives) if mask[i])


def _order(values: Floats, objectives: Sequence[Objective]) -> NDArray[np.intp]:
    """Return the order (n,) of values (n, m) by the first objective that is minimised (else the first), then the
    others."""
    costs = values * np.array([objective.sign for objective in objectives])
    first = next((i for i, objective in enumerate(objectives) if objective.direction == "min"), 0)
    keys = [first, *(i for i in range(len(objectives)) if i != first)]
    return np.lexsort([costs[:, i] for i in reversed(keys)])


class Archive:
    """Pareto front of a search and its hypervolume, updated with each candidate.

    The reference point is given, or fixed after ``warmup`` candidates: the worst value of each objective plus a tenth
    of the range (of the value, where the range is 0), so that the ends of the front count. It then stays, so that the
    hypervolume never falls; before, the hypervolume is None. The same candidates in the same order give the same
    reference, as in a resumed search.

    Args:
        objectives: At least one, each once.
        reference: Reference point in natural units, (m,).
        warmup: Candidates that fix the reference point.
        log: Names of objectives that enter by their natural logarithm, such as a latency: 1 to 2 ms then counts as
            much as 10 to 20 ms.

    Raises InputError for repeated objectives, unknown names in ``log``, a reference of another length, and values of 0
    or less where the logarithm is taken.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        reference: Sequence[float] | None = None,
        warmup: int = 10,
        log: Collection[str] = (),
    ) -> None:
        self.objectives = tuple(objectives)
        names = [objective.name for objective in self.objectives]
        if not names or len(set(names)) != len(names):
            raise InputError(f"objectives {names}", "at least one, each once")
        if wrong := sorted(set(log) - set(names)):
            raise InputError(f"logarithm of {', '.join(wrong)}", f"some of {', '.join(names)}")
        if reference is not None and len(reference) != len(names):
            raise InputError(f"reference point {list(reference)}", f"one number for each of {', '.join(names)}")
        self._log = np.array([name in log for name in names])
        self._signs = np.array([float(objective.sign) for objective in self.objectives])
        self._warmup = max(1, warmup)
        self._first: list[Floats] = []
        self._rows = np.empty((0, len(names)))
        self._front: list[Candidate] = []
        self._hypervolume: float | None = None
        self._reference = None if reference is None else np.asarray(reference, dtype=np.float64)
        if self._reference is not None:
            self._scaled(self._reference)
        self.seen = 0

    def add(self, candidate: Candidate) -> bool:
        """Add a candidate and return whether it enters the front; one that equals a member in every objective does
        not. Raises InputError for a value of 0 or less where the logarithm is taken."""
        row = values_of([candidate], self.objectives)[0]
        self._scaled(row)
        self.seen += 1
        self._fix_reference(row)
        costs, cost = self._rows * self._signs, row * self._signs
        if (costs <= cost).all(axis=1).any():
            return False
        survives = ~(cost <= costs).all(axis=1)
        self._rows = np.vstack([self._rows[survives], row])
        self._front = [member for member, kept in zip(self._front, survives, strict=True) if kept] + [candidate]
        self._hypervolume = None
        return True

    @property
    def front(self) -> tuple[Candidate, ...]:
        """The non-dominated candidates by rising first cost objective."""
        return tuple(self._front[i] for i in _order(self._rows, self.objectives))

    @property
    def reference(self) -> tuple[float, ...] | None:
        """The reference point in natural units, once fixed."""
        return None if self._reference is None else tuple(self._reference.tolist())

    @property
    def hypervolume(self) -> float | None:
        """Hypervolume of the front, in the units of the objectives (or their logarithms); None before the reference
        is fixed."""
        if self._hypervolume is None and self._reference is not None:
            directions = [objective.direction for objective in self.objectives]
            self._hypervolume = hypervolume(self._scaled(self._rows), self._scaled(self._reference), directions)
        return self._hypervolume

    def _scaled(self, values: Floats) -> Floats:
        if (values[..., self._log] <= 0).any():
            names = [objective.name for objective, log in zip(self.objectives, self._log, strict=True) if log]
            raise InputError(
                f"a value of {', '.join(names)} that is zero or less",
                "positive values where the logarithm is asked for",
            )
        return np.log(values, out=values.copy(), where=np.broadcast_to(self._log, values.shape))

    def _fix_reference(self, row: Floats) -> None:
        if self._reference is not None:
            return
        self._first.append(row)
        if len(self._first) < self._warmup:
            return
        costs = self._scaled(np.array(self._first)) * self._signs
        worst, span = costs.max(axis=0), np.ptp(costs, axis=0)
        scaled = (worst + 0.1 * np.where(span > 0, span, np.maximum(np.abs(worst), 1e-9))) * self._signs
        self._reference = np.exp(scaled, out=scaled.copy(), where=self._log)
        self._first.clear()
