"""Roofline model of latency: a non-negative sum of the basis columns of a network.

``t = B w``, ``w >= 0``, minimising ``mean((B w / t - 1)^2) + SHRINKAGE |S w|^2``, where ``S`` holds the root mean
squares of the columns of ``B / t``; then ``w`` is scaled to the least mean squared relative error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latency_db.predictor.features import Array

SHRINKAGE = 0.01
"""Weight of the squared coefficients against the squared relative error.

Many columns are nearly equal; without shrinkage, 10 to 20 measurements select few of them at random. Ten times the
value lowered the share of predictions within 10 % by up to eleven points with 100 measured networks (Jetson Nano,
YOLOBench), a tenth of it by a few points with 10.
"""


@dataclass(frozen=True)
class Prior:
    """A fitted roofline model; ``coefficients`` are ms per unit of each column, none negative."""

    coefficients: tuple[float, ...]

    @classmethod
    def fit(cls, columns: Array, ms: Array) -> Prior:
        """Return the non-negative least squares fit of columns (n, columns), none negative, to latencies (n,) in ms."""
        from sklearn.linear_model import LinearRegression

        relative = columns / ms[:, None]
        scale = np.sqrt((relative**2).mean(axis=0))
        scale[scale == 0] = np.inf  # a column of zeros gets the coefficient 0
        scaled = relative / scale
        n, k = scaled.shape
        penalty = np.sqrt(SHRINKAGE * n) * np.eye(k)
        found = LinearRegression(positive=True, fit_intercept=False).fit(
            np.vstack([scaled, penalty]), np.concatenate([np.ones(n), np.zeros(k)])
        )
        fitted = scaled @ found.coef_
        stretch = fitted.sum() / (fitted @ fitted)  # the penalty shortens all times
        return cls(tuple((found.coef_ * stretch / scale).tolist()))

    def ms(self, columns: Array) -> Array:
        """Return latencies (n,) in ms of columns (n, columns)."""
        return np.asarray(columns @ np.array(self.coefficients))

    def shares(self, columns: Array, names: Sequence[str]) -> dict[str, float]:
        """Return the mean share (0 to 1) of the latency that each named column explains, largest first.

        Columns with the share 0 are left out.

        Args:
            columns: Basis columns of n networks, (n, columns).
            names: Name of each column, (columns,).
        """
        parts = columns * np.array(self.coefficients)
        mean = (parts / parts.sum(axis=1, keepdims=True)).mean(axis=0)
        return {names[i]: float(mean[i]) for i in np.argsort(-mean) if mean[i] > 0}
