"""Samplers by name: Optuna samplers, each made from a seed and what a study provides.

A new one is one entry of :data:`SAMPLERS` (or an entry point of the group ``nas.search.samplers``). The package imports
``nas.core`` and the values of ``nas.search``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from search_spaces.registry import Registry

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler


@dataclass(frozen=True)
class StudyInfo:
    """What a study provides to the factory of its sampler.

    Args:
        space: Distribution of each parameter.
        log: Positions of the objectives that enter by their logarithm, such as a latency.
        budgets: Upper bounds on the first objective, within each of which the best candidate is wanted.
        goals: Lower bounds on the second objective, each to be reached at the least cost.
        stream: A number that differs for every proposal. Samplers with one stream of random numbers add it to the seed;
            they are made anew for each proposal, so that proposals after a kill are those without it.
    """

    space: Mapping[str, BaseDistribution] = field(default_factory=dict)
    log: tuple[int, ...] = ()
    budgets: tuple[float, ...] = ()
    goals: tuple[float, ...] = ()
    stream: int = 0


@runtime_checkable
class WarmStarted(Protocol):
    """A sampler that accepts cheap evaluations: values of one objective at points that are no trials."""

    def warm_start(self, objective: int, points: Sequence[Mapping[str, Any]], values: Sequence[float]) -> None:
        """Replace the cheap evaluations of an objective.

        Args:
            objective: Position of the objective.
            points: Parameters of each point, all of them.
            values: Value of the objective at each point.
        """


SAMPLERS: Registry[Callable[[int, StudyInfo], BaseSampler]] = Registry(
    "nas.search.samplers",
    {
        "random": "nas.search.samplers:random",
        "nsga2": "nas.search.samplers.nsga2:nsga2",
        "tpe": "nas.search.samplers:tpe",
        "guided": "nas.search.samplers.guided:guided",
    },
)


def random(seed: int, info: StudyInfo) -> BaseSampler:
    """Make Optuna's random sampler."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed + info.stream)


def tpe(seed: int, info: StudyInfo) -> BaseSampler:
    """Make Optuna's multi-objective TPE (Ozaki et al., doi:10.1613/jair.1.13188), multivariate.

    Slow beyond a thousand trials.
    """
    import warnings

    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import TPESampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # `multivariate` has been experimental for years
        return TPESampler(multivariate=True, n_startup_trials=16, seed=seed + info.stream)
