"""Configuration of the guided sampler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution

Params = Mapping[str, Any]
"""Parameter values by name."""


@dataclass(frozen=True)
class SamplerConfig:
    """What the guided sampler is given besides a seed.

    Args:
        space: Distributions of the parameters. Without it the sampler uses the parameters that all complete trials
            have in common, and the first trials cannot fill the space.
        n_startup_trials: Trials before the first surrogate. Default: one more than there are parameters, 10 at most;
            10 with ``deterministic`` and ``prior_mean``.
        log: Positions of the objectives that enter by their logarithm, such as a latency.
        budgets: Upper bounds on the first of two objectives, the cost. Every other proposal maximises the expected
            improvement of the best second objective within them.
        goals: Lower bounds on the second of two objectives, the gain. Every other proposal maximises the expected
            improvement of the least cost that reaches them. Either budgets or goals.
        deterministic: Objectives that cost nothing, by position, as functions of the parameters: computed, without a
            surrogate.
        auxiliary_inputs: Function of the parameters whose numbers (parameters, MACs, a training-free score) are
            further inputs of the surrogates, of about unit range.
        prior_mean: Function of the parameters that returns a cheap stand-in of each objective. The startup trials lie
            along its front.
        candidates: The only points that may be proposed, such as the rows of a table.
    """

    space: Mapping[str, BaseDistribution] | None = None
    n_startup_trials: int | None = None
    log: Sequence[int] = ()
    budgets: Sequence[float] = ()
    goals: Sequence[float] = ()
    deterministic: Mapping[int, Callable[[Params], float]] = field(default_factory=dict)
    auxiliary_inputs: Callable[[Params], Sequence[float] | Any] | None = None
    prior_mean: Callable[[Params], Sequence[float]] | None = None
    candidates: Sequence[Params] | None = None
