"""The samplers by name: ordinary Optuna samplers, made from a seed. A new one is one line here (and a file, if it is ours)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from search_spaces.registry import Registry

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SAMPLERS: Registry[Callable[[int], BaseSampler]] = Registry(
    "nas.samplers",
    {"random": "nas.samplers:random", "nsga2": "nas.samplers:nsga2", "tpe": "nas.samplers:tpe"},
)


def random(seed: int) -> BaseSampler:
    """Uniform over the choices."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def nsga2(seed: int) -> BaseSampler:
    """NSGA-II (Deb et al., doi:10.1109/4235.996017) with a population of 20: searches here have tens to hundreds of evaluations, not thousands."""
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(population_size=20, seed=seed)


def tpe(seed: int) -> BaseSampler:
    """Multi-objective TPE (Ozaki et al., doi:10.1613/jair.1.13188), choices modelled together; slow beyond a thousand trials."""
    import warnings

    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import TPESampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # `multivariate` has been marked so for years
        return TPESampler(multivariate=True, n_startup_trials=16, seed=seed)
