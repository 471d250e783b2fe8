"""The mathematics under :class:`latency_db.predictor.model.Predictor`: matrices in, means and variances of log
latency out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latency_db.predictor.features import BASIS, SUMMARY, Array, Features
from latency_db.predictor.prior import Prior

NORMAL = 1.959964
TUNED_ON = 300  # rows: the likelihood costs their number cubed, and so many settle a handful of hyperparameters
JITTER = 1e-8
FOLDS = 10


@dataclass(frozen=True)
class Fit:
    """A prior and a Gaussian process fitted on one set of networks; ``others`` are fits of other devices that both
    may use."""

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
        """From measured networks, their latency in ms, the half-width of its interval as a share, and their groups
        (all (networks,)).

        How large the residuals are is judged on networks that the prior was not fitted on: on ten measurements it
        fits nearly all of them exactly, and a process tuned on what is left would promise intervals several times too
        narrow.
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
        """Mean and standard deviation of log latency in ms, of a measurement to come; both (networks,)."""
        residual, deviation = self.process.predict(self.encoding.encode(networks, self.others), return_std=True)
        return self._log_prior(networks) + residual, deviation

    def residual(self, networks: Sequence[Features]) -> Array:
        """(networks,): by what the device's latency differs from its physics, in log."""
        return np.asarray(self.process.predict(self.encoding.encode(networks, self.others)))

    def covariance(self, networks: Sequence[Features]) -> tuple[Array, float]:
        """Posterior covariance of log latency without noise, (networks, networks), and the variance of the noise."""
        if not networks:
            return np.zeros((0, 0)), 1.0
        noise = float(np.exp(self.process.kernel_.theta[-1]))
        _, covariance = self.process.predict(self.encoding.encode(networks, self.others), return_cov=True)
        return covariance - noise * np.eye(len(networks)), noise

    def shares(self, networks: Sequence[Features]) -> dict[str, float]:
        """What part of the networks' time each column of the prior explains, the largest first."""
        names = (*BASIS, *(f"time on device {i}" for i in range(len(self.others))))
        return self.prior.shares(_columns(networks, self.others), names)

    def _log_prior(self, networks: Sequence[Features]) -> Array:
        return np.asarray(np.log(self.prior.ms(_columns(networks, self.others))))


def _columns(networks: Sequence[Features], others: Sequence[Fit]) -> Array:
    """(networks, basis): what the prior sums; the times of other devices are columns as well."""
    basis = np.array([f.basis for f in networks])
    return np.column_stack([basis, *(np.exp(other.predict(networks)[0]) for other in others)])


@dataclass(frozen=True)
class _Encoding:
    """Networks as the process sees them: the summary in standard deviations of the training set, family and image
    size as numbers, other devices."""

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
        """(networks, summary + family + image size + one per other device)."""
        summary = (np.array([f.summary for f in networks]) - self.centre) / self.scale
        family = [float(self.families.index(f.family)) if f.family in self.families else -1.0 for f in networks]
        return np.column_stack(
            [summary, family, [float(f.image_size) for f in networks], *(other.residual(networks) for other in others)]
        )


def _process(inputs: Array, targets: Array, unseen: Array, noise: Array, others: int) -> Any:
    """The process given ``targets``, its hyperparameters of the largest marginal likelihood on ``unseen``; ``noise``
    is the known variance of each row."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor

    from latency_db.predictor.kernels import covariance

    n = len(SUMMARY)
    kernel = covariance(range(n), n, n + 1, range(n + 2, n + 2 + others))
    some = np.unique(np.linspace(0, len(inputs) - 1, min(len(inputs), TUNED_ON)).astype(int))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bound that binds means that an effect is absent
        tuned = GaussianProcessRegressor(kernel, alpha=noise[some]).fit(inputs[some], unseen[some]).kernel_
    return GaussianProcessRegressor(tuned, alpha=noise, optimizer=None).fit(inputs, targets)


def folds(groups: Sequence[str]) -> list[npt.NDArray[np.bool_]]:
    """Up to 10 masks (rows,) of what is held out; rows of one group are never parted, and every row is held out
    once."""
    names = sorted(set(groups))
    order = np.random.default_rng(0).permutation(len(names))
    count = min(FOLDS, len(names))
    number = {name: int(i) % count for name, i in zip(names, order, strict=True)}
    of_row = np.array([number[group] for group in groups])
    return [of_row == k for k in range(count)]
