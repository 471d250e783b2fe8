"""The physics: a device's time is a non-negative sum of a network's basis columns, its coefficients fitted on what
was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latency_db.predictor.features import Array

SHRINKAGE = 0.01
"""Weight of the squared coefficients against the squared relative error, both scaled to 1.

Many columns say nearly the same; without it, 10 to 20 measurements pick few of them at random. Ten times as much cost
up to eleven points of the share within 10 % of 100 measured (Jetson Nano of YOLOBench), a tenth of it cost a few
points with 10 measured.
"""


@dataclass(frozen=True)
class Prior:
    """``coefficients``: ms per unit of each column, none negative."""

    coefficients: tuple[float, ...]

    @classmethod
    def fit(cls, columns: Array, ms: Array) -> Prior:
        """Non-negative least squares of the relative error; ``columns`` (networks, columns), none negative, ``ms``
        (networks,)."""
        from sklearn.linear_model import LinearRegression

        relative = columns / ms[:, None]
        scale = np.sqrt((relative**2).mean(axis=0))
        scale[scale == 0] = np.inf  # a column that is 0 wherever it was measured says nothing
        scaled = relative / scale
        n, k = scaled.shape
        penalty = np.sqrt(SHRINKAGE * n) * np.eye(k)
        found = LinearRegression(positive=True, fit_intercept=False).fit(
            np.vstack([scaled, penalty]), np.concatenate([np.ones(n), np.zeros(k)])
        )
        fitted = scaled @ found.coef_
        stretch = fitted.sum() / (
            fitted @ fitted
        )  # the penalty made all times too short: back to the least relative error
        return cls(tuple((found.coef_ * stretch / scale).tolist()))

    def ms(self, columns: Array) -> Array:
        """(networks, columns) -> (networks,) in ms."""
        return np.asarray(columns @ np.array(self.coefficients))

    def shares(self, columns: Array, names: Sequence[str]) -> dict[str, float]:
        """What part of the networks' time each column explains, the largest first; those above 0."""
        parts = columns * np.array(self.coefficients)
        mean = (parts / parts.sum(axis=1, keepdims=True)).mean(axis=0)
        return {names[i]: float(mean[i]) for i in np.argsort(-mean) if mean[i] > 0}
