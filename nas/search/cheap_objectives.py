"""What costs nearly nothing, asked before a search of more architectures than it evaluates, so that its models need
not learn that by evaluating."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping, Sequence

from nas.core.estimate import Objective
from nas.estimators.base import Estimator
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

AHEAD = 128
"""Points that are asked. A Gaussian process knows the MACs of `yolo-nano` to 13, 9 and 5 % from 64, 128 and 256 (by
hand); tracing each takes up to 0.1 s."""
Watch = Callable[[int, int, str], None]
"""Told after each point: how many of how many, and of what."""


def cheap_ones(objectives: Sequence[Objective], estimators: Sequence[Estimator]) -> list[Estimator]:
    """Those of objectives that may be asked of many."""
    return [e for e in estimators if e.cheap and e.name in {o.name for o in objectives}]


def ask_ahead(
    space: SearchSpace, objectives: Sequence[Objective], estimators: Sequence[Estimator], seed: int, watch: Watch
) -> Mapping[int, tuple[list[Architecture], list[float]]]:
    """By the place of each objective whose estimator is cheap: points of the space drawn by ``seed``, and values;
    empty where none is.

    A point for which an estimator fails, such as one beyond a predictor's domain, is left out.
    """
    places = {o.name: i for i, o in enumerate(objectives)}
    cheap = cheap_ones(objectives, estimators)
    rng = random.Random(f"{seed}/ahead")
    points = list(dict.fromkeys(space.sample(rng) for _ in range(AHEAD if cheap else 0)))
    told: dict[int, tuple[list[Architecture], list[float]]] = {places[e.name]: ([], []) for e in cheap}
    for number, point in enumerate(points, 1):
        for estimator in cheap:
            with contextlib.suppress(
                Exception
            ):  # what fails is recorded where it is a candidate; here it is only not known
                value = estimator(point).value
                known, values = told[places[estimator.name]]
                known.append(point)
                values.append(value)
        watch(number, len(points), ", ".join(e.name for e in cheap))
    return told
