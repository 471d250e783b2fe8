"""Covariance of two networks' log latencies beyond the roofline model.

``k = a k_M(s, s') + b [f = f'] + c k_M(s, s') [p = p'] + d o . o' + v [same measurement]``, where ``s`` is the summary
of a network, ``f`` its family, ``p`` its image size, ``o`` the residuals of other devices, and ``k_M`` a Matérn-5/2
kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Hyperparameter, Kernel, Matern, WhiteKernel

from latency_db.predictor.features import Array

# Variances are of log latency: 0.0025 is a deviation of 5 %. Bounds matter in a fit on ten networks only.
VARIANCE = (1e-6, 0.25)
NOISE = (1e-5, 0.04)
SLOPE = (1e-4, 0.1)  # variance of the slope on another device's residual
LENGTH = (0.3, 100.0)  # in standard deviations of the training set


class On(Kernel):
    """A kernel on some of the input columns."""

    def __init__(self, kernel: Kernel, columns: Sequence[int]) -> None:
        self.kernel = kernel
        self.columns = columns

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, as scikit-learn requires of a kernel."""
        own = {"kernel": self.kernel, "columns": self.columns}
        return {**own, **{f"kernel__{k}": v for k, v in self.kernel.get_params().items()}} if deep else own

    @property
    def hyperparameters(self) -> list[Hyperparameter]:
        """Hyperparameters of the inner kernel."""
        return [
            Hyperparameter(f"kernel__{h.name}", h.value_type, h.bounds, h.n_elements)
            for h in self.kernel.hyperparameters
        ]

    @property
    def theta(self) -> Array:
        """Logarithms of the inner kernel's hyperparameters that are not fixed, (hyperparameters,)."""
        return np.asarray(self.kernel.theta)

    @theta.setter
    def theta(self, theta: Array) -> None:
        """Set the logarithms of the inner kernel's hyperparameters that are not fixed, (hyperparameters,)."""
        self.kernel.theta = theta

    @property
    def bounds(self) -> Array:
        """Lower and upper bound of each entry of :attr:`theta`, as logarithms, (hyperparameters, 2)."""
        return np.asarray(self.kernel.bounds)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, On) and list(self.columns) == list(other.columns) and bool(self.kernel == other.kernel)

    def __hash__(self) -> int:
        return hash(tuple(self.columns))

    def __call__(self, X: Array, Y: Array | None = None, eval_gradient: bool = False) -> Any:
        columns = list(self.columns)
        return self.kernel(X[:, columns], None if Y is None else Y[:, columns], eval_gradient)

    def diag(self, X: Array) -> Array:
        """Return the variances (n,) of inputs (n, D)."""
        return np.asarray(self.kernel.diag(X[:, list(self.columns)]))

    def is_stationary(self) -> bool:
        """Return whether the inner kernel is stationary."""
        return bool(self.kernel.is_stationary())


class Same(Kernel):
    """1 for rows that are equal in every column, else 0: the covariance of a random effect."""

    def __init__(self) -> None:
        """Take no parameters; scikit-learn reads them from this signature."""

    def __call__(self, X: Array, Y: Array | None = None, eval_gradient: bool = False) -> Any:
        same = (X[:, None, :] == (X if Y is None else Y)[None, :, :]).all(axis=2).astype(np.float64)
        return (same, np.empty((*same.shape, 0))) if eval_gradient else same

    def diag(self, X: Array) -> Array:
        """Return ones (n,), the variances of inputs (n, D)."""
        return np.ones(len(X))

    def is_stationary(self) -> bool:
        """Return False: scikit-learn must not treat it as a function of distances."""
        return False


def covariance(described: Sequence[int], family: int, size: int, others: Sequence[int]) -> Kernel:
    """Return the sum of five effects, whose variances the marginal likelihood decides.

    Args:
        described: Columns of the summary: similar networks have similar residuals.
        family: Column of the family: its networks share a residual.
        size: Column of the image size: similar networks of one size share a residual (padding, alignment, the
            runtime's choice of kernels).
        others: Columns of the residuals on other devices, which predict those on this device.
    """

    def scaled(variance: float, kernel: Kernel) -> Kernel:
        return ConstantKernel(variance, VARIANCE) * kernel

    total = scaled(2e-3, On(Matern(3.0, LENGTH, nu=2.5), described))
    total += scaled(1e-3, On(Same(), [family]))
    total += scaled(1e-3, On(Matern(5.0, LENGTH, nu=2.5), described) * On(Same(), [size]))
    if others:
        total += ConstantKernel(0.03, SLOPE) * On(DotProduct(0.0, "fixed"), others)
    return total + WhiteKernel(1e-3, NOISE)
