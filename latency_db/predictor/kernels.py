"""How alike two networks are in what the physics misses: the covariance of the logarithm of their latency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Hyperparameter, Kernel, Matern, WhiteKernel

from latency_db.predictor.features import Array

# Variances are of log latency: 0.0025 is a deviation of 5 %. Bounds keep a fit on ten networks sane; they are wide
# enough to bind nowhere else.
VARIANCE = (1e-6, 0.25)
NOISE = (1e-5, 0.04)
SLOPE = (1e-4, 0.1)  # squared: how much of another device's surprise may be expected here, before the data say more
LENGTH = (0.3, 100.0)  # in standard deviations of the training set


class On(Kernel):
    """A kernel that sees only some of the columns."""

    def __init__(self, kernel: Kernel, columns: Sequence[int]) -> None:
        self.kernel = kernel
        self.columns = columns

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """As scikit-learn asks of every kernel."""
        own = {"kernel": self.kernel, "columns": self.columns}
        return {**own, **{f"kernel__{k}": v for k, v in self.kernel.get_params().items()}} if deep else own

    @property
    def hyperparameters(self) -> list[Hyperparameter]:
        """Those of the kernel inside."""
        return [
            Hyperparameter(f"kernel__{h.name}", h.value_type, h.bounds, h.n_elements)
            for h in self.kernel.hyperparameters
        ]

    @property
    def theta(self) -> Array:
        """Logarithms of the hyperparameters."""
        return np.asarray(self.kernel.theta)

    @theta.setter
    def theta(self, theta: Array) -> None:
        self.kernel.theta = theta

    @property
    def bounds(self) -> Array:
        """Bounds of :attr:`theta`."""
        return np.asarray(self.kernel.bounds)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, On) and list(self.columns) == list(other.columns) and bool(self.kernel == other.kernel)

    def __hash__(self) -> int:
        return hash(tuple(self.columns))

    def __call__(self, X: Array, Y: Array | None = None, eval_gradient: bool = False) -> Any:
        columns = list(self.columns)
        return self.kernel(X[:, columns], None if Y is None else Y[:, columns], eval_gradient)

    def diag(self, X: Array) -> Array:
        """Variances."""
        return np.asarray(self.kernel.diag(X[:, list(self.columns)]))

    def is_stationary(self) -> bool:
        """As the kernel inside."""
        return bool(self.kernel.is_stationary())


class Same(Kernel):
    """1 for rows that agree in every column, else 0: what networks of one image size share, say."""

    def __init__(self) -> None:
        """No parameters; scikit-learn reads them from this signature."""

    def __call__(self, X: Array, Y: Array | None = None, eval_gradient: bool = False) -> Any:
        same = (X[:, None, :] == (X if Y is None else Y)[None, :, :]).all(axis=2).astype(np.float64)
        return (same, np.empty((*same.shape, 0))) if eval_gradient else same

    def diag(self, X: Array) -> Array:
        """Ones."""
        return np.ones(len(X))

    def is_stationary(self) -> bool:
        """It is not a function of the difference alone that sklearn could use."""
        return False


def covariance(described: Sequence[int], family: int, size: int, others: Sequence[int]) -> Kernel:
    """The sum of five effects, whose sizes are found by the marginal likelihood; arguments are columns.

    Similar networks err alike; so do those of one family; so do similar ones of one image size (padding, alignment,
    the runtime's choice of kernels); a network that another device finds dear, physics apart, may be dear here as
    well (``others``); and every measurement has noise.
    """

    def scaled(variance: float, kernel: Kernel) -> Kernel:
        return ConstantKernel(variance, VARIANCE) * kernel

    total = scaled(2e-3, On(Matern(3.0, LENGTH, nu=2.5), described))
    total += scaled(1e-3, On(Same(), [family]))
    total += scaled(1e-3, On(Matern(5.0, LENGTH, nu=2.5), described) * On(Same(), [size]))
    if others:
        total += ConstantKernel(0.03, SLOPE) * On(DotProduct(0.0, "fixed"), others)
    return total + WhiteKernel(1e-3, NOISE)
