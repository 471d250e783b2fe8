"""The samplers by name: ordinary Optuna samplers, made from a seed and what is known of the study. A new one is one
line here (and a file, if it is ours)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from search_spaces.registry import Registry

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler


@dataclass(frozen=True)
class Known:
    """What a study knows before its first trial: the distributions of the parameters, which objectives count by their
    logarithm (a latency), the budgets on the first objective for which something is wanted, ``goals`` on the second
    that something is to reach at the least cost, and ``begun``, which differs whenever the study is opened again or
    by another worker: samplers with one stream of random numbers add it to the seed."""

    space: Mapping[str, BaseDistribution] = field(default_factory=dict)
    log: tuple[int, ...] = ()
    budgets: tuple[float, ...] = ()
    goals: tuple[float, ...] = ()
    begun: int = 0


@runtime_checkable
class Learner(Protocol):
    """A sampler that takes values of one objective at points that are no trials: what costs nearly nothing can be
    asked of more points than are evaluated."""

    def learn(self, objective: int, points: Sequence[Mapping[str, Any]], values: Sequence[float]) -> None:
        """Values of the objective at that place, at points given by all their parameters. They replace those that
        were told before."""


SAMPLERS: Registry[Callable[[int, Known], BaseSampler]] = Registry(
    "nas.search.samplers",
    {
        "random": "nas.search.samplers:random",
        "nsga2": "nas.search.samplers:nsga2",
        "tpe": "nas.search.samplers:tpe",
        "guided": "nas.search.samplers.guided:guided",
    },
)


def random(seed: int, known: Known) -> BaseSampler:
    """Uniform over the choices."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed + known.begun)


def nsga2(seed: int, known: Known) -> BaseSampler:
    """NSGA-II (Deb et al., doi:10.1109/4235.996017) with a population of 20: searches here have tens to hundreds of
    evaluations, not thousands."""
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(population_size=20, seed=seed + known.begun)


def tpe(seed: int, known: Known) -> BaseSampler:
    """Multi-objective TPE (Ozaki et al., doi:10.1613/jair.1.13188), choices modelled together; slow beyond a thousand
    trials."""
    import warnings

    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import TPESampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # `multivariate` has been marked so for years
        return TPESampler(multivariate=True, n_startup_trials=16, seed=seed + known.begun)
