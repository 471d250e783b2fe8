"""Warm start with cheap objectives: they are evaluated at more points than the search evaluates as candidates, so that
the sampler's models need no expensive evaluations to learn them."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping, Sequence

from nas.core.estimate import Objective
from nas.estimators.base import Estimator
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

AHEAD = 128
"""Points of the warm start. A Gaussian process predicts the MACs of `yolo-nano` within 13, 9 and 5 % from 64, 128 and
256 points (informal measurement, no script); tracing one takes up to 0.1 s."""
Watch = Callable[[int, int, str], None]
"""``watch(done, total, names)``, called after each point."""


def cheap_estimators(objectives: Sequence[Objective], estimators: Sequence[Estimator]) -> list[Estimator]:
    """Return the estimators of objectives that are cheap."""
    return [e for e in estimators if e.cheap and e.name in {o.name for o in objectives}]


def evaluate_cheap_objectives(
    space: SearchSpace, objectives: Sequence[Objective], estimators: Sequence[Estimator], seed: int, watch: Watch
) -> Mapping[int, tuple[list[Architecture], list[float]]]:
    """Evaluate every cheap objective at :data:`AHEAD` random points of the space.

    Args:
        space: Space of the points.
        objectives: Objectives of the study.
        estimators: Estimators of the study.
        seed: Seed of the points; the same seed gives the same points.
        watch: Progress callback.

    Returns the points and their values by the index of the objective; empty if none is cheap. A point at which an
    estimator fails, for example outside a predictor's domain, is left out.
    """
    places = {o.name: i for i, o in enumerate(objectives)}
    cheap = cheap_estimators(objectives, estimators)
    rng = random.Random(f"{seed}/ahead")
    points = list(dict.fromkeys(space.sample(rng) for _ in range(AHEAD if cheap else 0)))
    found: dict[int, tuple[list[Architecture], list[float]]] = {places[e.name]: ([], []) for e in cheap}
    for number, point in enumerate(points, 1):
        for estimator in cheap:
            with contextlib.suppress(Exception):  # a failure is recorded if the point becomes a candidate
                value = estimator(point).value
                known, values = found[places[estimator.name]]
                known.append(point)
                values.append(value)
        watch(number, len(points), ", ".join(e.name for e in cheap))
    return found
