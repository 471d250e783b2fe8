"""The surrogates of a finished search: what the model of each objective predicts where nothing was evaluated.

==========  ========  =============================================================================================
symbol      shape     meaning
==========  ========  =============================================================================================
``x``       (n, d)    points of the search, encoded (:class:`nas.search.samplers.encoding.Encoding`)
``z``       (n, 2)    auxiliary inputs: logarithms of MACs and of parameters
``y``       (n,)      an objective in the scale of the model: the logarithm of a time, the accuracy itself
``f_s``     function  posterior sample s of the Gaussian process given all evaluated candidates
``e, e'``   scalars   observation noise of two measurements, N(0, v) with the noise variance v of the process
==========  ========  =============================================================================================

The predicted difference between a neighbour x' and a network x, as two measurements would show it, is
``f_s(x') + e' - f_s(x) - e`` over all samples s: its median, and the 2.5 and 97.5 % quantiles as interval. Of a time
the difference is that of the logarithms, applied to the measured time of x.

The interval is widened about the median by ``max(1, q / 1.96)``, where q is the 95 % quantile of the standardised
leave-one-out residuals ``|y_i - mean_i| / deviation_i`` of the process: a model that is too sure of its own data is not
believed elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core.estimate import Candidate, Estimate, Objective
from nas.search.explain.run_data import RunData
from nas.search.samplers.encoding import Encoding, append_inputs
from nas.search.samplers.gaussian import GaussianProcess, OutputWarp
from nas.search.trial_parameters import TrialParameters
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.text import counted

Floats = NDArray[np.float64]

SAMPLES = 512
LEAST = 8
"""Smallest number of candidates that a surrogate is fitted on."""
COMPUTED = ("params", "macs")
"""Estimates that are computed exactly from an architecture."""


@dataclass(frozen=True)
class Difference:
    """A change of one estimate between a network and another.

    Args:
        value: The change, in the estimate's unit; below zero is less.
        low, high: 95 % interval; None where it is unknown or the change is exact.
        source: ``predicted`` (by the surrogate), ``measured`` or ``computed``.
    """

    value: float
    low: float | None
    high: float | None
    source: str

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"value": self.value, "low": self.low, "high": self.high, "source": self.source}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Difference:
        """Restore a difference from :meth:`to_dict`."""
        return cls(data["value"], data["low"], data["high"], data["source"])


class Surrogate:
    """The model of one objective of a run.

    Args:
        objective: The objective; the logarithm of a time is modelled.
        points: Encoded candidates, (n, D), auxiliary inputs included.
        groups: The parameter that each column belongs to, (D,).
        values: The objective of the candidates, (n,), in natural units.
        like: A surrogate whose warp and hyperparameters are kept; None to fit them.
    """

    def __init__(
        self,
        objective: Objective,
        points: Floats,
        groups: NDArray[np.intp],
        values: Floats,
        like: Surrogate | None = None,
    ) -> None:
        self.objective = objective
        self._warp: OutputWarp | None
        self.process: GaussianProcess
        scaled = np.log(np.maximum(values, 1e-300)) if objective.logarithmic else values * objective.sign
        if like is not None:
            warped = scaled if like._warp is None else like._warp(scaled)
            self._warp, self._targets = like._warp, warped
            self.process = GaussianProcess(points, warped, groups, like.process.hyperparameters, steps=0)
            return
        warps: Sequence[OutputWarp | None] = (None,) if objective.logarithmic else OutputWarp.choices(scaled)
        fits = [
            (warp, GaussianProcess(points, scaled if warp is None else warp(scaled), groups, steps=30))
            for warp in warps
        ]
        self._warp, self.process = min(
            fits, key=lambda fit: fit[1].loss + (0.0 if fit[0] is None else fit[0].loss(scaled))
        )
        self._targets = scaled if self._warp is None else self._warp(scaled)

    @cached_property
    def widening(self) -> float:
        """Factor of the intervals, from the leave-one-out residuals of the process."""
        mean, deviation = self.process.leave_one_out()
        residuals = np.abs(self._targets - mean) / deviation
        return max(1.0, float(np.quantile(residuals, 0.95)) / 1.96)

    def sampled(self, inputs: Floats, seed: int, noise: bool) -> Floats:
        """Return posterior samples (n, samples) at inputs (n, D), in the model's scale with the warp undone.

        ``noise``: whether each value has the observation noise of a measurement of its own.
        """
        rng = np.random.default_rng(seed)
        values = self.process.sample(rng, SAMPLES)(inputs)
        if noise:
            values = values + rng.standard_normal(values.shape) * self.process.noise_deviation
        return values if self._warp is None else self._warp.inverse(values)

    def mean(self, inputs: Floats) -> Floats:
        """Return the posterior mean (n,) at inputs (n, D), in the model's scale with the warp undone."""
        values = self.process.mean(inputs)
        return values if self._warp is None else self._warp.inverse(values)

    def difference(self, before: Floats, after: Floats, estimate: Estimate, minimum: float = 0.0) -> Difference:
        """Return the predicted change of an estimate.

        Args:
            before: Samples (s,) at the network, with noise.
            after: Samples (s,) at the other one.
            estimate: The network's own estimate, which the change is relative to.
            minimum: Smallest standard deviation of the change, in the model's scale, of the two measurements alone.
        """
        change = after - before
        low, middle, high = (float(q) for q in np.quantile(change, (0.025, 0.5, 0.975)))
        low, high = middle - self.widening * (middle - low), middle + self.widening * (high - middle)
        low, high = min(low, middle - 1.96 * minimum), max(high, middle + 1.96 * minimum)
        if self.objective.logarithmic:
            low, middle, high = (estimate.value * math.expm1(min(c, 50.0)) for c in (low, middle, high))
        elif self.objective.sign < 0:
            low, middle, high = -high, -middle, -low
        return Difference(middle, low, high, "predicted")


class RunSurrogates:
    """The surrogates of the cost and the gain of a run, and what both need of a point.

    Raises InputError for a run with fewer than :data:`LEAST` candidates.
    """

    def __init__(self, run: RunData, auxiliary: bool = True) -> None:
        if len(run.candidates) < LEAST:
            raise InputError(
                f"{counted(len(run.candidates), 'candidate')} for a surrogate", f"at least {LEAST}", "run more trials"
            )
        self.run, self._auxiliary = run, auxiliary
        self.parameters = TrialParameters(run.plan.points)
        self.encoding = Encoding(self.parameters.distributions)
        self._computed: dict[str, tuple[float, float]] = {
            c.architecture.id: (c["macs"].value, c["params"].value)
            for c in run.candidates
            if all(name in c for name in COMPUTED)
        }

    @cached_property
    def of(self) -> Mapping[str, Surrogate]:
        """Surrogate of each of the two objectives by its name."""
        points = [c.point for c in self.run.candidates]
        inputs, groups = self.inputs(points)
        return {
            o.name: Surrogate(o, inputs, groups, np.array([c[o.name].value for c in self.run.candidates]))
            for o in (self.run.cost, self.run.gain)
        }

    def inputs(self, points: Sequence[Architecture]) -> tuple[Floats, NDArray[np.intp]]:
        """Return the inputs (n, D) of points of the search, and the group of each column (D,)."""
        encoded = self.encoding.points([self.parameters.params(p) for p in points])
        x, groups = self.encoding.embed(encoded), self.encoding.groups
        if not self._auxiliary:
            return x, groups
        extra = np.log(np.array([self.computed(p) for p in points], np.float64))
        return append_inputs(x, groups, extra)

    def computed(self, point: Architecture) -> tuple[float, float]:
        """Return MACs and parameters of a point of the search."""
        from nas.core.precision_choice import split
        from search_spaces.trace import trace  # imports torch

        architecture, _ = split(point)
        if architecture.id not in self._computed:
            target = self.run.plan.target
            size = target.image_size or architecture.image_size
            cost = trace(self.run.plan.space.graph(architecture), self.run.num_classes, size)
            self._computed[architecture.id] = (cost.macs, cost.params)
        return self._computed[architecture.id]

    def changes(
        self, candidate: Candidate, others: Sequence[Architecture], seed: int = 0
    ) -> list[dict[str, Difference]]:
        """Return the predicted changes of cost and gain from a candidate to each of the other points.

        ``seed``: of the posterior samples.
        """
        inputs, _ = self.inputs([candidate.point, *others])
        found: list[dict[str, Difference]] = [{} for _ in others]
        for name, surrogate in self.of.items():
            samples = surrogate.sampled(inputs, seed, noise=True)
            floor = self._measuring_noise(surrogate.objective) * math.sqrt(2)
            for row, changes in zip(samples[1:], found, strict=True):
                changes[name] = surrogate.difference(samples[0], row, candidate[name], floor)
        return found

    def _measuring_noise(self, objective: Objective) -> float:
        """Return the median standard deviation of the candidates' own intervals, in the surrogate's scale.

        Only for times: the intervals of accuracies are those of the same images, whose noise cancels in a difference.
        """
        if not objective.logarithmic:
            return 0.0
        halves = [
            (e.high - e.low) / 2 / 1.96 / e.value
            for e in (c[objective.name] for c in self.run.candidates)
            if e.low is not None and e.high is not None and e.value > 0
        ]
        return float(np.median(halves)) if halves else 0.0


def predictor(surrogates: RunSurrogates, name: str) -> Callable[[Floats], Floats]:
    """Return the posterior mean of an objective as a function of encoded points, (n, d) -> (n,).

    Requires surrogates without auxiliary inputs, whose inputs depend on the encoded point alone.
    """
    surrogate = surrogates.of[name]
    return lambda points: surrogate.mean(surrogates.encoding.embed(points))
