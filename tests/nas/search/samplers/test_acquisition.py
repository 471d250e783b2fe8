"""Acquisition values against differences of hypervolume and their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from nas.core.pareto import hypervolume
from nas.search.samplers.acquisition import BudgetImprovement, HypervolumeImprovement, additive_epsilon


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
def test_gains_are_differences_of_hypervolume(dims: int) -> None:
    rng = np.random.default_rng(dims)
    front, points, reference = rng.random((6, dims)), 1.3 * rng.random((40, dims)), np.full(dims, 1.1)
    directions = ["min"] * dims
    before = hypervolume(front, reference, directions)
    expected = [hypervolume(np.concatenate([front, p[None]]), reference, directions) - before for p in points]
    assert HypervolumeImprovement(front, reference)(points) == pytest.approx(expected, abs=1e-9)
    assert HypervolumeImprovement(front[:0], reference)(points) == pytest.approx(
        [hypervolume(p[None], reference, directions) for p in points], abs=1e-9
    )


@pytest.mark.parametrize("dims", [2, 3])
def test_improvement_on_a_front_with_more_points_than_the_grid_has_values(dims: int) -> None:
    """Rounded up to quantiles: never less than the exact improvement, and close to it."""
    rng = np.random.default_rng(dims)
    front = np.abs(rng.normal(size=(200, dims)))
    front, reference = 1 - front / np.linalg.norm(front, axis=1, keepdims=True), np.full(dims, 1.1)
    points = rng.random((300, dims))
    exact = HypervolumeImprovement(front, reference, 10**8)(points)
    rounded = HypervolumeImprovement(front, reference, 40**dims)(points)
    assert (rounded >= exact - 1e-12).all()
    assert np.mean(rounded - exact) < 0.25 * exact.mean()
    dominated = 2 * rng.random((300, dims))
    dominated = dominated[(front[:, None] <= dominated).all(2).any(0)]
    assert (HypervolumeImprovement(front, reference, 10**8)(dominated) == 0).all()


def test_additive_epsilon_of_three_objectives_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(0)
    points, front, scale = rng.random((20, 3)), rng.random((7, 3)), np.array([1.0, 2.0, 0.5])
    expected = ((front[:, None] - points) / scale).max(2).min(0)
    assert additive_epsilon(points, front, scale) == pytest.approx(expected)


def test_additive_epsilon_tells_before_from_behind() -> None:
    front = np.array([[0.0, 1.0], [1.0, 0.0]])
    before, on, behind, further = additive_epsilon(
        np.array([[0.4, 0.4], [1.0, 0.0], [1.1, 1.1], [2.0, 2.0]]), front, np.ones(2)
    )
    assert before > on == 0 > behind > further


def test_gains_and_nearness_are_those_of_their_definitions() -> None:
    """Of many small fronts, ties and duplicates among them: hypervolume with the point less without it; the least
    over the front of its best advantage."""
    rng = np.random.default_rng(0)
    reference, spread = np.array([8.0, 8.0]), np.array([2.0, 0.5])
    for i in range(60):
        front = rng.integers(0, 8, (rng.integers(0, 12), 2)).astype(float) + (0 if i % 2 else rng.random())
        points = rng.integers(-1, 10, (12, 2)).astype(float)
        before = hypervolume(front, reference, ["min"] * 2)
        grown = [hypervolume(np.vstack([front, p]), reference, ["min"] * 2) - before for p in points]
        assert HypervolumeImprovement(front, reference)(points) == pytest.approx(grown, abs=1e-9)
        if len(front):
            assert additive_epsilon(points, front, spread) == pytest.approx(
                ((front[:, None] - points) / spread).max(2).min(0), abs=1e-9
            )


def test_improving_within_budgets_and_up_to_goals() -> None:
    front, reference = np.array([[1.0, 5.0], [2.0, 3.0], [4.0, 1.0]]), np.array([9.0, 8.0])
    focus = BudgetImprovement.of([2.5, 0.5, 4.0], (), ())
    assert focus is not None
    best = focus.best(front, reference)
    assert best.tolist() == [[0.5, 8.0], [2.5, 3.0], [4.0, 1.0]]
    points = np.array([[0.4, 7.0], [2.5, 2.0], [2.5, 0.0], [5.0, 0.0], [3.0, 2.0]])
    assert focus.improvement(points, best).tolist() == [1.0, 1.0, 4.0, 0.0, 0.0]
    near = focus.additive_epsilon(points, best, np.ones(2))
    assert near[:3].tolist() == [0, 0, 0] and near[3:].tolist() == [-1, -0.5]
    one = BudgetImprovement.of([2.5], (), ())
    assert one is not None
    assert one.improvement(points, one.best(front[:0], reference)).tolist() == [1.0, 6.0, 8.0, 0.0, 0.0]

    goals = BudgetImprovement.of((), [-3.0], ())  # a gain of -3 or more is a second value of 3 or less
    assert goals is not None and goals.applies(np.array([1.0, -1.0])) and not goals.applies(np.array([1.0, 1.0]))
    assert goals.best(front, reference).tolist() == [[3.0, 2.0]]
    assert goals.improvement(np.array([[1.5, 3.0], [1.5, 3.1], [3.0, 0.0]]), goals.best(front, reference)).tolist() == [
        0.5,
        0.0,
        0.0,
    ]
    with pytest.raises(ValueError, match="one of both"):
        BudgetImprovement.of([1.0], [1.0], ())
