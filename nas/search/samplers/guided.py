"""The guided sampler: surrogates of the objectives, and proposals by expected hypervolume improvement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas.core.pareto import hypervolume, non_dominated
from nas.search.optuna_compat import set_trial_system_attr
from nas.search.samplers import StudyInfo
from nas.search.samplers.acquisition import MAX_CELLS, BudgetImprovement, HypervolumeImprovement, additive_epsilon
from nas.search.samplers.blas import one_blas_thread
from nas.search.samplers.config import Params, SamplerConfig
from nas.search.samplers.encoding import Encoding
from nas.search.samplers.evolution import POOL, evolved_front, maximise
from nas.search.samplers.history import Encoded, History, logarithms, numbered
from nas.search.samplers.surrogates import FITTED, PosteriorSamples, Surrogates
from nas.search.terminator import GAIN

Floats = NDArray[np.float64]

SAMPLES, PENDING_SAMPLES = 96, 32
"""Posterior samples of a proposal, and those while trials are pending: then each sample has a front of its own."""
PENDING_CELLS = MAX_CELLS // 20
"""Cells of each of those fronts' grids at most."""
MAX_STARTUP = 10


class GuidedSampler(BaseSampler):
    """Multi-objective Bayesian optimisation for discrete and mixed search spaces, for trials of seconds to minutes.

    The sampler works with any Optuna study of one to four objectives, with constraints, failed and pruned trials, and
    several workers. Each proposal takes these steps:

    1. The first trials fill the space (a scrambled Sobol sequence), or lie along the front of ``config.prior_mean``.
    2. A Gaussian process is fitted to every objective under an output warp, to every constraint, and to failures
       (:mod:`~nas.search.samplers.surrogates`).
    3. Posterior samples are drawn from each (Matheron's rule): functions that can be evaluated at any point.
    4. The acquisition value of a point is its hypervolume improvement, averaged over the posterior samples (Daulton et
       al., arXiv:2105.08195), times the probability that the point is feasible. Where no sample improves, points
       compare by the additive epsilon indicator. Pending trials are fantasised: they join the front with the values of
       each sample.
    5. Evolution over the whole space and one-change local search maximise the acquisition value
       (:mod:`~nas.search.samplers.evolution`).

    Random numbers depend on ``seed`` and the trial's number only, interrupted trials before it not counted. Fitted
    hyperparameters are kept with the trials, so that a new process continues as the one before it.

    Example::

        study = optuna.create_study(
            directions=["minimize", "maximize"], sampler=GuidedSampler(0, SamplerConfig(space=space, log=[0]))
        )

    Args:
        seed: Seed of all random numbers; None draws one.
        config: Search space, objectives and further inputs, see :class:`~nas.search.samplers.config.SamplerConfig`.

    Raises ValueError for budgets together with goals, and for budgets that are not positive.
    """

    def __init__(self, seed: int | None = None, config: SamplerConfig | None = None) -> None:
        self._seed = int(np.random.default_rng(seed).integers(2**31)) if seed is None else seed
        self._config = config or SamplerConfig()
        self._budgets = BudgetImprovement.of(self._config.budgets, self._config.goals, self._config.log)
        self._intersection = IntersectionSearchSpace()
        self._surrogates: tuple[Mapping[str, BaseDistribution], Surrogates] | None = None
        self._startup: Floats | None = None
        self._encoded: Encoded = {}
        self._cheap: dict[int, tuple[Sequence[Params], Floats]] = {}

    def warm_start(self, objective: int, points: Sequence[Params], values: Sequence[float]) -> None:
        """Replace the cheap evaluations of an objective: its surrogate is fitted on them besides the trials.

        For an objective such as a predicted latency, which costs little, but too much for the thousand calls of a
        proposal (``config.deterministic``).

        Args:
            objective: Position of the objective.
            points: Parameters of each point, all of them.
            values: Value of the objective at each point, in natural units.
        """
        self._cheap[objective] = list(points), np.asarray(values, np.float64)

    def reseed_rng(self) -> None:
        """Do nothing: random numbers depend on the trial's number, so threads do not repeat each other."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the configured space, or the parameters that all complete trials have in common."""
        if self._config.space is not None:
            return dict(self._config.space)
        found = self._intersection.calculate(study)
        return {name: d for name, d in found.items() if not d.single()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a uniform value: for parameters that not all trials have, and before there are any."""
        rng = np.random.default_rng([self._seed, numbered(study, trial), *param_name.encode()])
        encoding = Encoding({param_name: param_distribution})
        return encoding.params(encoding.random(rng, 1)[0])[param_name]

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the parameters of the next trial, and store its expected gain of hypervolume with it."""
        if not search_space:
            return {}
        with one_blas_thread():
            return self._next(study, trial, search_space)

    def _next(self, study: Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
        surrogates = self._of_space(search_space, study)
        encoding = surrogates.encoding
        history = History.of(study, trial, encoding, search_space, self._config.log, self._encoded)
        rng = np.random.default_rng([self._seed, history.number])
        if len(history.values) < self._startup_count(encoding):
            return encoding.params(self._startup_point(rng, surrogates, history))
        before = dict(surrogates.hyperparameters)
        point, gain = self._proposal(rng, surrogates, history)
        if fits := surrogates.fits_since(before):
            set_trial_system_attr(study, trial, FITTED, fits)
        if gain is not None:
            set_trial_system_attr(study, trial, GAIN, gain)
        return encoding.params(point)

    def _of_space(self, space: Mapping[str, BaseDistribution], study: Study) -> Surrogates:
        """Return the surrogates of a search space, begun with what was fitted for the trials of the study; those of
        another space are dropped."""
        if self._surrogates is None or self._surrogates[0] != space:
            self._surrogates = dict(space), Surrogates(Encoding(space), self._config)
            self._surrogates[1].restore(study.get_trials(deepcopy=False))
            self._encoded.clear()
            self._startup = None
        return self._surrogates[1]

    def _startup_count(self, encoding: Encoding) -> int:
        """Return the number of trials before the first surrogate.

        Along the front of a prior mean with an exact objective, trials are worth more than a surrogate of few points.
        """
        exact = self._config.deterministic and self._config.prior_mean is not None
        usual = MAX_STARTUP if exact else min(MAX_STARTUP, len(encoding.names) + 1)
        return max(2, usual if self._config.n_startup_trials is None else self._config.n_startup_trials)

    def _candidates(self, encoding: Encoding) -> Floats | None:
        return None if self._config.candidates is None else encoding.points(self._config.candidates)

    def _startup_point(self, rng: np.random.Generator, surrogates: Surrogates, history: History) -> Floats:
        """Return the first startup point (d,) that no trial has."""
        encoding = surrogates.encoding
        if self._startup is None:
            self._startup = self._startup_points(np.random.default_rng(self._seed), surrogates, history)
        for point in self._startup:
            if not history.has(point):
                return point
        candidates = self._candidates(encoding)
        pool = encoding.random(rng, 64) if candidates is None else rng.permutation(candidates)
        return next((p for p in pool if not history.has(p)), pool[0])

    def _startup_points(self, rng: np.random.Generator, surrogates: Surrogates, history: History) -> Floats:
        """Return points that fill the space, or those of the prior mean's front, spread over its first objective."""
        encoding, prior_mean = surrogates.encoding, self._config.prior_mean
        candidates, count = self._candidates(encoding), self._startup_count(encoding)
        if prior_mean is None:
            if candidates is None:
                return encoding.filling(rng, 2 * count)
            return candidates[rng.permutation(len(candidates))[: 2 * count]]
        signs = history.signs

        def means(points: Floats) -> Floats:
            values = surrogates.cached("prior mean", prior_mean, points) * signs
            return logarithms(values, self._config.log, signs)

        pool = candidates
        if pool is None:
            pool = evolved_front(means, rng, encoding, encoding.filling(rng, POOL))
        values = means(pool)
        front = pool[non_dominated(values, ["min"] * values.shape[1])]
        order = np.argsort(means(front)[:, 0])
        wanted = np.unique(np.round(np.linspace(0, len(front) - 1, count)).astype(int))  # both ends included
        return np.concatenate([front[order[wanted]], rng.permutation(front)])

    def _proposal(
        self, rng: np.random.Generator, surrogates: Surrogates, history: History
    ) -> tuple[Floats, float | None]:
        """Return the next point (d,), and its expected gain as a share of the hypervolume (None where unknown)."""
        count = PENDING_SAMPLES if len(history.pending) else SAMPLES
        samples = surrogates.posterior_samples(rng, history, self._cheap, count)
        every_other = len(history.values) % 2 == 0
        budgets = self._budgets if self._budgets and every_other and self._budgets.applies(history.signs) else None
        acquisition = Acquisition.of(history, samples, budgets)
        candidates = self._candidates(surrogates.encoding)
        if candidates is None:
            point, best = maximise(acquisition, rng, surrogates.encoding, history)
        else:
            unseen = np.array([p for p in candidates if not history.has(p)])
            pool = unseen if len(unseen) else candidates
            scores = acquisition(pool)
            point, best = np.asarray(pool[scores.argmax()]), float(scores.max())
        objectives = history.values.shape[1]
        if objectives == 1 or budgets:
            return point, None
        # The hypervolume that `--stop` sees: below the worst observed values.
        volume = hypervolume(history.front, history.values.max(0), ["min"] * objectives)
        return point, max(best, 0.0) / volume if volume > 0 else None


@dataclass(frozen=True)
class Acquisition:
    """Acquisition values of points: expected improvement times the probability of feasibility.

    Args:
        samples: Posterior samples of the objectives and constraints.
        improvements: Functions of objective values, (n, m) -> (n,): how much points improve. One for all samples, or
            one for each where pending trials give each sample a front of its own.
        distances: As many functions, (n, m) -> (n,): an order of points that do not improve.
    """

    samples: PosteriorSamples
    improvements: Sequence[Callable[[Floats], Floats]]
    distances: Sequence[Callable[[Floats], Floats]]

    @classmethod
    def of(cls, history: History, samples: PosteriorSamples, budgets: BudgetImprovement | None) -> Acquisition:
        """Return the acquisition values of a history; with ``budgets`` improvement within these alone counts."""
        front, reference, scale, cells = history.front, history.reference, history.scale, MAX_CELLS
        fronts = [front]
        if len(history.pending):
            fantasies = samples.values(history.pending)
            fronts, cells = [np.concatenate([front, one]) for one in fantasies.swapaxes(0, 1)], PENDING_CELLS

        if budgets is None:
            improvements = [HypervolumeImprovement(f, reference, cells) for f in fronts]
            return cls(samples, improvements, [partial(additive_epsilon, front=f, scale=scale) for f in fronts])
        bests = [budgets.best(f, reference) for f in fronts]
        return cls(
            samples,
            [partial(budgets.improvement, best=best) for best in bests],
            [partial(budgets.additive_epsilon, best=best, scale=scale) for best in bests],
        )

    def __call__(self, points: Floats) -> Floats:
        """Return acquisition values (n,) of points (n, d), below 0 where no sample improves."""
        values, feasible = self.samples.values(points), self.samples.feasible(points)
        scores = self._mean(self.improvements, values) * feasible
        none = scores <= 0
        # An order only: a quarter of the samples decides it.
        distances = self._mean(self.distances, values[none], 4)
        scores[none] = np.minimum(distances, 0.0) - 1 + feasible[none] - 1e-9
        return np.asarray(scores)

    def _mean(self, functions: Sequence[Callable[[Floats], Floats]], values: Floats, every: int = 1) -> Floats:
        """Return the mean (n,) over every so-manyth sample of a function of values (n, samples, m)."""
        chosen = range(0, self.samples.count, every)
        if len(functions) == 1:
            part = values[:, chosen]
            return np.asarray(functions[0](part.reshape(-1, part.shape[2])).reshape(part.shape[:2]).mean(1))
        return np.asarray(np.mean([functions[s](values[:, s]) for s in chosen], 0))


def guided(seed: int, info: StudyInfo) -> GuidedSampler:
    """Make the sampler of ``--sampler guided``."""
    config = SamplerConfig(space=info.space or None, log=info.log, budgets=info.budgets, goals=info.goals)
    return GuidedSampler(seed, config)
