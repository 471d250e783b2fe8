"""Surrogates of objectives, constraints and failures, fitted on the trials of a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from nas.search.samplers.config import Params, SamplerConfig
from nas.search.samplers.encoding import Encoding, append_inputs
from nas.search.samplers.gaussian import GaussianProcess, Hyperparameters, OutputWarp
from nas.search.samplers.history import History, keys_of, logarithms

Floats = NDArray[np.float64]
Evaluations = Mapping[int, tuple[Sequence[Params], Floats]]
"""Cheap evaluations by the position of their objective: points and values."""

REFIT = 0.1
"""Hyperparameters are fitted again when the number of trials has grown by this share."""
FITTED = "guided:hyperparameters"
"""System attribute of a trial: the hyperparameters that were fitted to propose it, by the surrogate's name: number of
trials at the fit, and :attr:`nas.search.samplers.gaussian.Hyperparameters.array`."""
MAX_ROWS = 400
"""Rows of a surrogate's training data at most: a proposal costs their number squared to cubed."""
BEST = 0.75
"""Share of those rows that are the best trials; the rest are spread over all others."""


@dataclass(frozen=True)
class PosteriorSamples:
    """Functions drawn from the posteriors of all objectives and constraints, as functions of encoded points.

    ``values``: (n, d) -> (n, samples, m), to be minimised; ``feasible``: (n, d) -> (n,), the share of samples in which
    a point violates no constraint and does not fail.
    """

    values: Callable[[Floats], Floats]
    feasible: Callable[[Floats], Floats]
    count: int


class Surrogates:
    """One Gaussian process for each objective and constraint, and one for failures.

    Objectives are modelled under the more probable one of two output warps. Hyperparameters are kept between
    proposals, see :data:`REFIT`; training data are bounded, see :data:`MAX_ROWS`.
    """

    def __init__(self, encoding: Encoding, config: SamplerConfig) -> None:
        self.encoding, self._config = encoding, config
        self.hyperparameters: dict[str, tuple[int, Hyperparameters]] = {}
        self._cache: dict[str, dict[tuple[float, ...], Any]] = {}

    def restore(self, trials: Sequence[FrozenTrial]) -> None:
        """Take over the hyperparameters that were fitted for earlier trials (:data:`FITTED`).

        A search that is resumed in another process then proposes what it would have proposed without a break.
        """
        for trial in trials:
            for name, (total, row) in trial.system_attrs.get(FITTED, {}).items():
                self.hyperparameters[name] = int(total), Hyperparameters.of(np.array(row, np.float64))

    def fits_since(self, before: Mapping[str, tuple[int, Hyperparameters]]) -> dict[str, tuple[int, list[float]]]:
        """Return the hyperparameters that differ from an earlier copy of :attr:`hyperparameters`, as JSON."""
        return {
            name: (total, found.array.tolist())
            for name, (total, found) in self.hyperparameters.items()
            if name not in before or before[name][1] is not found
        }

    def posterior_samples(
        self, rng: np.random.Generator, history: History, cheap: Evaluations, count: int
    ) -> PosteriorSamples:
        """Return posterior samples given a history with at least one complete trial, and cheap evaluations."""
        objectives = range(history.values.shape[1])
        modelled = {
            j: self._objective(rng, j, history, cheap, count) for j in objectives if j not in self._config.deterministic
        }
        constraints = [self._constraint(rng, name, history, count) for name in history.constraints]
        if len(history.failed):
            constraints.append(self._failure(rng, history, count))

        def values(points: Floats) -> Floats:
            x, _ = self.inputs(points)
            columns = [
                modelled[j](x) if j in modelled else np.repeat(self._exact(j, points, history)[:, None], count, 1)
                for j in objectives
            ]
            return np.stack(columns, 2)

        def feasible(points: Floats) -> Floats:
            if not constraints:
                return np.ones(len(points))
            x, _ = self.inputs(points)
            return np.asarray(np.stack([sample(x) <= 0 for sample in constraints], 2).all(2).mean(1))

        return PosteriorSamples(values, feasible, count)

    def training_data(self, j: int, history: History, cheap: Evaluations) -> tuple[Floats, Floats]:
        """Return points (n, d) and values (n,) of an objective: those of its trials, then cheap evaluations."""
        points, values = history.points, history.values[:, j]
        given, observed = cheap.get(j, ((), np.empty(0)))
        if not len(given):
            return points, values
        rows, signed = self.encoding.points(given), observed * history.signs[j]
        if j in self._config.log:
            signed = logarithms(signed[:, None], (0,), history.signs[j : j + 1])[:, 0]
        new = np.array([not history.has(row) for row in rows]) & np.isfinite(signed)
        return np.concatenate([points, rows[new]]), np.concatenate([values, signed[new]])

    def inputs(self, points: Floats) -> tuple[Floats, NDArray[np.intp]]:
        """Return the inputs (n, D) of points (n, d), and the group of each column (D,)."""
        x, groups = self.encoding.embed(points), self.encoding.groups
        if self._config.auxiliary_inputs is None:
            return x, groups
        more = self.cached("auxiliary inputs", self._config.auxiliary_inputs, points)
        return append_inputs(x, groups, more.reshape(len(points), -1))

    def cached(self, what: str, function: Callable[[Params], Any], points: Floats) -> Floats:
        """Return a function's values at points (n, d), calling it once for each point."""
        known, keys = self._cache.setdefault(what, {}), keys_of(points)
        for key, point in zip(keys, points, strict=True):
            if key not in known:
                known[key] = function(self.encoding.params(point))
        return np.array([known[key] for key in keys], np.float64)

    def _exact(self, j: int, points: Floats, history: History) -> Floats:
        """Return the values (n,) of a deterministic objective."""
        values = self.cached(f"objective {j}", self._config.deterministic[j], points) * history.signs[j]
        return np.log(np.maximum(values, 1e-300)) if j in self._config.log else values

    def _objective(
        self, rng: np.random.Generator, j: int, history: History, cheap: Evaluations, count: int
    ) -> Callable[[Floats], Floats]:
        points, y = self.training_data(j, history, cheap)
        total = len(y)
        rows = training_rows(np.concatenate([history.order, np.arange(len(history.order), total)]))
        (x, groups), y = self.inputs(points[rows]), y[rows]
        fits = [
            (warp, self._process(f"objective {j}, warp {i}", x, warp(y), groups, total))
            for i, warp in enumerate(OutputWarp.choices(y))
        ]
        warp, process = min(fits, key=lambda fit: fit[1].loss + fit[0].loss(y))
        # The front consists of observed values, favourable noise included: samples compare with it as observations.
        sample = process.sample(rng, count, observation_noise=True)
        return lambda inputs: warp.inverse(sample(inputs))

    def _constraint(
        self, rng: np.random.Generator, name: str, history: History, count: int
    ) -> Callable[[Floats], Floats]:
        values = history.constraints[name]
        observed = history.order[np.isfinite(values[history.order])]
        rows = training_rows(observed)
        x, groups = self.inputs(history.points[rows])
        return self._process(f"constraint {name}", x, values[rows], groups, len(observed)).sample(rng, count)

    def _failure(self, rng: np.random.Generator, history: History, count: int) -> Callable[[Floats], Floats]:
        """Sample a function that is above 0 where trials fail."""
        points = np.concatenate([history.points, history.failed])
        failed = np.repeat([-0.5, 0.5], [len(history.points), len(history.failed)])
        rows = training_rows(np.concatenate([history.order, np.arange(len(history.points), len(points))]))
        x, groups = self.inputs(points[rows])
        return self._process("failure", x, failed[rows], groups, len(points)).sample(rng, count)

    def _process(self, name: str, x: Floats, y: Floats, groups: NDArray[np.intp], total: int) -> GaussianProcess:
        """Return a process of training data; its hyperparameters are fitted where ``total`` trials are many more than
        at the last fit, or fewer (another study)."""
        fitted, start = self.hyperparameters.get(name, (0, None))
        if start is not None and len(start.lengths) != groups.max(initial=-1) + 1:  # of another search space
            fitted, start = 0, None
        stale = total >= fitted * (1 + REFIT) or total < fitted
        process = GaussianProcess(x, y, groups, start, steps=(30 if start is None else 15) if stale else 0)
        if stale:
            self.hyperparameters[name] = (total, process.hyperparameters)
        return process


def training_rows(order: NDArray[np.intp], limit: int = MAX_ROWS) -> NDArray[np.intp]:
    """Return at most ``limit`` rows, sorted, of rows given from the best to the worst (n,).

    All of them up to the limit; beyond it the best three quarters of the limit, and an evenly spaced part of the rest.
    """
    if len(order) <= limit:
        return np.sort(order)
    best = int(BEST * limit)
    rest = order[best:]
    spaced = rest[np.linspace(0, len(rest) - 1, limit - best).astype(int)]
    return np.sort(np.concatenate([order[:best], spaced]))
