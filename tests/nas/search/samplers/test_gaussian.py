"""The Gaussian process against finite differences, unseen data and its own posterior; output warps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.linalg import cho_solve

from nas.search.samplers.gaussian import GaussianProcess, Hyperparameters, OutputWarp


def _data(count: int = 40) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    x = np.random.default_rng(1).random((count, 3))
    return x, np.sin(5 * x[:, 0]) + 2 * x[:, 1]


def test_the_gradient_of_the_posterior_is_that_of_differences() -> None:
    x, y = _data()
    process = GaussianProcess(x, y, np.arange(3), steps=0)
    row = np.array([0.3, -0.5, 1.0, 0.2, -0.7, -4.0])
    _, gradient = process._loss(row, process._x, process._y)
    for i in range(len(row)):
        up, down = (
            process._loss(row + sign * 1e-5 * np.eye(len(row))[i], process._x, process._y)[0] for sign in (1, -1)
        )
        assert gradient[i] == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-4)


def test_a_process_finds_what_matters_and_predicts_what_it_did_not_see() -> None:
    x, y = _data()
    process = GaussianProcess(x, y, np.arange(3))
    assert process.hyperparameters.lengths[2] > process.hyperparameters.lengths[0]  # the third column does nothing
    unseen = np.random.default_rng(2).random((200, 3))
    error = process.mean(unseen) - (np.sin(5 * unseen[:, 0]) + 2 * unseen[:, 1])
    assert np.sqrt((error**2).mean()) < 0.05 * y.std()
    assert Hyperparameters.of(process.hyperparameters.array).array.tolist() == process.hyperparameters.array.tolist()


def test_drawn_functions_are_distributed_as_the_posterior_says() -> None:
    x, y = _data(12)
    process = GaussianProcess(x, y, np.arange(3))
    unseen = np.random.default_rng(3).random((30, 3))
    drawn = process.sample(np.random.default_rng(4), 4000)(unseen)
    assert drawn.mean(1) == pytest.approx(process.mean(unseen), abs=0.15 * y.std())
    across, hyper = process._covariance(unseen, x), process.hyperparameters
    own = math.exp(hyper.smooth) + math.exp(hyper.linear) * ((unseen - x.mean(0)) ** 2).sum(1)
    deviation = y.std() * np.sqrt(own - (across * cho_solve((process._factor, True), across.T).T).sum(1))
    ratio = drawn.std(1) / deviation
    assert 0.8 < np.median(ratio) < 1.25 and ((ratio > 0.5) & (ratio < 2)).all(), (
        ratio
    )  # 512 frequencies are an approximation
    assert process.sample(np.random.default_rng(4), 8)(x) == pytest.approx(
        np.repeat(y[:, None], 8, 1), abs=0.15 * y.std()
    )


def test_a_warp_keeps_order_and_what_is_good_and_can_be_undone() -> None:
    y = np.array([-3.0, -2.0, -1.0, 0.0, 5.0, 500.0])
    for warp in OutputWarp.choices(y):
        assert (np.diff(warp(y)) > 0).all() and warp(y).max() < 20
        assert warp(y)[y <= warp.start].tolist() == y[y <= warp.start].tolist()
        assert warp.inverse(warp(y - 10)) == pytest.approx(y - 10), "better than the best that was seen, too"
        slopes = (warp(y + 1e-6) - warp(y)) / 1e-6
        assert warp.loss(y) == pytest.approx(-np.log(slopes).sum(), abs=1e-3)


def test_the_warp_under_which_values_are_the_most_probable_has_the_least_loss() -> None:
    """Exponentials of what is linear want the logarithm from the best on; what is linear wants to be left alone where
    it can be."""
    x = np.random.default_rng(0).random((60, 2))

    def losses(y: np.ndarray[Any, Any]) -> list[float]:
        return [GaussianProcess(x, warp(y), np.arange(2)).loss + warp.loss(y) for warp in OutputWarp.choices(y)]

    linear = x @ [1.0, 2.0]
    assert np.argmin(losses(linear)) == 0 and np.argmin(losses(np.expm1(2 * linear))) == 1
