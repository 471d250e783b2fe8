"""Bayesian linear regression against closed forms and sampling."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from latency_db.predictor.linear import linear_posterior


def test_ridge_regression_is_a_case() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 4)), rng.normal(size=20)
    mean, covariance = linear_posterior(x, y, prior_deviation=0.1**-0.5)
    assert mean == pytest.approx(Ridge(alpha=0.1, fit_intercept=False).fit(x, y).coef_)
    assert covariance == pytest.approx(np.linalg.inv(x.T @ x + 0.1 * np.eye(4)))


def test_the_prior_without_data() -> None:
    mean, covariance = linear_posterior(
        np.empty((0, 2)), np.empty(0), prior_mean=np.array([1.0, -2.0]), prior_deviation=np.array([0.5, 3.0])
    )
    assert mean == pytest.approx([1, -2])
    assert covariance == pytest.approx(np.diag([0.25, 9]))
    assert linear_posterior(np.empty((3, 0)), np.ones(3))[0].shape == (0,)


def test_a_precise_target_outweighs_others() -> None:
    """Two measurements of one coefficient and its prior, weighted by their inverse variances."""
    mean, covariance = linear_posterior(
        np.ones((2, 1)), np.array([2.0, 5.0]), noise=np.array([0.5, 1.0]), prior_mean=1.0, prior_deviation=2.0
    )
    assert mean == pytest.approx([(4 * 2 + 1 * 5 + 0.25 * 1) / 5.25])
    assert covariance == pytest.approx(np.array([[1 / 5.25]]))


def test_coefficients_lie_within_their_posterior() -> None:
    rng, inside = np.random.default_rng(1), []
    for _ in range(400):
        w, x = rng.normal(1.0, 2.0, 3), rng.normal(size=(8, 3))
        noise = rng.uniform(0.2, 2, 8)
        mean, covariance = linear_posterior(
            x, x @ w + noise * rng.normal(size=8), noise=noise, prior_mean=1.0, prior_deviation=2.0
        )
        away = w - mean
        inside.append(away @ np.linalg.solve(covariance, away) < 7.815)  # 95 % of chi-squared with 3 degrees of freedom
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)
