"""How much a point would add to a front: hypervolume, and where nothing adds any, how near it comes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SAMPLES = 1024


def gains(points: Floats, front: Floats, reference: Floats) -> Floats:
    """Hypervolume (n,) that each of the points (n, m), to be minimised, adds to the front (k, m) below the reference point (m,); one objective: how much
    lower. By two objectives exactly; by more, of 1,024 points that fill the box below the reference, those that only the new point dominates."""
    if points.shape[1] == 1:
        best = min(front.min(initial=np.inf), reference[0])
        return np.maximum(best - points[:, 0], 0.0)
    if points.shape[1] == 2:
        return _areas(points, front, reference)
    return _volumes(points, front, reference)


def _areas(points: Floats, front: Floats, reference: Floats) -> Floats:
    front = front[(front < reference).all(1)]
    front = front[np.lexsort((front[:, 1], front[:, 0]))]
    heights = np.minimum.accumulate(np.concatenate([[reference[1]], front[:, 1]]))
    edges = np.concatenate([[-np.inf], front[:, 0], [reference[0]]])
    widths = np.maximum(np.minimum(edges[1:], reference[0]) - np.maximum(edges[:-1], points[:, :1]), 0.0)
    return (widths * np.maximum(heights - points[:, 1:], 0.0)).sum(1)


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
    """How far (n,) each point lies before the front (positive) or behind it: the least over the front of its best advantage, in units of ``spread`` (m,).

    Unlike hypervolume it has no plateau behind the front (additive epsilon indicator; Zitzler et al., doi:10.1109/TEVC.2003.810758).
    """
    if len(front) == 0:
        return -(points / spread).sum(1)
    return np.asarray(((front[:, None] - points) / spread).max(2).min(0))


def corners(front: Floats, reference: Floats, budgets: Floats) -> Floats:
    """Per budget on the first of two objectives (k,): it, and the best second value (k, 2) that a point of the front has within it (the reference's: none)."""
    within = np.where(front[:, 0] <= budgets[:, None], front[:, 1], np.inf)
    return np.column_stack([budgets, np.minimum(within.min(1, initial=np.inf), reference[1])])


def gains_within(points: Floats, best: Floats) -> Floats:
    """How much (n,) each of the points (n, 2) improves on the best second values within budgets, ``best`` from :func:`corners`; summed over budgets."""
    better = np.maximum(best[:, 1] - points[:, 1:], 0.0)
    return np.asarray((better * (points[:, :1] <= best[:, 0])).sum(1))


def nearness_within(points: Floats, best: Floats, spread: Floats) -> Floats:
    """How far (n,) each point is from improving on any budget's best: 0 or less, 0 where it does."""
    return -np.maximum(((points[:, None] - best) / spread).max(2).min(1), 0.0)
