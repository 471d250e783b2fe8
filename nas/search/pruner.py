"""Pruning by forecast: whether a candidate can still enter the Pareto front, asked before every expensive step.

Instead of fixed rungs, the pruner fits a ridge regression per objective on the candidates of the study that were
evaluated to the end.

===========  ================================================================================================
n, d         candidates evaluated to the end; estimates known of the candidate in question
X (n, d)     their values of these estimates, costs by their logarithm, standardised
y (n,)       their values of an unknown objective, by its logarithm if the objective is logarithmic
x (d,)       the candidate's values, standardised alike
A (d, d)     (X'X + lambda I)^-1, lambda = :data:`RIDGE`
h_i          leverage, X_i A X_i' + 1/n
mean         mean(y) + x A X'(y - mean(y))
deviation    sqrt(mean_i r_i^2 (1 + x A x' + 1/n)), r_i = leave-one-out residual e_i / max(1 - h_i, 0.1)
chance       share of S = :data:`SAMPLES` normal samples of the objectives that no member of the front dominates
===========  ================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_db.predictor.linear import linear_posterior
from nas.core.estimate import Objective
from search_spaces.text import counted

Floats = NDArray[np.float64]
Estimates = Mapping[str, float]
"""Estimates by name, early ones (``map@62``) included."""

WARM_UP = 12
"""Candidates evaluated to the end before the pruner stops any."""
CHANCE = 0.05
"""A candidate with a smaller chance to enter the Pareto front is stopped."""
AUDIT = 8
"""One of so many unpromising candidates is evaluated to the end: the regression would otherwise see good candidates
only, and its errors would stay invisible."""
SAMPLES = 512
RIDGE = 0.1


@dataclass(frozen=True)
class Forecast:
    """Forecast of a candidate: mean and standard deviation per objective (0 if known), and the chance to enter the
    Pareto front."""

    means: tuple[float, ...]
    deviations: tuple[float, ...]
    chance: float

    @property
    def promising(self) -> bool:
        """Whether the next estimate is worth its cost."""
        return self.chance >= CHANCE


class Pruner:
    """Forecasts of objectives from the estimates that a candidate has so far.

    The number of candidates that are stopped follows from how well the cheap estimates rank the candidates of this
    study: uninformative estimates stop none.
    """

    def __init__(self, objectives: Sequence[Objective], seed: int = 0) -> None:
        self.objectives = tuple(objectives)
        self._signs = np.array([o.sign for o in self.objectives], np.float64)
        self._seed = seed
        self._rows: list[Estimates] = []

    def observe(self, estimates: Estimates) -> None:
        """Add a candidate that was evaluated to the end, with all its estimates."""
        self._rows.append(dict(estimates))

    def __len__(self) -> int:
        return len(self._rows)

    def forecast(self, known: Estimates, front: Floats) -> Forecast | None:
        """Forecast a candidate from its estimates so far.

        Args:
            known: Estimates by name.
            front: (k, m) objectives of the Pareto front in natural units.

        Returns None if there are too few candidates to learn from, or no objective is left to forecast.
        """
        unknown = [o for o in self.objectives if o.name not in known]
        names = [n for n in known if all(n in row for row in self._rows)]
        if not unknown or not names or len(self._rows) < WARM_UP:
            return None
        means, deviations = [], []
        for o in self.objectives:
            mean, deviation = (known[o.name], 0.0) if o.name in known else self._predicted(o, names, known)
            means.append(mean)
            deviations.append(deviation)
        chance = self._chance(np.array(means), np.array(deviations), front, len(known))
        return Forecast(tuple(means), tuple(deviations), chance)

    def audits(self, without_promise: int) -> bool:
        """Return whether an unpromising candidate is evaluated all the same, after so many unpromising ones."""
        return without_promise % AUDIT == AUDIT - 1

    def rank_correlations(self) -> dict[str, float]:
        """Return Spearman's rho between every early estimate (``map@62``) and the final one, over the candidates that
        have both."""
        from scipy.stats import spearmanr

        found = {}
        for early in dict.fromkeys(name for row in self._rows for name in row if "@" in name):
            final = early.partition("@")[0]
            pairs = [(row[early], row[final]) for row in self._rows if early in row and final in row]
            if len(pairs) > 2 and all(len(set(column)) > 1 for column in zip(*pairs, strict=True)):
                found[early] = float(spearmanr(*zip(*pairs, strict=True)).statistic)
        return found

    def _predicted(self, objective: Objective, names: Sequence[str], known: Estimates) -> tuple[float, float]:
        rows = np.array([[row[n] for n in names] for row in self._rows], np.float64)
        own = np.array([known[n] for n in names], np.float64)
        costs = np.array(["@" not in n for n in names])  # by their logarithm; early accuracies as they are
        logs = (rows > 0).all(0) & (own > 0) & costs
        x, point = (np.where(logs, np.log(np.maximum(v, 1e-300)), v) for v in (rows, own))
        y = np.array([row[objective.name] for row in self._rows], np.float64)
        log_y = objective.logarithmic and bool((y > 0).all())
        mean, deviation = _ridge(x, np.log(y) if log_y else y, point)
        return (math.exp(mean), math.exp(mean) * math.expm1(min(deviation, 10.0))) if log_y else (mean, deviation)

    def _chance(self, means: Floats, deviations: Floats, front: Floats, step: int) -> float:
        if len(front) == 0:
            return 1.0
        rng = np.random.default_rng([self._seed, len(self._rows), step])
        samples = (means + deviations * rng.standard_normal((SAMPLES, len(means)))) * self._signs
        dominated = [bool((front * self._signs <= one).all(1).any()) for one in samples]
        return 1 - sum(dominated) / len(dominated)


def _ridge(x: Floats, y: Floats, point: Floats) -> tuple[float, float]:
    """Return mean and standard deviation at ``point`` (d,) of a ridge regression of ``y`` (n,) on ``x`` (n, d)."""
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
class PruningSavings:
    """What pruning saved.

    Args:
        tried: Candidates in all.
        stopped: Candidates that were pruned.
        audited: Unpromising candidates that were evaluated to the end.
        on_front: Audited candidates on the Pareto front.
        spent_s: Seconds spent on evaluations.
        saved_s: Seconds saved: mean cost of the steps that were left out.
        correlations: Spearman's rho between every early estimate and the final one.
    """

    tried: int
    stopped: int
    audited: int
    on_front: int
    spent_s: float
    saved_s: float
    correlations: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    def __str__(self) -> str:
        share = self.saved_s / (self.spent_s + self.saved_s) if self.saved_s else 0.0
        parts = [
            f"{self.stopped} of {counted(self.tried, 'candidate')} were pruned, "
            f"about {share:.0%} of the evaluation time saved"
        ]
        if self.audited:
            parts.append(f"{self.on_front} of {self.audited} audited candidates are on the Pareto front")
        if self.correlations:
            rho = ", ".join(f"{name} {rho:.2f}" for name, rho in self.correlations.items())
            parts.append(f"rank correlation with the final value: {rho}")
        return "; ".join(parts)


def pruning_savings(
    seconds: Mapping[str, Mapping[str, float]],
    pruned: Collection[str],
    audited: Collection[str],
    front: Collection[str],
    correlations: Mapping[str, float],
) -> PruningSavings:
    """Work out what pruning saved.

    Args:
        seconds: Seconds of every step by candidate id.
        pruned: Ids of the pruned candidates.
        audited: Ids of the audited candidates.
        front: Ids of the Pareto front.
        correlations: Rank correlation of every early estimate with the final one.
    """
    whole = [s for id_, s in seconds.items() if id_ not in pruned]
    steps = dict.fromkeys(name for s in whole for name in s)
    means = {name: sum(s[name] for s in whole if name in s) / sum(name in s for s in whole) for name in steps}
    saved = sum(mean for id_ in pruned for name, mean in means.items() if name not in seconds[id_])
    spent = sum(sum(s.values()) for s in seconds.values())
    on_front = len(set(audited) & set(front))
    counts = len(seconds), len(pruned), len(audited), on_front
    return PruningSavings(*counts, round(spent, 3), round(saved, 3), correlations)
