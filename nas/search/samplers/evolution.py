"""Maximisation of an acquisition value over a search space: evolution, then one-change local search."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nas.core.pareto import non_dominated
from nas.search.samplers.encoding import Encoding
from nas.search.samplers.history import History

Floats = NDArray[np.float64]

POOL, ROUNDS, PARENTS = 400, 6, 60
"""Points to begin with, rounds of evolution, and points that survive a round."""


def maximise(
    acquisition: Callable[[Floats], Floats], rng: np.random.Generator, encoding: Encoding, history: History
) -> tuple[Floats, float]:
    """Return the unseen point (d,) with the largest acquisition value that is found, and the value.

    A space of which every point was tried gives a random point and 0.

    Args:
        acquisition: Values (n,) of points (n, d).
        rng: Random numbers.
        encoding: The search space.
        history: Trials; evolution starts from the best of them, and none is proposed again.
    """
    good = history.parents
    near = encoding.mutated(rng, good[rng.integers(len(good), size=POOL // 2)])
    crossed, uniform = encoding.crossed(rng, good, POOL // 4), encoding.random(rng, POOL - POOL // 2 - POOL // 4)
    pool = history.unseen(np.concatenate([near, crossed, uniform]))
    scores = acquisition(pool) if len(pool) else np.empty(0)
    for round_ in range(ROUNDS):
        if len(pool) == 0:
            break
        order = np.argsort(-scores, kind="stable")[:PARENTS]
        pool, scores = pool[order], scores[order]
        if round_ < ROUNDS - 1:
            mutated = encoding.mutated(rng, pool[rng.integers(len(pool), size=2 * PARENTS)])
            more = np.concatenate([mutated, encoding.crossed(rng, pool, PARENTS)])
        else:
            more = encoding.neighbours(pool[0])
        more = history.unseen(np.concatenate([pool, more]))[len(pool) :]
        if len(more):
            pool, scores = np.concatenate([pool, more]), np.concatenate([scores, acquisition(more)])
    if len(pool) == 0:
        return encoding.random(rng, 1)[0], 0.0
    return np.asarray(pool[scores.argmax()]), float(scores.max())


def evolved_front(
    values: Callable[[Floats], Floats], rng: np.random.Generator, encoding: Encoding, pool: Floats
) -> Floats:
    """Return a pool (n, d) extended by evolution along the front of ``values``, (n, d) -> (n, m), all minimised."""
    for _ in range(ROUNDS):
        v = values(pool)
        good = pool[non_dominated(v, ["min"] * v.shape[1])]
        mutated = encoding.mutated(rng, good[rng.integers(len(good), size=PARENTS)])
        pool = np.concatenate([pool, mutated, encoding.crossed(rng, good, PARENTS)])
    return pool
