"""A Gaussian process with priors on its hyperparameters, and posterior samples that are functions of any inputs.

============  ==========  ==============================================================================
symbol        shape       meaning
============  ==========  ==============================================================================
``x``         (n, D)      training inputs, of about unit range
``y``         (n,)        targets, standardised to mean 0 and deviation 1
``groups``    (D,)        the parameter that each input column belongs to, 0 to G - 1
``l``         (G,)        lengthscale of each group; hyperparameters are kept as natural logarithms
``s, b, v``   scalars     variance of the smooth part, of the linear part, and of the observation noise
``c``         (D,)        mean of ``x``
``K``         (n, n)      covariance of the targets, ``K_ij = k(x_i, x_j) + v [i = j]``
``L``         (n, n)      lower Cholesky factor of ``K``
============  ==========  ==============================================================================

Kernel, with ``r^2 = 5 sum_d ((x_d - z_d) / l_groups(d))^2``::

    k(x, z) = s (1 + r + r^2 / 3) exp(-r) + b (x - c) . (z - c)        Matérn-5/2 plus linear

Hyperparameters maximise ``log N(y | 0, K) + log p(l, s, b, v)`` (maximum a posteriori) under log-normal priors.
Posterior samples follow Matheron's rule (Wilson et al., arXiv:2002.09309)::

    f_i(x) = p_i(x) + k(x, X) K^-1 (y - p_i(X) - e_i),    p_i ~ GP(0, k),  e_i ~ N(0, v I)

where ``p_i`` is a sum of random Fourier features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

Floats = NDArray[np.float64]

FREQUENCIES = 512
"""Random Fourier features of the prior part of a posterior sample."""
JITTER = 1e-8
COARSE, MAX_FITTED = 64, 128
"""Rows that starts of a fit are found on, and rows that hyperparameters are fitted on, at most: each step costs their
number cubed."""
REFINE = 15
"""Steps from the better start, at most."""


@dataclass(frozen=True)
class Hyperparameters:
    """Natural logarithms of the lengthscales (G,), the variances of the smooth and of the linear part, and of the
    observation noise."""

    lengths: Floats
    smooth: float
    linear: float
    noise: float

    @property
    def array(self) -> Floats:
        """All values as one array of shape (G + 3,), lengthscales first."""
        return np.array([*self.lengths, self.smooth, self.linear, self.noise])

    @classmethod
    def of(cls, row: Floats) -> Hyperparameters:
        """Return the hyperparameters of an array of shape (G + 3,), the inverse of :attr:`array`."""
        return cls(row[:-3], *(float(v) for v in row[-3:]))


@dataclass(frozen=True)
class OutputWarp:
    """Log-compression of targets above ``start``, in units of ``scale``; smaller targets are better and stay.

    ``w(y) = start + scale log(1 + (y - start) / scale)`` for ``y > start``, else ``y``. Networks that did not learn
    lie far from all others; without compression a Gaussian process explains little else.
    """

    start: float
    scale: float

    @classmethod
    def choices(cls, y: Floats) -> tuple[OutputWarp, OutputWarp]:
        """Return two warps for targets (n,): one from the median on, one from the best on."""
        best, middle = float(y.min()), float(np.median(y))
        unit = middle - best or float(y.std()) or 1.0
        return cls(middle, unit), cls(best, unit / 3)

    def __call__(self, y: Floats) -> Floats:
        """Warp targets of any shape."""
        return np.where(y > self.start, self.start + self.scale * np.log1p(self._beyond(y)), y)

    def inverse(self, y: Floats) -> Floats:
        """Return the targets of warped values of any shape."""
        return np.where(
            y > self.start, self.start + self.scale * np.expm1(np.clip((y - self.start) / self.scale, 0, 30)), y
        )

    def loss(self, y: Floats) -> float:
        """Return the negative log determinant of the warp's Jacobian at targets (n,).

        Added to :attr:`GaussianProcess.loss` it is the negative log posterior of the unwarped targets, by which warps
        compare.
        """
        return float(np.log1p(self._beyond(y)).sum())

    def _beyond(self, y: Floats) -> Floats:
        return np.maximum(y - self.start, 0) / self.scale


class GaussianProcess:
    """Gaussian process regression with Matérn-5/2 (one lengthscale per group of columns) plus a linear kernel.

    With few rows the linear part ranks as ridge regression does. Prior lengthscales grow with the root of the number of
    groups (Hvarfner et al., arXiv:2402.02229); the prior of the observation noise is small. Of more than
    :data:`MAX_FITTED` rows an evenly spaced part decides the hyperparameters; all rows enter the posterior.

    Args:
        x: Inputs, (n, D), of about unit range.
        y: Targets, (n,).
        groups: The parameter that each column belongs to, (D,).
        start: Hyperparameters of an earlier fit.
        steps: Iterations of L-BFGS from each start; 0 keeps ``start`` (or the mode of the prior).
    """

    def __init__(
        self,
        x: Floats,
        y: Floats,
        groups: NDArray[np.intp],
        start: Hyperparameters | None = None,
        steps: int = 50,
    ) -> None:
        self._mean, self._scale = float(y.mean()), float(y.std()) or 1.0
        self._x, self._y = x, (y - self._mean) / self._scale
        self._groups = groups
        self._count = int(groups.max()) + 1 if len(groups) else 0
        self._centre = x.mean(0)
        self._prior = _prior(self._count)
        self.hyperparameters = start if start is not None else Hyperparameters.of(self._prior[0])
        if steps and len(y) > 1:
            self.hyperparameters = self._fitted(steps)
        self._factor = cholesky(
            self._covariance(self._x, self._x) + self._nugget(self.hyperparameters) * np.eye(len(y)), lower=True
        )
        self._weights = cho_solve((self._factor, True), self._y)

    @property
    def loss(self) -> float:
        """Negative log posterior of the hyperparameters, up to a constant, for the targets in their own units."""
        away = (self.hyperparameters.array - self._prior[0]) / self._prior[1]
        own = 0.5 * self._y @ self._weights + np.log(np.diag(self._factor)).sum() + 0.5 * (away**2).sum()
        return float(own + len(self._y) * math.log(self._scale))

    @property
    def noise_deviation(self) -> float:
        """Standard deviation of the observation noise, in the unit of the targets."""
        return self._scale * math.sqrt(self._nugget(self.hyperparameters))

    def leave_one_out(self) -> tuple[Floats, Floats]:
        """Return mean and standard deviation (n,) of each target given all others, observation noise included.

        ``mean_i = y_i - (K^-1 y)_i / (K^-1)_ii`` and ``deviation_i^2 = 1 / (K^-1)_ii`` (Rasmussen and Williams, Gaussian
        Processes for Machine Learning, section 5.4.2), in the unit of the targets.
        """
        inverse = np.diag(cho_solve((self._factor, True), np.eye(len(self._y))))
        mean = self._y - self._weights / inverse
        return self._mean + self._scale * mean, self._scale / np.sqrt(inverse)

    def _fitted(self, steps: int) -> Hyperparameters:
        """Return a local optimum of the hyperparameters, from the best of several starts.

        The starts are the optima of few rows, from the given hyperparameters (or the mode of the prior) and from short
        lengthscales, and the given ones themselves. From long lengthscales alone, an optimiser may explain everything
        as observation noise.
        """
        centre, width = self._prior
        given = np.clip(self.hyperparameters.array, centre - 4 * width, centre + 4 * width)
        short = centre - 1.5 * (np.arange(len(centre)) < self._count)
        few, many = self._rows(COARSE), self._rows(MAX_FITTED)
        starts = [self._optimum(row, few, steps) for row in (given, short)]
        if len(few[1]) == len(many[1]):
            return Hyperparameters.of(min(starts, key=lambda row: self._loss(row, *many)[0]))
        best = min([*starts, given], key=lambda row: self._loss(row, *many)[0])
        return Hyperparameters.of(self._optimum(best, many, REFINE))

    def _rows(self, limit: int) -> tuple[Floats, Floats]:
        """Return inputs and targets of at most ``limit`` evenly spaced rows."""
        rows = np.unique(np.linspace(0, len(self._y) - 1, min(len(self._y), limit)).astype(int))
        return self._x[rows], self._y[rows]

    def _optimum(self, row: Floats, data: tuple[Floats, Floats], steps: int) -> Floats:
        """Return the local optimum (G + 3,) that L-BFGS finds from a row within four deviations of the prior."""
        bounds = np.column_stack([self._prior[0] - 4 * self._prior[1], self._prior[0] + 4 * self._prior[1]])
        return np.asarray(
            minimize(self._loss, row, data, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps}).x
        )

    def mean(self, x: Floats) -> Floats:
        """Return the posterior mean (m,) at inputs (m, D)."""
        return self._mean + self._scale * (self._covariance(x, self._x) @ self._weights)

    def sample(
        self, rng: np.random.Generator, count: int, observation_noise: bool = False
    ) -> Callable[[Floats], Floats]:
        """Return posterior samples as one function, (m, D) -> (m, count).

        The samples share their frequencies, not their amplitudes. With ``observation_noise`` each sample is shifted by
        one value of the noise, the same for all inputs: samples then compare with observed values, and no input is
        preferred for its noise.
        """
        hyper = self.hyperparameters
        lengths = np.exp(hyper.lengths)[self._groups]
        dims = len(self._groups)
        # The spectral density of Matérn-5/2 is a Student's t with 5 degrees of freedom.
        frequencies = (
            rng.standard_normal((dims, FREQUENCIES)) / np.sqrt(rng.chisquare(5, FREQUENCIES) / 5) / lengths[:, None]
        )
        phases = rng.uniform(0, 2 * math.pi, FREQUENCIES)
        amplitudes = rng.standard_normal((FREQUENCIES, count)) * math.sqrt(2 * math.exp(hyper.smooth) / FREQUENCIES)
        slopes = rng.standard_normal((dims, count)) * math.exp(hyper.linear / 2)
        # Single precision halves the time; its error is far below the observation noise.
        single = [part.astype(np.float32) for part in (frequencies, phases, amplitudes)]

        def prior(x: Floats) -> Floats:
            waves = np.cos(x.astype(np.float32) @ single[0] + single[1]) @ single[2]
            return np.asarray(waves + (x - self._centre) @ slopes, np.float64)

        deviation = math.sqrt(self._nugget(hyper))
        noise = rng.standard_normal((len(self._y), count)) * deviation
        correction = cho_solve((self._factor, True), self._y[:, None] - prior(self._x) - noise)
        shift = rng.standard_normal(count) * deviation if observation_noise else 0.0

        def samples(x: Floats) -> Floats:
            return self._mean + self._scale * (prior(x) + self._covariance(x, self._x) @ correction + shift)

        return samples

    def _nugget(self, hyper: Hyperparameters) -> float:
        return math.exp(hyper.noise) + JITTER

    def _covariance(self, x: Floats, z: Floats) -> Floats:
        """Return k(x, z), (m, n), for inputs (m, D) and (n, D)."""
        hyper = self.hyperparameters
        root = np.sqrt(5 * _squared_distances(x, z, np.exp(-hyper.lengths)[self._groups]))
        smooth = root * (1 / 3)
        smooth += 1.0
        smooth *= root
        smooth += 1.0
        smooth *= np.exp(-root, out=root)  # in place: most of a proposal's time is spent here
        smooth *= math.exp(hyper.smooth)
        smooth += (math.exp(hyper.linear) * (x - self._centre)) @ (z - self._centre).T
        return smooth

    def _loss(self, row: Floats, x: Floats, y: Floats) -> tuple[float, Floats]:
        """Return the negative log posterior of a row of hyperparameters (G + 3,) and its gradient (G + 3,).

        With ``A = K^-1 - K^-1 y y' K^-1``, the derivative by a hyperparameter ``t`` is ``trace(A dK/dt) / 2``.
        """
        hyper = Hyperparameters.of(row)
        scale = np.exp(-hyper.lengths)[self._groups]
        root = np.sqrt(5 * _squared_distances(x, x, scale))
        decay = np.exp(-root)
        decay *= math.exp(hyper.smooth)
        slope = (1 + root) * decay  # 3/5 of the derivative of the smooth part by half the squared distance
        smooth = slope + root**2 * decay / 3
        centred = x - self._centre
        linear = math.exp(hyper.linear) * centred @ centred.T
        covariance = smooth + linear
        covariance[np.diag_indices(len(y))] += self._nugget(hyper)
        try:
            factor = cholesky(covariance, lower=True)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(row)
        weights = cho_solve((factor, True), y)
        centre, width = self._prior
        away = (row - centre) / width
        value = 0.5 * y @ weights + np.log(np.diag(factor)).sum() + 0.5 * (away**2).sum()
        half = np.tril(dpotri(factor, lower=True)[0])
        inner = half + half.T - np.outer(weights, weights)
        inner[np.diag_indices(len(y))] -= np.diag(half)
        # By log lengthscale: (5/3) (1 + root) decay times the squared difference in the column, in lengthscales.
        w = inner * slope * (5 / 3)
        scaled = x * scale
        columns = 2 * ((scaled**2).T @ w.sum(1)) - 2 * (scaled * (w @ scaled)).sum(0)
        lengths = 0.5 * np.bincount(self._groups, columns, self._count)
        rest = [
            0.5 * np.vdot(inner, smooth),
            0.5 * np.vdot(inner, linear),
            0.5 * math.exp(hyper.noise) * np.trace(inner),
        ]
        return float(value), np.array([*lengths, *rest]) + away / width


def _squared_distances(x: Floats, z: Floats, scale: Floats) -> Floats:
    """Return squared distances (m, n) of inputs (m, D) and (n, D), whose columns are multiplied by ``scale`` (D,)."""
    a, b = x * scale, z * scale
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0.0)


def _prior(groups: int) -> tuple[Floats, Floats]:
    """Return means and standard deviations (G + 3,) of the log hyperparameters, ordered as
    :attr:`Hyperparameters.array`."""
    # The mode of the log-normal prior, not its median: an optimum is drawn to the mode.
    length = math.sqrt(2) + 0.5 * math.log(max(1, groups)) - 3
    mean = np.array([*[length] * groups, 0.0, -4.0, -7.0])
    deviation = np.array([*[math.sqrt(3)] * groups, 1.0, 1.5, 2.0])
    return mean, deviation
