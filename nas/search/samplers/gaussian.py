"""A Gaussian process with priors on its hyperparameters, and functions drawn from it that can be evaluated anywhere,
as often as one likes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky
from scipy.optimize import minimize

Floats = NDArray[np.float64]

FREQUENCIES = 512
"""Random Fourier features of a drawn function's prior part."""
JITTER = 1e-8


@dataclass(frozen=True)
class Hyper:
    """Logarithms of the lengthscale of every group of columns, the variances of the smooth and of the linear part,
    and of the noise."""

    lengths: Floats
    smooth: float
    linear: float
    noise: float

    @property
    def array(self) -> Floats:
        """As one row, lengthscales first."""
        return np.array([*self.lengths, self.smooth, self.linear, self.noise])

    @classmethod
    def of(cls, row: Floats) -> Hyper:
        """Inverse of :attr:`array`."""
        return cls(row[:-3], *(float(v) for v in row[-3:]))


@dataclass(frozen=True)
class Warp:
    """What is worse than ``start`` (larger; all is minimised) drawn together by a logarithm in units of ``scale``: a
    model shall spend itself on what is good.

    Networks that did not learn at all lie far from all others, and a Gaussian process that has to explain them
    explains little else.
    """

    start: float
    scale: float

    @classmethod
    def choices(cls, y: Floats) -> tuple[Warp, Warp]:
        """For values (n,): from the median on, in units of its distance to the best; and from the best on, in thirds
        of that."""
        best, middle = float(y.min()), float(np.median(y))
        unit = middle - best or float(y.std()) or 1.0
        return cls(middle, unit), cls(best, unit / 3)

    def __call__(self, y: Floats) -> Floats:
        return np.where(y > self.start, self.start + self.scale * np.log1p(self._beyond(y)), y)

    def back(self, y: Floats) -> Floats:
        """Inverse."""
        return np.where(
            y > self.start, self.start + self.scale * np.expm1(np.clip((y - self.start) / self.scale, 0, 30)), y
        )

    def loss(self, y: Floats) -> float:
        """Negative logarithm of the slope, summed: with a model's own loss it tells which warp makes values (n,) the
        most probable."""
        return float(np.log1p(self._beyond(y)).sum())

    def _beyond(self, y: Floats) -> Floats:
        return np.maximum(y - self.start, 0) / self.scale


class Process:
    """Matérn-5/2 with one lengthscale per group of columns, plus a linear part: with few points it ranks like ridge
    regression, with many as it must.

    Inputs (n, D) of about unit range, targets (n,). Hyperparameters are the most probable ones under log-normal
    priors: lengthscales grow with the root of the dimension (Hvarfner et al., arXiv:2402.02229), noise is small.
    ``start`` are those of an earlier fit; ``steps`` bounds the optimisation.
    """

    def __init__(
        self, x: Floats, y: Floats, groups: NDArray[np.intp], start: Hyper | None = None, steps: int = 50
    ) -> None:
        self._mean, self._scale = float(y.mean()), float(y.std()) or 1.0
        self._x, self._y = x, (y - self._mean) / self._scale
        self._groups = groups
        self._count = int(groups.max()) + 1 if len(groups) else 0
        self._centre = x.mean(0)
        self._prior = _prior(self._count)
        self.hyper = start if start is not None else Hyper.of(self._prior[0])
        if steps and len(y) > 1:
            self.hyper = self._fitted(steps)
        self._factor = cholesky(
            self._covariance(self._x, self._x, self.hyper) + self._nugget(self.hyper) * np.eye(len(y)), lower=True
        )
        self._weights = cho_solve((self._factor, True), self._y)

    @property
    def loss(self) -> float:
        """Negative log posterior of the hyperparameters, up to a constant, for the targets in their own units."""
        away = (self.hyper.array - self._prior[0]) / self._prior[1]
        own = 0.5 * self._y @ self._weights + np.log(np.diag(self._factor)).sum() + 0.5 * (away**2).sum()
        return float(own + len(self._y) * math.log(self._scale))

    def _fitted(self, steps: int) -> Hyper:
        """The most probable hyperparameters that are found from the start, and from short lengthscales: from long
        ones alone everything may pass for noise."""
        low, high = self._prior[0] - 4 * self._prior[1], self._prior[0] + 4 * self._prior[1]
        bounds = list(zip(low, high, strict=True))
        short = self._prior[0].copy()
        short[: self._count] -= 1.5
        starts = [np.clip(row, low, high) for row in (self.hyper.array, short)]
        found = [
            minimize(self._loss, row, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps})
            for row in starts
        ]
        return Hyper.of(min(found, key=lambda f: float(f.fun)).x)

    def mean(self, x: Floats) -> Floats:
        """(m, D) -> expected values (m,)."""
        return self._mean + self._scale * (self._covariance(x, self._x, self.hyper) @ self._weights)

    def draw(self, rng: np.random.Generator, count: int, observed: bool = False) -> Callable[[Floats], Floats]:
        """``count`` functions drawn from the posterior: (m, D) -> (m, count).

        Prior functions of random Fourier features, corrected by what they miss at the points that are known
        (Matheron's rule; Wilson et al., arXiv:2002.09309). The functions share their frequencies, not their
        amplitudes. ``observed``: with the noise of an observation, one number for all points of a function, so that
        points are not told apart by their luck.
        """
        hyper = self.hyper
        lengths = np.exp(hyper.lengths)[self._groups]
        dims = len(self._groups)
        # The spectrum of Matérn-5/2 is Student's t with 5 degrees of freedom.
        frequencies = (
            rng.standard_normal((dims, FREQUENCIES)) / np.sqrt(rng.chisquare(5, FREQUENCIES) / 5) / lengths[:, None]
        )
        phases = rng.uniform(0, 2 * math.pi, FREQUENCIES)
        amplitudes = rng.standard_normal((FREQUENCIES, count)) * math.sqrt(2 * math.exp(hyper.smooth) / FREQUENCIES)
        slopes = rng.standard_normal((dims, count)) * math.exp(hyper.linear / 2)

        narrow = [
            part.astype(np.float32) for part in (frequencies, phases, amplitudes)
        ]  # half the time, and no difference beside the noise

        def prior(x: Floats) -> Floats:
            waves = np.cos(x.astype(np.float32) @ narrow[0] + narrow[1]) @ narrow[2]
            return np.asarray(waves + (x - self._centre) @ slopes, np.float64)

        noise = rng.standard_normal((len(self._y), count)) * math.sqrt(self._nugget(hyper))
        correction = cho_solve((self._factor, True), self._y[:, None] - prior(self._x) - noise)

        luck = rng.standard_normal(count) * math.sqrt(self._nugget(hyper)) if observed else 0.0

        def drawn(x: Floats) -> Floats:
            return self._mean + self._scale * (prior(x) + self._covariance(x, self._x, hyper) @ correction + luck)

        return drawn

    def _nugget(self, hyper: Hyper) -> float:
        return math.exp(hyper.noise) + JITTER

    def _distances(self, x: Floats, y: Floats, hyper: Hyper) -> Floats:
        """Squared distances in lengthscales."""
        scale = np.exp(-hyper.lengths)[self._groups]
        a, b = x * scale, y * scale
        return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0.0)

    def _covariance(self, x: Floats, y: Floats, hyper: Hyper) -> Floats:
        root = np.sqrt(5 * self._distances(x, y, hyper))
        smooth = root * (1 / 3)
        smooth += 1.0
        smooth *= root
        smooth += 1.0
        smooth *= np.exp(-root, out=root)  # in place: this is where a proposal's time goes
        smooth *= math.exp(hyper.smooth)
        smooth += (math.exp(hyper.linear) * (x - self._centre)) @ (y - self._centre).T
        return smooth

    def _loss(self, row: Floats) -> tuple[float, Floats]:
        """Negative log posterior of hyperparameters and its gradient."""
        hyper = Hyper.of(row)
        root = np.sqrt(5 * self._distances(self._x, self._x, hyper))
        decay = math.exp(hyper.smooth) * np.exp(-root)
        smooth = (1 + root + root**2 / 3) * decay
        centred = self._x - self._centre
        linear = math.exp(hyper.linear) * centred @ centred.T
        nugget = self._nugget(hyper)
        try:
            factor = cholesky(smooth + linear + nugget * np.eye(len(self._y)), lower=True)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(row)
        weights = cho_solve((factor, True), self._y)
        centre, width = self._prior
        away = (row - centre) / width
        value = 0.5 * self._y @ weights + np.log(np.diag(factor)).sum() + 0.5 * (away**2).sum()
        inner = cho_solve((factor, True), np.eye(len(self._y))) - np.outer(
            weights, weights
        )  # twice the gradient by the covariance
        # By log lengthscale: (5/3)(1 + root) decay times the squared difference in that column, in lengthscales.
        w = inner * (5 / 3) * (1 + root) * decay
        scaled = self._x * np.exp(-hyper.lengths)[self._groups]
        columns = 2 * ((scaled**2).T @ w.sum(1)) - 2 * (scaled * (w @ scaled)).sum(0)
        lengths = 0.5 * np.bincount(self._groups, columns, self._count)
        rest = [
            0.5 * (inner * smooth).sum(),
            0.5 * (inner * linear).sum(),
            0.5 * math.exp(hyper.noise) * np.trace(inner),
        ]
        return float(value), np.array([*lengths, *rest]) + away / width


def _prior(groups: int) -> tuple[Floats, Floats]:
    """Means and standard deviations of the logarithms of hyperparameters, in the order of :attr:`Hyper.array`."""
    length = (
        math.sqrt(2) + 0.5 * math.log(max(1, groups)) - 3
    )  # the mode of that log-normal, not its median: where an optimum should be drawn to
    mean = np.array([*[length] * groups, 0.0, -4.0, -7.0])
    deviation = np.array([*[math.sqrt(3)] * groups, 1.0, 1.5, 2.0])
    return mean, deviation
