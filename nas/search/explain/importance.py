"""Importance of each choice for an objective: a functional analysis of variance of the surrogate.

==========  ==============================================================================================
symbol      meaning
==========  ==============================================================================================
``A, B``    two samples of N random points of the search space, (N, d)
``A_i``     ``A`` with column i taken from ``B``
``f``       posterior mean of the surrogate, in the model's scale (the logarithm of a time)
``V``       variance of ``f`` over ``A`` and ``B``
==========  ==============================================================================================

Main effect and total effect of choice i, as shares of the variance (Saltelli et al., doi:10.1016/j.cpc.2009.09.018,
estimators of Saltelli and of Jansen)::

    main_i  = mean(f(B) (f(A_i) - f(A))) / V          the choice alone
    total_i = mean((f(A) - f(A_i))^2) / (2 V)         the choice with all its interactions

The interval is that of a bootstrap over the N points. It does not cover the error of the surrogate itself, of which
``explained`` tells: the share of the candidates' variance that it predicts when each fifth of them is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core.estimate import Objective
from nas.search.explain.run_data import RunData
from nas.search.explain.surrogate import RunSurrogates, Surrogate, predictor
from nas.search.samplers.blas import on_one_blas_thread
from nas.search.samplers.encoding import Encoding

Floats = NDArray[np.float64]

POINTS = 512
REPLICATES = 200
FOLDS = 5


@dataclass(frozen=True)
class ChoiceImportance:
    """Importance of a choice, as shares of an objective's variance over the space.

    Args:
        choice: Name of the choice.
        main: Main effect.
        total: Total effect, interactions included.
        low, high: 95 % interval of the total effect.
    """

    choice: str
    main: float
    total: float
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return vars(self).copy()


@dataclass(frozen=True)
class Importance:
    """Importance of all choices for one objective, most important first.

    Args:
        objective: Name of the objective.
        explained: Share of the candidates' variance that the surrogate predicts out of sample; below 0 it predicts
            worse than their mean.
        choices: One entry per choice.
    """

    objective: str
    explained: float
    choices: tuple[ChoiceImportance, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "objective": self.objective,
            "explained": self.explained,
            "choices": [c.to_dict() for c in self.choices],
        }


@on_one_blas_thread
def importances(run: RunData, seed: int = 0) -> tuple[Importance, ...]:
    """Return the importance of every choice for the cost and for the gain; ``seed`` decides the sampled points.

    Raises InputError for a run with too few candidates for a surrogate.
    """
    surrogates = RunSurrogates(run, auxiliary=False)
    return tuple(_of_objective(run, o, surrogates, seed) for o in (run.cost, run.gain))


def _of_objective(run: RunData, objective: Objective, surrogates: RunSurrogates, seed: int) -> Importance:
    function = predictor(surrogates, objective.name)
    choices = sobol_indices(function, surrogates.encoding, np.random.default_rng(seed))
    return Importance(objective.name, explained_share(run, objective, surrogates, seed), choices)


def sobol_indices(
    function: Callable[[Floats], Floats], encoding: Encoding, rng: np.random.Generator, count: int = POINTS
) -> tuple[ChoiceImportance, ...]:
    """Return main and total effect of every parameter of a function of encoded points, (n, d) -> (n,).

    Args:
        function: The function.
        encoding: The space.
        rng: Source of the points.
        count: Number of points N; the function is evaluated at N (d + 2) points.
    """
    a, b = encoding.random(rng, count), encoding.random(rng, count)
    f_a, f_b = function(a), function(b)
    centre, variance = float(np.mean([f_a, f_b])), float(np.var(np.concatenate([f_a, f_b])))
    rows = rng.integers(count, size=(REPLICATES, count))
    found = []
    for i, name in enumerate(encoding.names):
        mixed = a.copy()
        mixed[:, i] = b[:, i]
        f_i = function(mixed)
        if variance <= 1e-18:
            found.append(ChoiceImportance(name, 0.0, 0.0, 0.0, 0.0))
            continue
        squares = (f_a - f_i) ** 2 / 2 / variance
        main = float(np.mean((f_b - centre) * (f_i - f_a)) / variance)
        low, high = np.quantile(squares[rows].mean(1), (0.025, 0.975))
        total = float(squares.mean())
        found.append(ChoiceImportance(name, min(max(0.0, main), total), total, float(low), float(high)))
    return tuple(sorted(found, key=lambda c: -c.total))


def explained_share(run: RunData, objective: Objective, surrogates: RunSurrogates, seed: int) -> float:
    """Return 1 - (squared errors of predictions out of sample) / (variance) over :data:`FOLDS` folds."""
    values = np.array([c[objective.name].value for c in run.candidates])
    inputs, groups = surrogates.inputs([c.point for c in run.candidates])
    scaled = np.log(np.maximum(values, 1e-300)) if objective.logarithmic else values * objective.sign
    fold = np.random.default_rng(seed).permutation(len(values)) % FOLDS
    predicted = np.empty(len(values))
    for k in range(FOLDS):
        rest, out = fold != k, fold == k
        if out.any():
            fitted = Surrogate(objective, inputs[rest], groups, values[rest], surrogates.of[objective.name])
            predicted[out] = fitted.mean(inputs[out])
    spread = float(((scaled - scaled.mean()) ** 2).sum())
    return 0.0 if spread <= 0 else 1 - float(((scaled - predicted) ** 2).sum()) / spread
