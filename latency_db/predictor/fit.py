"""Fit of the latency model: a roofline prior mean and a Gaussian process of the residuals.

========  ======  ====================================================================================
symbol    shape   meaning
========  ======  ====================================================================================
``t``     (n,)    measured latency in ms
``B``     (n, k)  basis columns; the predicted latencies of other devices are columns as well
``p``     (n,)    roofline latency ``B w`` in ms (:class:`~latency_db.predictor.prior.Prior`)
``u``     (n,)    the same, each fitted without the network's fold
``v``     (n,)    variance of each measurement's log latency, from its interval
========  ======  ====================================================================================

``log t = log p + f(x) + e``, ``f ~ GP(0, k)``, ``e ~ N(0, diag(v))``. Hyperparameters of ``k`` maximise the marginal
likelihood of ``log(t / u)``; the posterior is that of ``log(t / p)``.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latency_db.predictor.features import BASIS, SUMMARY, Array, Features
from latency_db.predictor.prior import Prior
from search_spaces.image_size import ImageSize

NORMAL = 1.959964
TUNED_ON = 300
"""Rows that hyperparameters are fitted on at most: the likelihood costs their number cubed."""
JITTER = 1e-8
FOLDS = 10


@dataclass(frozen=True)
class Fit:
    """A roofline prior and a Gaussian process fitted on one set of networks.

    Attributes:
        prior: The roofline model.
        encoding: Standardises the inputs of the process.
        process: scikit-learn's ``GaussianProcessRegressor`` of the residuals.
        others: Fits of other devices.
    """

    prior: Prior
    encoding: _Encoding
    process: Any  # scikit-learn's GaussianProcessRegressor
    others: tuple[Fit, ...]

    @classmethod
    def of(
        cls,
        networks: Sequence[Features],
        ms: Array,
        half_width: Array,
        groups: Sequence[str],
        others: Sequence[Fit] = (),
    ) -> Fit:
        """Return the fit to measured networks.

        Hyperparameters are fitted on cross-validated residuals of the prior: it fits ten measurements nearly exactly,
        and a process tuned on its own residuals gives intervals several times too narrow.

        Args:
            networks: Features of the n measured networks.
            ms: Latencies, (n,).
            half_width: Half-widths of their 95 % intervals as shares, (n,), 0 if unknown.
            groups: Networks of one group (one architecture) stay in one fold, (n,).
            others: Fits of other devices.
        """
        columns = _columns(networks, others)
        prior = Prior.fit(columns, ms)
        unseen = np.zeros(len(ms))
        for held in folds(groups):
            unseen[held] = Prior.fit(columns[~held], ms[~held]).ms(columns[held])
        encoding = _Encoding.of(networks)
        inputs = encoding.encode(networks, others)
        process = _process(
            inputs,
            np.log(ms / prior.ms(columns)),
            np.log(ms / unseen),
            (half_width / NORMAL) ** 2 + JITTER,
            len(others),
        )
        return cls(prior, encoding, process, tuple(others))

    def predict(self, networks: Sequence[Features]) -> tuple[Array, Array]:
        """Return mean and standard deviation (n,) of the log latency in ms of a new measurement of each network."""
        residual, deviation = self.process.predict(self.encoding.encode(networks, self.others), return_std=True)
        return self._log_prior(networks) + residual, deviation

    def residual(self, networks: Sequence[Features]) -> Array:
        """Return the posterior mean (n,) of log latency minus log roofline latency."""
        return np.asarray(self.process.predict(self.encoding.encode(networks, self.others)))

    def covariance(self, networks: Sequence[Features]) -> tuple[Array, float]:
        """Return the posterior covariance (n, n) of log latency without noise, and the variance of the noise."""
        if not networks:
            return np.zeros((0, 0)), 1.0
        noise = float(np.exp(self.process.kernel_.theta[-1]))
        _, covariance = self.process.predict(self.encoding.encode(networks, self.others), return_cov=True)
        return covariance - noise * np.eye(len(networks)), noise

    def shares(self, networks: Sequence[Features]) -> dict[str, float]:
        """Return the mean share of the networks' latency that each column of the prior explains, largest first."""
        names = (*BASIS, *(f"time on device {i}" for i in range(len(self.others))))
        return self.prior.shares(_columns(networks, self.others), names)

    def _log_prior(self, networks: Sequence[Features]) -> Array:
        return np.asarray(np.log(self.prior.ms(_columns(networks, self.others))))


def _columns(networks: Sequence[Features], others: Sequence[Fit]) -> Array:
    """Return the columns (n, k) of the prior; the latencies of other devices are columns as well."""
    basis = np.array([f.basis for f in networks])
    return np.column_stack([basis, *(np.exp(other.predict(networks)[0]) for other in others)])


@dataclass(frozen=True)
class _Encoding:
    """Inputs of the process: the summary in standard deviations of the training set, family and image size as numbers,
    and the residuals on other devices."""

    centre: Array
    scale: Array
    families: tuple[str, ...]

    @classmethod
    def of(cls, networks: Sequence[Features]) -> _Encoding:
        values = np.array([f.summary for f in networks])
        return cls(
            values.mean(axis=0), np.maximum(values.std(axis=0), 0.02), tuple(sorted({f.family for f in networks}))
        )

    def encode(self, networks: Sequence[Features], others: Sequence[Fit]) -> Array:
        """Return inputs (n, summary + 2 + others) of networks."""
        summary = (np.array([f.summary for f in networks]) - self.centre) / self.scale
        family = [float(self.families.index(f.family)) if f.family in self.families else -1.0 for f in networks]
        return np.column_stack(
            [summary, family, [_code(f.image_size) for f in networks], *(other.residual(networks) for other in others)]
        )


def _code(size: ImageSize) -> float:
    """Return a number that differs between image sizes: the process only compares sizes for equality."""
    return float(size.height if size.is_square else size.height * 1_000_000 + size.width)


def _process(inputs: Array, targets: Array, unseen: Array, noise: Array, others: int) -> Any:
    """Return the posterior process of ``targets`` (n,), with hyperparameters fitted on ``unseen`` (n,).

    ``inputs`` are (n, D), ``noise`` is the known variance of each row (n,), ``others`` the number of other devices.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor

    from latency_db.predictor.kernels import covariance

    n = len(SUMMARY)
    kernel = covariance(range(n), n, n + 1, range(n + 2, n + 2 + others))
    some = np.unique(np.linspace(0, len(inputs) - 1, min(len(inputs), TUNED_ON)).astype(int))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a hyperparameter at its bound: the effect is absent
        tuned = GaussianProcessRegressor(kernel, alpha=noise[some]).fit(inputs[some], unseen[some]).kernel_
    return GaussianProcessRegressor(tuned, alpha=noise, optimizer=None).fit(inputs, targets)


def folds(groups: Sequence[str]) -> list[npt.NDArray[np.bool_]]:
    """Return up to 10 masks (n,) of held-out rows; rows of one group share a fold, and each row is held out once."""
    names = sorted(set(groups))
    order = np.random.default_rng(0).permutation(len(names))
    count = min(FOLDS, len(names))
    number = {name: int(i) % count for name, i in zip(names, order, strict=True)}
    of_row = np.array([number[group] for group in groups])
    return [of_row == k for k in range(count)]
