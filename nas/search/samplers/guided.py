"""A sampler that learns: models of the objectives, and proposals where the hypervolume is expected to grow most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from nas.search.samplers import Known
from nas.search.samplers.acquisition import Focus, gains, nearness
from nas.search.samplers.encoding import Encoding, beside
from nas.search.samplers.gaussian import Hyper, Process, Warp
from nas.search.samplers.history import History, keys_of, logarithms
from nas.search.terminator import GAIN

Floats = NDArray[np.float64]
Params = Mapping[str, Any]

DRAWS, FEWER = 96, 32
"""Functions drawn per objective and proposal; the mean of their gains stands for the expected gain. Fewer where every
one has to be looked at by itself."""
POOL, ROUNDS, PARENTS = 400, 6, 60
MOST_INITIAL = 10
EVERY = 0.1
"""Hyperparameters are fitted anew when the trials have grown by so much."""


class GuidedSampler(BaseSampler):
    """Expected hypervolume improvement on Gaussian processes, optimised over the whole space by evolution and
    one-change local search.

    An ordinary Optuna sampler: any study, one to four objectives, constraints, failed and pruned trials, workers side
    by side. The first ``initial`` trials (by default one more than there are parameters, ten at most; ten with
    ``known`` and ``guess``) fill the space, or lie along the front of ``guess``. Then, for every trial, functions are
    drawn from each objective's model (Matheron's rule), points are evolved on them, and the one whose mean gain of
    hypervolume over the drawn functions is the largest is proposed (Daulton et al., arXiv:2105.08195). Running trials
    count as if they had the values that the functions give them. Random numbers follow ``seed`` and the trial's
    number alone.

    ``space``: the distributions, if known, so that the first trials can fill it. ``log``: objectives (by position) of
    which the logarithm counts, such as a latency. ``budgets``: upper bounds on the first of two objectives, the cost;
    every other proposal then goes where the best accuracy within one of them is expected to improve most, the rest to
    the whole front, without which the models would know nothing else. ``goals``: lower bounds on the second of two
    objectives, the gain, instead: there the least cost that reaches one of them is what should improve. ``known``:
    objectives that cost nothing, as functions of the parameters: computed, not modelled. ``features``: numbers that
    cost nothing (params, MACs, a zero-cost score), as further inputs of the models. ``guess``: per objective a cheap
    stand-in, for the start only. ``candidates``: the only points that exist, such as the rows of a table.
    """

    def __init__(
        self,
        seed: int | None = None,
        *,
        initial: int | None = None,
        space: Mapping[str, BaseDistribution] | None = None,
        log: Sequence[int] = (),
        budgets: Sequence[float] = (),
        goals: Sequence[float] = (),
        known: Mapping[int, Callable[[Params], float]] | None = None,
        features: Callable[[Params], Sequence[float] | Floats] | None = None,
        guess: Callable[[Params], Sequence[float]] | None = None,
        candidates: Sequence[Params] | None = None,
    ) -> None:
        self._seed = int(np.random.default_rng(seed).integers(2**31)) if seed is None else seed
        self._initial, self._space, self._log = initial, space, tuple(log)
        self._known, self._features, self._guess = dict(known or {}), features, guess
        self._candidates = candidates
        self._focus = Focus.of(budgets, goals, self._log)
        self._intersection = IntersectionSearchSpace()
        self._hyper: dict[str, tuple[int, Hyper]] = {}
        self._current: tuple[Mapping[str, BaseDistribution], Encoding] | None = None
        self._cheap: dict[str, dict[tuple[float, ...], Any]] = {}
        self._design: Floats | None = None
        self._rows: dict[tuple[str, int], Floats | None] = {}
        self._ahead: dict[int, tuple[Sequence[Params], Floats]] = {}

    def learn(self, objective: int, points: Sequence[Params], values: Sequence[float]) -> None:
        """Values of an objective, by its position, at points that are no trials (all parameters of each): its model
        learns from them, too.

        For what costs nearly nothing but is no function that a proposal could call a thousand times (``known``), such
        as a predicted latency.
        """
        self._ahead[objective] = list(points), np.asarray(values, np.float64)

    def reseed_rng(self) -> None:
        """Nothing: random numbers follow the trial's number, so threads do not repeat each other."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What all complete trials have in common, or the space that was given."""
        if self._space is not None:
            return dict(self._space)
        found = self._intersection.calculate(study)
        return {name: d for name, d in found.items() if not d.single()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Uniform: for parameters that not all trials have, and before there are any."""
        rng = np.random.default_rng([self._seed, trial.number, *param_name.encode()])
        encoding = Encoding({param_name: param_distribution})
        return encoding.params(encoding.random(rng, 1)[0])[param_name]

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next point."""
        if not search_space:
            return {}
        encoding = self._encoding(search_space)
        rng = np.random.default_rng([self._seed, trial.number])
        history = History.of(study, trial, encoding, search_space, self._log, self._rows)
        if len(history.values) < self._beginning(encoding):
            return encoding.params(self._first(rng, encoding, history))
        point, gain = self._best(rng, encoding, history)
        if gain is not None:
            set_trial_system_attr(study, trial, GAIN, gain)
        return encoding.params(point)

    def _encoding(self, space: Mapping[str, BaseDistribution]) -> Encoding:
        if self._current is None or self._current[0] != space:
            self._current = dict(space), Encoding(space)
            self._hyper.clear()  # of other columns
            self._cheap.clear()
            self._rows.clear()
            self._design = None
        return self._current[1]

    def _beginning(self, encoding: Encoding) -> int:
        """How many trials come before the models. A guess along which one objective is exact is worth more than
        models of a few points."""
        exact = self._known and self._guess is not None
        usual = MOST_INITIAL if exact else min(MOST_INITIAL, len(encoding.names) + 1)
        return max(2, self._initial if self._initial is not None else usual)

    def _all(self, encoding: Encoding) -> Floats | None:
        return None if self._candidates is None else encoding.points(self._candidates)

    def _first(self, rng: np.random.Generator, encoding: Encoding, history: History) -> Floats:
        """The first point of the plan that was not tried."""
        if self._design is None:
            self._design = self._plan(np.random.default_rng(self._seed), encoding, history)
        for point in self._design:
            if not history.has(point):
                return point
        everything = self._all(encoding)
        pool = encoding.random(rng, 64) if everything is None else rng.permutation(everything)
        return next((p for p in pool if not history.has(p)), pool[0])

    def _plan(self, rng: np.random.Generator, encoding: Encoding, history: History) -> Floats:
        everything = self._all(encoding)
        count = self._beginning(encoding)
        if self._guess is None:
            return (
                encoding.filling(rng, 2 * count)
                if everything is None
                else everything[rng.permutation(len(everything))[: 2 * count]]
            )
        guess = self._guess
        signs = history.signs

        def guessed(points: Floats) -> Floats:
            values = self._cached("guess", guess, encoding, points) * signs
            return logarithms(values, self._log, signs)

        pool = _evolved(rng, encoding, guessed, encoding.filling(rng, POOL)) if everything is None else everything
        values = guessed(pool)
        front = pool[non_dominated(values, ["min"] * values.shape[1])]
        order = np.argsort(guessed(front)[:, 0])
        # Spread over the front by the first objective's places, its ends included.
        wanted = np.unique(np.round(np.linspace(0, len(front) - 1, count)).astype(int))
        return np.concatenate([front[order[wanted]], rng.permutation(front)])

    def _best(self, rng: np.random.Generator, encoding: Encoding, history: History) -> tuple[Floats, float | None]:
        """The point, and the gain of hypervolume that is expected of it, as a share of what there is; None where it
        was chosen by something else."""
        objectives = range(history.values.shape[1])
        # What runs elsewhere counts with its drawn values, so that every draw has a front of its own. Else one stands
        # for all, and all draws are looked at at once (not where gains are counted in a box that the draws decide, by
        # more than two objectives).
        together = len(history.pending) == 0 and len(objectives) <= 2
        draws = DRAWS if together else FEWER
        drawn = {
            j: self._objective(rng, j, *self._told(j, encoding, history), draws)
            for j in objectives
            if j not in self._known
        }
        inputs, groups = self._inputs(encoding, history.points)
        limits = [
            self._process(f"limit {name}", inputs[rows], values, groups).draw(rng, draws)
            for name, rows, values in history.limits
        ]
        if history.failed.any():
            everyone, same = self._inputs(encoding, history.everyone)
            limits.append(self._process("failed", everyone, history.failed - 0.5, same).draw(rng, draws))

        def values(points: Floats) -> Floats:
            """(n, draws, m)."""
            x, _ = self._inputs(encoding, points)
            columns = []
            for j in objectives:
                if j in self._known:
                    exact = self._cached(f"known {j}", self._known[j], encoding, points) * history.signs[j]
                    exact = np.log(np.maximum(exact, 1e-300)) if j in self._log else exact
                    columns.append(np.repeat(exact[:, None], draws, 1))
                else:
                    columns.append(drawn[j](x))
            return np.stack(columns, 2)

        def allowed(points: Floats) -> Floats:
            """Share (n,) of the drawn functions by which a point is inside all limits."""
            if not limits:
                return np.ones(len(points))
            x, _ = self._inputs(encoding, points)
            inside = np.stack([draw(x) <= 0 for draw in limits], 2).all(2)
            return np.asarray(inside.mean(1))

        pending = values(history.pending) if len(history.pending) else None
        front = history.front
        spread = np.maximum(np.ptp(history.values, axis=0), 1e-12)
        focus = (
            self._focus
            if len(objectives) == 2 and len(history.values) % 2 == 0 and self._focus and self._focus.fits(history.signs)
            else None
        )
        fronts = (
            [front]
            if together
            else [front if pending is None else np.concatenate([front, pending[:, s]]) for s in range(draws)]
        )
        bests = [focus.bests(f, history.reference) for f in fronts] if focus else []

        def averaged(of: Callable[[Floats, int], Floats], v: Floats, every: int = 1) -> Floats:
            """Mean over the draws (or every so-manyth) of a function of the points' values (n, m) and the number of
            the draw's front."""
            drawn = v[:, ::every]
            if together:
                return np.asarray(of(drawn.reshape(-1, v.shape[2]), 0).reshape(drawn.shape[:2]).mean(1))
            return np.asarray(np.mean([of(drawn[:, k], s) for k, s in enumerate(range(0, draws, every))], 0))

        def gain(v: Floats, s: int) -> Floats:
            return focus.gains(v, bests[s]) if focus else gains(v, fronts[s], history.reference)

        def near(v: Floats, s: int) -> Floats:
            return focus.nearness(v, bests[s], spread) if focus else nearness(v, fronts[s], spread)

        def merit(points: Floats) -> Floats:
            """Mean gain; where there is none at all, less than nothing, and the nearer to the front the more."""
            v, share = values(points), allowed(points)
            merits = averaged(gain, v) * share
            none = merits <= 0
            short = averaged(near, v[none], 4)  # only an order among those that gain nothing
            merits[none] = np.minimum(short, 0.0) - 1 + share[none] - 1e-9
            return np.asarray(merits)

        everything = self._all(encoding)
        if everything is not None:
            unseen = np.array([p for p in everything if not history.has(p)])
            pool = unseen if len(unseen) else everything
            scores = merit(pool)
            point, best = np.asarray(pool[scores.argmax()]), float(scores.max())
        else:
            point, best = self._evolve(rng, encoding, history, merit)
        # The share is of what lies below the worst that was seen, the box in which people (and `--stop`) see the front.
        volume = (
            hypervolume(history.front, history.values.max(0), ["min"] * len(objectives))
            if len(objectives) > 1 and not focus
            else 0.0
        )
        return point, max(best, 0.0) / volume if volume > 0 else None

    def _evolve(
        self, rng: np.random.Generator, encoding: Encoding, history: History, merit: Callable[[Floats], Floats]
    ) -> tuple[Floats, float]:
        """A point and its merit."""
        good = history.good
        near = encoding.mutated(rng, good[rng.integers(len(good), size=POOL // 2)])
        pool = np.concatenate(
            [near, encoding.crossed(rng, good, POOL // 4), encoding.random(rng, POOL - POOL // 2 - POOL // 4)]
        )
        pool = history.unseen(pool)
        scores = merit(pool) if len(pool) else np.empty(0)
        for round_ in range(ROUNDS):
            if len(pool) == 0:
                break
            order = np.argsort(-scores, kind="stable")[:PARENTS]
            pool, scores = pool[order], scores[order]
            if round_ < ROUNDS - 1:
                more = np.concatenate(
                    [
                        encoding.mutated(rng, pool[rng.integers(len(pool), size=2 * PARENTS)]),
                        encoding.crossed(rng, pool, PARENTS),
                    ]
                )
            else:
                more = encoding.neighbours(pool[0])
            more = history.unseen(np.concatenate([pool, more]))[len(pool) :]
            if len(more):
                pool, scores = np.concatenate([pool, more]), np.concatenate([scores, merit(more)])
        if len(pool) == 0:  # a small space that was seen whole, or nearly
            return encoding.random(rng, 1)[0], 0.0
        return np.asarray(pool[scores.argmax()]), float(scores.max())

    def _told(self, j: int, encoding: Encoding, history: History) -> tuple[Floats, Floats, NDArray[np.intp]]:
        """Inputs (n, D), values (n,) and groups of columns from which the model of an objective learns: its trials,
        and what was told ahead."""
        points, values = history.points, history.values[:, j]
        if j in self._ahead and len(self._ahead[j][0]):
            given, told = self._ahead[j]
            rows, signed = encoding.points(given), told * history.signs[j]
            signed = logarithms(signed[:, None], (0,), history.signs[j : j + 1])[:, 0] if j in self._log else signed
            new = np.array([not history.has(row) for row in rows]) & np.isfinite(signed)
            points, values = np.concatenate([points, rows[new]]), np.concatenate([values, signed[new]])
        x, groups = self._inputs(encoding, points)
        return x, values, groups

    def _objective(
        self, rng: np.random.Generator, j: int, x: Floats, y: Floats, groups: NDArray[np.intp], draws: int
    ) -> Callable[[Floats], Floats]:
        """So many functions: (n, D) -> (n, draws), on values warped so that they are the most probable."""
        fits = [
            (warp, self._process(f"objective {j}, warp {i}", x, warp(y), groups))
            for i, warp in enumerate(Warp.choices(y))
        ]
        warp, process = min(fits, key=lambda fit: fit[1].loss + fit[0].loss(y))
        # The front consists of observed values, lucky ones among them: what is drawn has to beat it with the noise of
        # an observation.
        draw = process.draw(rng, draws, observed=True)
        return lambda points: warp.back(draw(points))

    def _process(self, name: str, x: Floats, y: Floats, groups: NDArray[np.intp]) -> Process:
        fitted, start = self._hyper.get(name, (0, None))
        stale = len(y) >= fitted * (1 + EVERY) or len(y) < fitted
        process = Process(x, y, groups, start, steps=(30 if start is None else 15) if stale else 0)
        if stale:
            self._hyper[name] = (len(y), process.hyper)
        return process

    def _inputs(self, encoding: Encoding, points: Floats) -> tuple[Floats, NDArray[np.intp]]:
        """Columns of the models and which parameter (or feature) each is of."""
        x, groups = encoding.embed(points), encoding.groups
        if self._features is None:
            return x, groups
        more = self._cached("features", self._features, encoding, points).reshape(len(points), -1)
        return beside(x, groups, more)

    def _cached(self, what: str, function: Callable[[Params], Any], encoding: Encoding, points: Floats) -> Floats:
        """What a function says of each of the points, asked once of each."""
        kept, keys = self._cheap.setdefault(what, {}), keys_of(points)
        for key, point in zip(keys, points, strict=True):
            if key not in kept:
                kept[key] = function(encoding.params(point))
        return np.array([kept[key] for key in keys], np.float64)


def guided(seed: int, known: Known) -> GuidedSampler:
    """As ``--sampler guided`` makes it."""
    return GuidedSampler(seed, space=known.space or None, log=known.log, budgets=known.budgets, goals=known.goals)


def _evolved(rng: np.random.Generator, encoding: Encoding, values: Callable[[Floats], Floats], pool: Floats) -> Floats:
    """The pool and what evolution finds along the front of ``values``."""
    for _ in range(ROUNDS):
        v = values(pool)
        good = pool[non_dominated(v, ["min"] * v.shape[1])]
        pool = np.concatenate(
            [
                pool,
                encoding.mutated(rng, good[rng.integers(len(good), size=PARENTS)]),
                encoding.crossed(rng, good, PARENTS),
            ]
        )
    return pool
