"""Bayesian linear regression with known noise; ridge and weighted least squares are cases of it. NumPy only.

========  ======  ======================================================
symbol    shape   meaning
========  ======  ======================================================
X         (n, d)  inputs
y         (n,)    targets, ``y = X w + e``
s         (n,)    standard deviation of the observation noise ``e``
m, t      (d,)    mean and standard deviation of the prior of ``w``
C         (d, d)  posterior covariance of ``w``
========  ======  ======================================================

``C = (X' diag(s)^-2 X + diag(t)^-2)^-1`` and ``E[w | y] = C (X' diag(s)^-2 y + diag(t)^-2 m)``
(Bishop, *Pattern Recognition and Machine Learning*, 3.3.1). Ridge regression with penalty ``r`` has ``s = 1``,
``m = 0``, ``t = r^-1/2``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def linear_posterior(
    inputs: Array,
    targets: Array,
    *,
    noise: Array | float = 1.0,
    prior_mean: Array | float = 0.0,
    prior_deviation: Array | float = 1.0,
) -> tuple[Array, Array]:
    """Return mean (d,) and covariance (d, d) of the coefficients.

    Args:
        inputs: X, (n, d); n may be 0.
        targets: y, (n,).
        noise: s, (n,) or one number for all targets, above 0.
        prior_mean: m, (d,) or one number for all coefficients.
        prior_deviation: t, (d,) or one number for all coefficients, above 0.
    """
    precisions = np.broadcast_to(np.asarray(prior_deviation, np.float64) ** -2, inputs.shape[1:])
    weighted = inputs.T * np.broadcast_to(np.asarray(noise, np.float64) ** -2, inputs.shape[:1])
    precision = weighted @ inputs + np.diag(precisions)
    mean = np.linalg.solve(precision, weighted @ targets + precisions * prior_mean)
    return np.asarray(mean), np.asarray(np.linalg.inv(precision))
