"""Measure the CPU time of a proposal: every search space, 100 to 2,000 trials, two and three objectives.

``python -m benchmarks.sampler_overhead``

Objectives are synthetic functions of the parameters; studies are in memory. For each space and number of trials:

- ``reopened``: the first proposal of a new sampler on a study with that many trials, median of three samplers. It
  reads all trials and fits every surrogate without earlier hyperparameters.
- ``first three``: mean of the first three proposals of such a sampler.
- ``running``: median of the proposals that follow.
- ``refit``: the longest of them while the study grows by more than a tenth, after which hyperparameters are fitted
  again.

CPU time is that of all threads of the process. A space with fewer points than trials is left out at that number. For
comparison, other samplers propose in one space.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from statistics import mean, median
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial

from benchmarks.record import Goal, write
from nas.search.samplers import SAMPLERS, StudyInfo
from search_spaces.spaces import SPACES

COUNTS = (100, 500, 2000)
OBJECTIVES = (2, 3)
AT, LIMIT_S = 500, 0.3
"""Trials of the goals, and their limit in seconds."""
REPEATS, PROPOSALS = 3, 8
COMPARED_SPACE, COMPARED = "yolo-nas", ("nsga2", "tpe")
Space = dict[str, BaseDistribution]


def distributions(name: str) -> Space:
    """Return the distributions of a registered search space's free choices."""
    return {
        c.name: IntDistribution(0, len(c.values) - 1) if c.ordered else CategoricalDistribution(range(len(c.values)))
        for c in SPACES[name].choices
        if len(c.values) > 1
    }


class Problem:
    """Synthetic objectives of a space: a cost, a gain with observation noise, and a second cost."""

    def __init__(self, space: Space, objectives: int, seed: int) -> None:
        self.space, self._rng = space, np.random.default_rng(seed)
        every = (StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)
        self.directions = every[:objectives]
        self._weights = {name: self._rng.gamma(1.0) for name in space}

    def values(self, params: Mapping[str, Any]) -> list[float]:
        """Return the objectives of a point."""
        sizes = np.array([weight * (1 + params[name]) for name, weight in self._weights.items()])
        gain = np.log(sizes).sum() + self._rng.normal(0, 0.1)
        every = [np.exp(sizes.mean()), gain, sizes.sum() + self._rng.normal(0, 1)]
        return [float(value) for value in every[: len(self.directions)]]

    def trials(self, count: int) -> list[FrozenTrial]:
        """Return complete trials at distinct points, found by NSGA-II for the first half, then uniform."""
        study = optuna.create_study(
            directions=self.directions, sampler=SAMPLERS["nsga2"](0, StudyInfo(self.space, (0,)))
        )
        found: dict[tuple[Any, ...], FrozenTrial] = {}
        for _ in range(count // 2):
            trial = study.ask(self.space)
            values = self.values(trial.params)
            study.tell(trial, values)
            complete = create_trial(values=values, params=trial.params, distributions=self.space)
            found.setdefault(tuple(trial.params.values()), complete)
        sizes = {n: d.high + 1 if isinstance(d, IntDistribution) else len(d.choices) for n, d in self.space.items()}  # type: ignore[attr-defined]
        while len(found) < count:
            params = {name: int(self._rng.integers(size)) for name, size in sizes.items()}
            key = tuple(params.values())
            if key not in found:
                found[key] = create_trial(values=self.values(params), params=params, distributions=self.space)
        return list(found.values())

    def study(self, sampler: str, trials: Sequence[FrozenTrial]) -> optuna.Study:
        """Return a study of these trials with a new sampler."""
        study = optuna.create_study(
            directions=self.directions, sampler=SAMPLERS[sampler](0, StudyInfo(self.space, (0,)))
        )
        study.add_trials(trials)
        return study

    def proposals(self, study: optuna.Study, count: int) -> list[float]:
        """Return the CPU seconds of each of the next proposals, which are evaluated."""
        seconds = []
        for _ in range(count):
            start = time.process_time()
            trial = study.ask(self.space)
            seconds.append(time.process_time() - start)
            study.tell(trial, self.values(trial.params))
        return seconds


def measured(space: Space, objectives: int, count: int) -> dict[str, float]:
    """Return CPU seconds of proposals of the guided sampler at about ``count`` trials."""
    problem = Problem(space, objectives, seed=0)
    trials = problem.trials(count + count // 10)
    first, three = [], []
    for _ in range(REPEATS):
        study = problem.study("guided", trials[:count])
        seconds = problem.proposals(study, 3)
        first.append(seconds[0])
        three.append(mean(seconds))
    running = problem.proposals(study, PROPOSALS)
    study.add_trials(trials[count : count + max(0, count // 10 - PROPOSALS - 3)])
    refit = problem.proposals(study, PROPOSALS)
    return {
        "reopened": median(first),
        "first three": median(three),
        "running": median([*running, *refit]),
        "refit": max(refit),
    }


def compared(name: str, space: Space, count: int) -> dict[str, float]:
    """Return CPU seconds of proposals of another sampler."""
    problem = Problem(space, 2, seed=0)
    seconds = problem.proposals(problem.study(name, problem.trials(count)), 20)
    return {"running": median(seconds), "longest": max(seconds)}


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """Return the goals: time of a proposal in the slowest space."""
    goals = []
    for objectives, spaces in figure["guided"].items():
        slowest = max(row[str(AT)]["running"] for row in spaces.values() if str(AT) in row)
        what = f"CPU time of a proposal of the guided sampler at {AT} trials, {objectives}, slowest space"
        goals.append(Goal(what, slowest, f"<= {LIMIT_S:g}", "s"))
    return goals


def main() -> None:
    """Measure, one space after the other, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", action="append", help="repeatable; default: every search space")
    parser.add_argument("--dry", action="store_true", help="print, write no result")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    figure: dict[str, Any] = {"guided": {}, "compared": {}}
    for objectives in OBJECTIVES:
        rows = figure["guided"].setdefault(f"{objectives} objectives", {})
        for name in args.space or SPACES:
            for count in COUNTS:
                if 1.2 * count + PROPOSALS < SPACES[name].size:
                    found = measured(distributions(name), objectives, count)
                    rows.setdefault(name, {})[str(count)] = found
                    text = ", ".join(f"{key} {1e3 * s:.0f} ms" for key, s in found.items())
                    print(f"{name}, {objectives} objectives, {count} trials: {text}", flush=True)
    for name in COMPARED:
        figure["compared"][name] = compared(name, distributions(COMPARED_SPACE), AT)
    figure["compared space"], figure["at"] = COMPARED_SPACE, AT
    if not args.dry:
        write("sampler_overhead", figure, goals_of(figure))


if __name__ == "__main__":
    main()
