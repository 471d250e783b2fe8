"""The latency predictor: latency of an unmeasured network with a 95 % interval and a cross-validated error."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latency_db.predictor.features import SUMMARY, Array, Features
from latency_db.predictor.fit import NORMAL, Fit, folds
from search_spaces.errors import InputError

VERSION = 1
FEWEST_ROWS, FEWEST_GROUPS = 6, 3
MARGIN = 0.3
"""Extrapolation that is allowed on each side, as a share of the training range of a feature."""
SLACK = 0.1
"""The same at least, in units of the feature: 10 % where the feature is a logarithm."""
CONFIDENCE = 0.95
LARGEST_POOL = 2000


class OutOfDomain(InputError):
    """Raised for a network whose features lie outside the range of the measured ones."""


@dataclass(frozen=True)
class Row:
    """A measured network.

    Attributes:
        features: Features of the network.
        ms: Latency, ms.
        group: Rows of one group (an architecture at several image sizes) share a fold in cross-validation.
        half_width: Half of the measurement's 95 % interval as a share of the latency, 0 if unknown.

    Raises:
        InputError: The latency is not finite and positive, or the half-width is not finite or is negative.
    """

    features: Features
    ms: float
    group: str
    half_width: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.ms) and self.ms > 0 and math.isfinite(self.half_width) and self.half_width >= 0):
            raise InputError(f"latency {self.ms} ms ± {self.half_width:.1%} of {self.group}", "finite positive numbers")


@dataclass(frozen=True)
class Prediction:
    """Latency in ms and its 95 % interval."""

    ms: float
    low_ms: float
    high_ms: float


@dataclass(frozen=True)
class Report:
    """Cross-validated error: every network is predicted from those of other groups. Shares are from 0 to 1.

    Attributes:
        rows: Number of networks.
        groups: Number of groups.
        mape: Mean absolute relative error.
        within_5: Share of predictions within 5 % of the measurement.
        within_10: The same within 10 %.
        tau: Kendall's rank correlation of predictions and measurements.
        coverage: Share of the measurements inside their 95 % interval.
        added: Standard deviation of log latency that was added to every prediction.
    """

    rows: int
    groups: int
    mape: float
    within_5: float
    within_10: float
    tau: float
    coverage: float
    added: float

    @classmethod
    def of(
        cls, predicted: Array, measured: Array, inside: npt.NDArray[np.bool_], groups: int, added: float = 0.0
    ) -> Report:
        """Return the report of n predicted and measured latencies.

        Args:
            predicted: Predicted latencies, (n,), ms.
            measured: Measured latencies, (n,), ms.
            inside: Whether the measurement lies in the 95 % interval of its prediction, (n,).
            groups: Number of groups.
            added: Standard deviation of log latency that was added to every prediction.
        """
        from scipy.stats import kendalltau

        error = np.abs(predicted / measured - 1)
        tau = float(kendalltau(predicted, measured).statistic)
        within_5, within_10 = (float((error <= limit).mean()) for limit in (0.05, 0.10))
        return cls(len(error), groups, float(error.mean()), within_5, within_10, tau, float(inside.mean()), added)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, JSON-ready."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"error {self.mape:.1%}, within ±5 % {self.within_5:.0%}, within ±10 % {self.within_10:.0%}, "
            f"tau {self.tau:.3f}, 95 % intervals hold {self.coverage:.0%} "
            f"(cross-validated over {self.rows} networks of {self.groups} architectures)"
        )


@dataclass(frozen=True)
class Predictor:
    """Predicts latency on one target from the ``rows`` measured there, which are its whole state.

    Log latency is the logarithm of a :class:`~latency_db.predictor.prior.Prior` plus a Gaussian process.

    Example::

        predictor = Predictor.fit(rows_of(database, key))
        prediction = predictor.predict(network_features(network))
        print(prediction.ms, predictor.report())

    Args:
        rows: Measured networks.
        transfer: Predictors of other devices, whose predictions are further inputs.
    """

    rows: tuple[Row, ...]
    transfer: tuple[Predictor, ...] = ()

    @classmethod
    def fit(cls, rows: Sequence[Row], transfer: Sequence[Predictor] = ()) -> Predictor:
        """Return a predictor of measured networks; the regression is fitted at the first prediction.

        Raises:
            InputError: Fewer than 6 networks or 3 groups.
        """
        groups = {row.group for row in rows}
        if len(rows) < FEWEST_ROWS or len(groups) < FEWEST_GROUPS:
            raise InputError(
                f"{len(rows)} measured networks of {len(groups)} architectures",
                f"at least {FEWEST_ROWS} of {FEWEST_GROUPS} to predict latency from",
                "measure more: nas onboard",
            )
        return cls(tuple(rows), tuple(transfer))

    def predict(self, features: Features) -> Prediction:
        """Predict the latency of one network.

        Raises:
            OutOfDomain: Its features lie outside the measured range.
        """
        return self.predict_all([features])[0]

    def predict_all(self, networks: Sequence[Features]) -> list[Prediction]:
        """Predict the latencies of several networks, in their order.

        Raises:
            OutOfDomain: The features of a network lie outside the measured range.
        """
        for features in networks:
            if reason := self.outside(features):
                raise OutOfDomain(*reason)
        mean, deviation = self._fit.predict(networks)
        reach = NORMAL * np.hypot(deviation, self._added)
        return [Prediction(*map(float, row)) for row in np.exp(np.column_stack([mean, mean - reach, mean + reach]))]

    def outside(self, features: Features) -> tuple[str, str, str] | None:
        """Return what is outside the measured range: the problem, the expected range and a hint; None if nothing is.

        The range is that of :data:`~latency_db.predictor.features.SUMMARY` on all devices, with a margin.
        """
        values = np.array(features.summary)
        low, high = self._domain
        far = np.maximum(low - values, values - high) / (high - low)
        worst = int(far.argmax())
        if far[worst] <= 0:
            return None
        name, show = _shown(SUMMARY[worst])
        expected = f"between {show(low[worst])} and {show(high[worst])}, near what was measured"
        return (
            f"{name} {show(values[worst])} of a network",
            expected,
            "measure it, or measure some like it: nas onboard",
        )

    def next_informative(self, pool: Sequence[Features], count: int) -> list[int]:
        """Return the positions in ``pool`` of the ``count`` most informative networks (all, if it has fewer).

        Greedy: each one reduces the sum of the posterior variances over the pool most, given those before it. A larger
        pool than 2,000 is thinned evenly.
        """
        kept = (
            np.unique(np.linspace(0, len(pool) - 1, min(len(pool), LARGEST_POOL)).astype(int))
            if len(pool)
            else np.zeros(0, int)
        )
        covariance, noise = self._fit.covariance([pool[i] for i in kept])
        chosen: list[int] = []
        for _ in range(min(count, len(kept))):
            gain = (covariance**2).sum(axis=0) / (covariance.diagonal() + noise)
            gain[chosen] = -np.inf
            best = int(gain.argmax())
            chosen.append(best)
            covariance = covariance - np.outer(covariance[best], covariance[best]) / (covariance[best, best] + noise)
        return [int(kept[i]) for i in chosen]

    def report(self) -> Report:
        """Return the cross-validated error; the networks of a group share a fold."""
        mean, deviation, true = self._validation
        inside = np.abs(mean - true) <= NORMAL * np.hypot(deviation, self._added) * (1 + 1e-9)
        return Report.of(np.exp(mean), np.exp(true), inside, len({row.group for row in self.rows}), self._added)

    def errors(self) -> Array:
        """Return the cross-validated relative error (n,) of each measured network, in the order of the rows."""
        mean, _, true = self._validation
        return np.asarray(np.abs(np.expm1(mean - true)))

    def explain(self) -> dict[str, float]:
        """Return the mean share of the measured latency that each column of the roofline explains, largest first."""
        return self._fit.shares([row.features for row in self.rows])

    @cached_property
    def _fit(self) -> Fit:
        return self._of(self.rows)

    def _of(self, rows: Sequence[Row]) -> Fit:
        others = [predictor._fit for predictor in self.transfer]
        ms, half_width = np.array([(r.ms, r.half_width) for r in rows]).T
        return Fit.of([r.features for r in rows], ms, half_width, [r.group for r in rows], others)

    @cached_property
    def _validation(self) -> tuple[Array, Array, Array]:
        """Cross-validated mean and deviation of log latency, and the measured one; each (n,)."""
        mean, deviation = np.zeros(len(self.rows)), np.zeros(len(self.rows))
        for held in folds([row.group for row in self.rows]):
            fit = self._of([row for row, out in zip(self.rows, held, strict=True) if not out])
            mean[held], deviation[held] = fit.predict(
                [row.features for row, out in zip(self.rows, held, strict=True) if out]
            )
        return mean, deviation, np.log([row.ms for row in self.rows])

    @cached_property
    def _added(self) -> float:
        """Standard deviation of log latency to add to every prediction, so that 95 % intervals hold 95 % in
        cross-validation (split conformal quantile).

        An added term, not a factor: with few networks, one overconfident fold would multiply all intervals by ten.
        """
        mean, deviation, true = self._validation
        lacking = np.sort(np.maximum(0, ((mean - true) / NORMAL) ** 2 - deviation**2))
        rank = min(math.ceil(CONFIDENCE * (len(lacking) + 1)), len(lacking))
        return math.sqrt(lacking[rank - 1])

    @cached_property
    def _domain(self) -> tuple[Array, Array]:
        """Lower and upper bound of each feature: the range measured on any of the devices, and a margin."""
        known = [*self.rows, *(row for other in self.transfer for row in other.rows)]
        values = np.array([row.features.summary for row in known])
        low, high = values.min(axis=0), values.max(axis=0)
        margin = np.maximum(MARGIN * (high - low), SLACK)
        return low - margin, high + margin

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready value, of which :meth:`from_dict` makes an equal predictor."""
        rows = [
            {"features": r.features.to_dict(), "ms": r.ms, "group": r.group, "half_width": r.half_width}
            for r in self.rows
        ]
        return {"version": VERSION, "rows": rows, "transfer": [p.to_dict() for p in self.transfer]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Predictor:
        """Return the predictor of a dictionary from :meth:`to_dict`.

        Raises:
            InputError: The dictionary is of another version, or no predictor.
        """
        try:
            if data["version"] != VERSION:
                raise InputError(
                    f"latency predictor of version {data['version']}",
                    str(VERSION),
                    "fit it again with this version of the package",
                )
            rows = [
                Row(Features.from_dict(r["features"]), float(r["ms"]), str(r["group"]), float(r["half_width"]))
                for r in data["rows"]
            ]
            return cls.fit(rows, [cls.from_dict(p) for p in data["transfer"]])
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"not a latency predictor ({type(error).__name__}: {error})", "an object with version, rows, transfer"
            ) from None

    def save(self, path: Path) -> Path:
        """Write the predictor as JSON and return the path."""
        path.write_text(json.dumps(self.to_dict()) + "\n")
        return path

    @classmethod
    def load(cls, path: Path) -> Predictor:
        """Read a file that :meth:`save` wrote.

        Raises:
            InputError: The file cannot be read, or holds no predictor of this version.
        """
        try:
            return cls.from_dict(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"cannot read the predictor {path}: {error}", "a file written by Predictor.save") from None


def spread(pool: Sequence[Features], count: int) -> list[int]:
    """Return the positions in ``pool`` of ``count`` networks for the first measurements, all if it has fewer.

    The first one is the farthest from the mean of the pool, each other one the farthest from those before it. The
    distance is Euclidean, of the standardised summaries.
    """
    if not pool or count < 1:
        return []
    values = np.array([f.summary for f in pool])
    values = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-9)
    chosen = [int((values**2).sum(axis=1).argmax())]
    distance = ((values - values[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < min(count, len(pool)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((values - values[chosen[-1]]) ** 2).sum(axis=1))
    return chosen


def _shown(name: str) -> tuple[str, Any]:
    """Return the name of a feature and the function that formats its value, a logarithm as its exponential."""
    if name.startswith("log ") and "deviation" not in name:
        return name.removeprefix("log "), lambda value: f"{math.exp(value):.3g}"
    return name, lambda value: f"{value:.3g}"
