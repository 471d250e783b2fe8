"""Latency of networks that nobody has measured, with an interval, and how far it can be trusted."""

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
MARGIN = 0.3  # of the training range, on each side: so far a prediction is an extrapolation that its interval covers
SLACK = 0.1  # at least so much: 10 % where a feature is a logarithm
CONFIDENCE = 0.95
LARGEST_POOL = 2000


class OutOfDomain(InputError):
    """A network unlike all that were measured: no number would be honest."""


@dataclass(frozen=True)
class Row:
    """A measured network. ``group``: rows of one group (an architecture at several image sizes) are never parted when
    the error is estimated.

    ``half_width``: half of the measurement's 95 % interval as a share of it, 0 where nothing is known.
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
    """Cross-validated error: every network predicted from those of other groups. Shares are 0..1; ``tau`` is Kendall's.

    ``coverage`` is the share of the networks inside their 95 % intervals, to whose standard deviation ``added`` (a
    share of the latency) was added.
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
        """From (networks,) arrays in ms; ``inside`` says whether the measured value lay in the predicted interval."""
        from scipy.stats import kendalltau

        error = np.abs(predicted / measured - 1)
        tau = float(kendalltau(predicted, measured).statistic)
        within_5, within_10 = (float((error <= limit).mean()) for limit in (0.05, 0.10))
        return cls(len(error), groups, float(error.mean()), within_5, within_10, tau, float(inside.mean()), added)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"error {self.mape:.1%}, within ±5 % {self.within_5:.0%}, within ±10 % {self.within_10:.0%}, tau {self.tau:.3f}, "
            f"95 % intervals hold {self.coverage:.0%} (cross-validated over {self.rows} networks of {self.groups} architectures)"
        )


@dataclass(frozen=True)
class Predictor:
    """Predicts latency on one target from ``rows`` measured there, which are the whole model: all else follows from
    them.

    log latency = log :class:`~latency_db.predictor.prior.Prior` + a Gaussian process of what the physics misses.
    ``transfer``: predictors of other devices; where a network was measured on one of these its predictor knows,
    elsewhere it predicts.
    """

    rows: tuple[Row, ...]
    transfer: tuple[Predictor, ...] = ()

    @classmethod
    def fit(cls, rows: Sequence[Row], transfer: Sequence[Predictor] = ()) -> Predictor:
        """A predictor of at least 6 networks of 3 groups; InputError with fewer."""
        groups = {row.group for row in rows}
        if len(rows) < FEWEST_ROWS or len(groups) < FEWEST_GROUPS:
            raise InputError(
                f"{len(rows)} measured networks of {len(groups)} architectures",
                f"at least {FEWEST_ROWS} of {FEWEST_GROUPS} to predict latency from",
                "measure more: nas onboard",
            )
        return cls(tuple(rows), tuple(transfer))

    def predict(self, features: Features) -> Prediction:
        """Of one network; :class:`OutOfDomain` where it is unlike all measured ones."""
        return self.predict_all([features])[0]

    def predict_all(self, networks: Sequence[Features]) -> list[Prediction]:
        """Of several networks at once, in their order."""
        for features in networks:
            if reason := self.outside(features):
                raise OutOfDomain(*reason)
        mean, deviation = self._fit.predict(networks)
        reach = NORMAL * np.hypot(deviation, self._added)
        return [Prediction(*map(float, row)) for row in np.exp(np.column_stack([mean, mean - reach, mean + reach]))]

    def outside(self, features: Features) -> tuple[str, str, str] | None:
        """What was got, what expected and what to do, if the network lies outside what was measured; else None."""
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
        """Positions in ``pool`` of the ``count`` networks whose measurement would tell most about the whole pool
        (all, if it has fewer).

        Greedy: each is the one that lessens the sum of the posterior variances over the pool most, as if those before
        it had been measured. A large pool is thinned evenly to 2,000.
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
        """Cross-validated error, groups kept together."""
        mean, deviation, true = self._validation
        inside = np.abs(mean - true) <= NORMAL * np.hypot(deviation, self._added) * (1 + 1e-9)
        return Report.of(np.exp(mean), np.exp(true), inside, len({row.group for row in self.rows}), self._added)

    def errors(self) -> Array:
        """(rows,): share by which each measured network's latency was missed when it was predicted from those of
        other groups, in the order of the rows."""
        mean, _, true = self._validation
        return np.asarray(np.abs(np.expm1(mean - true)))

    def explain(self) -> dict[str, float]:
        """What part of the measured time each column of the physics explains, the largest first."""
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
        """Mean and deviation of log latency of every row predicted from the other groups, and the true one."""
        mean, deviation = np.zeros(len(self.rows)), np.zeros(len(self.rows))
        for held in folds([row.group for row in self.rows]):
            fit = self._of([row for row, out in zip(self.rows, held, strict=True) if not out])
            mean[held], deviation[held] = fit.predict(
                [row.features for row, out in zip(self.rows, held, strict=True) if out]
            )
        return mean, deviation, np.log([row.ms for row in self.rows])

    @cached_property
    def _added(self) -> float:
        """Standard deviation that every prediction needs besides its own, so that intervals hold 95 % in
        cross-validation (split conformal quantile).

        Added and not multiplied: where few were measured, one fold's overconfidence would multiply all intervals by
        ten.
        """
        mean, deviation, true = self._validation
        lacking = np.sort(np.maximum(0, ((mean - true) / NORMAL) ** 2 - deviation**2))
        rank = min(math.ceil(CONFIDENCE * (len(lacking) + 1)), len(lacking))
        return math.sqrt(lacking[rank - 1])

    @cached_property
    def _domain(self) -> tuple[Array, Array]:
        """What was measured, here or on a device that is transferred from, and a margin."""
        known = [*self.rows, *(row for other in self.transfer for row in other.rows)]
        values = np.array([row.features.summary for row in known])
        low, high = values.min(axis=0), values.max(axis=0)
        margin = np.maximum(MARGIN * (high - low), SLACK)
        return low - margin, high + margin

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the rows, of which :meth:`from_dict` makes an equal predictor."""
        rows = [
            {"features": r.features.to_dict(), "ms": r.ms, "group": r.group, "half_width": r.half_width}
            for r in self.rows
        ]
        return {"version": VERSION, "rows": rows, "transfer": [p.to_dict() for p in self.transfer]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Predictor:
        """Inverse of :meth:`to_dict`."""
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
        """Writes JSON."""
        path.write_text(json.dumps(self.to_dict()) + "\n")
        return path

    @classmethod
    def load(cls, path: Path) -> Predictor:
        """Reads what :meth:`save` wrote; InputError says what is wrong with the file."""
        try:
            return cls.from_dict(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"cannot read the predictor {path}: {error}", "a file written by Predictor.save") from None


def spread(pool: Sequence[Features], count: int) -> list[int]:
    """Positions of ``count`` networks spread over a pool before anything was measured: each the farthest from all
    before it."""
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
    """A feature's name and how its value is written: logarithms as what they are the logarithm of."""
    if name.startswith("log ") and "deviation" not in name:
        return name.removeprefix("log "), lambda value: f"{math.exp(value):.3g}"
    return name, lambda value: f"{value:.3g}"
