"""Whether a candidate can still come to the front: learned from those that were estimated to the end, asked before
every dear estimate."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_db.predictor.linear import linear_posterior
from nas.core.estimate import Objective

Floats = NDArray[np.float64]
Known = Mapping[str, float]
"""Estimates by name, early ones (``map@62``) among them."""

LEARN = 12
"""Candidates that must have gone all the way before any is stopped."""
CHANCE = 0.05
"""A candidate whose chance to come to the front is below this is stopped."""
AUDIT = 8
"""Every so-manyth of those goes on all the same: else only good ones would be left to learn from, and no error would
ever be seen."""
DRAWS = 512
RIDGE = 0.1


@dataclass(frozen=True)
class Forecast:
    """What is expected of a candidate: per objective its mean and standard deviation (0: known), and the chance that
    the front takes it in."""

    means: tuple[float, ...]
    deviations: tuple[float, ...]
    chance: float

    @property
    def promising(self) -> bool:
        """Whether the next estimate is worth its cost."""
        return self.chance >= CHANCE


class Fidelity:
    """Forecasts of objectives from the estimates that are already there.

    Per unknown objective a ridge regression on the (logarithms of the) known estimates, its error taken from
    leave-one-out residuals. How many are stopped therefore follows from how well the cheap estimates rank the
    candidates of this very study: where they say little, none is.
    """

    def __init__(self, objectives: Sequence[Objective], seed: int = 0) -> None:
        self.objectives = tuple(objectives)
        self._signs = np.array([o.sign for o in self.objectives], np.float64)
        self._seed = seed
        self._whole: list[Known] = []

    def learn(self, known: Known) -> None:
        """One candidate that went all the way, with everything that was known of it on the way."""
        self._whole.append(dict(known))

    def __len__(self) -> int:
        return len(self._whole)

    def forecast(self, known: Known, front: Floats) -> Forecast | None:
        """Of a candidate with ``known`` so far, against the objectives of the front (k, m) in natural units; None
        while there is too little to learn from, or nothing left to be forecast."""
        unknown = [o for o in self.objectives if o.name not in known]
        names = [n for n in known if all(n in row for row in self._whole)]
        if not unknown or not names or len(self._whole) < LEARN:
            return None
        means, deviations = [], []
        for o in self.objectives:
            mean, deviation = (known[o.name], 0.0) if o.name in known else self._predicted(o, names, known)
            means.append(mean)
            deviations.append(deviation)
        return Forecast(
            tuple(means), tuple(deviations), self._chance(np.array(means), np.array(deviations), front, len(known))
        )

    def audits(self, stopped_before: int) -> bool:
        """Whether a candidate without promise goes on all the same; ``stopped_before``: how many had none before it."""
        return stopped_before % AUDIT == AUDIT - 1

    def rank_correlations(self) -> dict[str, float]:
        """Spearman's rho of every early estimate (``map@62``) with its final one, over the candidates that have
        both."""
        from scipy.stats import spearmanr

        found = {}
        for early in dict.fromkeys(name for row in self._whole for name in row if "@" in name):
            final = early.partition("@")[0]
            pairs = [(row[early], row[final]) for row in self._whole if early in row and final in row]
            if len(pairs) > 2 and all(len(set(column)) > 1 for column in zip(*pairs, strict=True)):
                found[early] = float(spearmanr(*zip(*pairs, strict=True)).statistic)
        return found

    def _predicted(self, objective: Objective, names: Sequence[str], known: Known) -> tuple[float, float]:
        rows = np.array([[row[n] for n in names] for row in self._whole], np.float64)
        own = np.array([known[n] for n in names], np.float64)
        logs = (
            (rows > 0).all(0) & (own > 0) & np.array(["@" not in n for n in names])
        )  # costs by their logarithm, early accuracies as they are
        x, point = (np.where(logs, np.log(np.maximum(v, 1e-300)), v) for v in (rows, own))
        y = np.array([row[objective.name] for row in self._whole], np.float64)
        log_y = objective.logarithmic and bool((y > 0).all())
        mean, deviation = _ridge(x, np.log(y) if log_y else y, point)
        return (math.exp(mean), math.exp(mean) * math.expm1(min(deviation, 10.0))) if log_y else (mean, deviation)

    def _chance(self, means: Floats, deviations: Floats, front: Floats, step: int) -> float:
        """Share of drawn outcomes that no point of the front beats."""
        if len(front) == 0:
            return 1.0
        rng = np.random.default_rng([self._seed, len(self._whole), step])
        drawn = (means + deviations * rng.standard_normal((DRAWS, len(means)))) * self._signs
        beaten = [bool((front * self._signs <= one).all(1).any()) for one in drawn]
        return 1 - sum(beaten) / len(beaten)


def _ridge(x: Floats, y: Floats, point: Floats) -> tuple[float, float]:
    """Prediction at ``point`` (d,) and its standard deviation, from leave-one-out residuals widened by how far the
    point lies from the others."""
    scale = x.std(0)
    used = scale > 1e-12
    x, point, scale = x[:, used], point[used], scale[used]
    centre, level = x.mean(0), float(y.mean())
    z, at = (x - centre) / scale, (point - centre) / scale
    slopes, inverse = linear_posterior(z, y - level, prior_deviation=RIDGE**-0.5)
    leverage = (z @ inverse * z).sum(1) + 1 / len(y)
    residuals = (y - level - z @ slopes) / np.maximum(1 - leverage, 0.1)
    mean = level + float(at @ slopes)
    return mean, float(math.sqrt((residuals**2).mean() * (1 + at @ inverse @ at + 1 / len(y))))


@dataclass(frozen=True)
class Saving:
    """What stopping early saved: candidates ``tried``, ``stopped``, ``audited`` (without promise, but let through)
    and those of them ``on_front`` all the same; seconds of evaluations ``spent`` and ``saved`` (the mean cost of the
    steps that were left out); Spearman's rho of every early estimate with the final one."""

    tried: int
    stopped: int
    audited: int
    on_front: int
    spent_s: float
    saved_s: float
    correlations: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    def __str__(self) -> str:
        share = self.saved_s / (self.spent_s + self.saved_s) if self.saved_s else 0.0
        said = f"{self.stopped} of {self.tried} candidates were stopped early, which saved about {share:.0%} of the evaluations' time"
        if self.audited:
            said += f"; of {self.audited} without promise that were let through, {self.on_front} are on the front"
        if self.correlations:
            said += "; rank correlation with the final value: " + ", ".join(
                f"{name} {rho:.2f}" for name, rho in self.correlations.items()
            )
        return said


def saving(
    seconds: Mapping[str, Mapping[str, float]],
    stopped: Collection[str],
    audited: Collection[str],
    front: Collection[str],
    rho: Mapping[str, float],
) -> Saving:
    """From the seconds of every step by candidate id, and the ids of the stopped, the audited and the front."""
    whole = [s for id_, s in seconds.items() if id_ not in stopped]
    steps = dict.fromkeys(name for s in whole for name in s)
    means = {name: sum(s[name] for s in whole if name in s) / sum(name in s for s in whole) for name in steps}
    saved = sum(mean for id_ in stopped for name, mean in means.items() if name not in seconds[id_])
    spent = sum(sum(s.values()) for s in seconds.values())
    return Saving(
        len(seconds), len(stopped), len(audited), len(set(audited) & set(front)), round(spent, 3), round(saved, 3), rho
    )
