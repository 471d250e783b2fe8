"""Optuna's NSGA-II (Deb et al., doi:10.1109/4235.996017) for searches of tens to hundreds of trials."""

from __future__ import annotations

from optuna.samplers import BaseSampler, NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas.search.samplers import StudyInfo

POPULATION = 20
"""A search here has tens to hundreds of trials, not thousands."""


class OrderedNSGAIISampler(NSGAIISampler):
    """NSGA-II whose parents are always in the order of their trials.

    Optuna returns the parents of a generation in the order of their selection to the process that selects them, and in
    the order of their trials ever after. The first child of a generation would differ after a kill.
    """

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Return the parents of a generation in the order of their trials."""
        return sorted(super().get_parent_population(study, generation), key=lambda trial: trial.number)


def nsga2(seed: int, info: StudyInfo) -> BaseSampler:
    """Make NSGA-II with a population of :data:`POPULATION`."""
    return OrderedNSGAIISampler(population_size=POPULATION, seed=seed + info.stream)
