"""What a proposal costs when many trials are known: ``python -m benchmarks.sampler_overhead --trials 500 --space
yolo-nas``.

Seconds from ``study.ask`` to the parameters, per sampler, over the last fifth of the trials (median, 90 % quantile,
longest), in memory, on made-up objectives of the space's parameters. Beside it, what one evaluation costs: a
candidate of the quickstart (``results/quickstart.json`` says how many seconds it took).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from benchmarks.record import Goal, write
from nas.search.samplers import SAMPLERS, StudyInfo
from search_spaces.spaces import SPACES


def proposals(name: str, space: dict[str, BaseDistribution], trials: int, seed: int) -> list[float]:
    """Seconds of each."""
    rng = np.random.default_rng(seed)
    weights = {p: rng.gamma(1.0) for p in space}
    study = optuna.create_study(
        directions=["minimize", "maximize"], sampler=SAMPLERS[name](seed, StudyInfo(space, (0,)))
    )
    seconds = []
    for _ in range(trials):
        start = time.perf_counter()
        trial = study.ask(space)
        seconds.append(time.perf_counter() - start)
        sizes = np.array([weights[p] * (1 + trial.params[p]) for p in space])
        study.tell(trial, (float(np.exp(sizes.mean())), float(np.log(sizes).sum() + rng.normal(0, 0.1))))
    return seconds


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """Time of a proposal."""
    what = f"time of a proposal of the guided sampler at {figure['trials']} trials, median"
    return [Goal(what, figure["seconds"]["guided"]["median"], f"<= {figure['goal']:g}", "s")]


def main() -> None:
    """Time them, one sampler after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="yolo-nas")
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--sampler", action="append")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    choices = [c for c in SPACES[args.space].choices if len(c.values) > 1]
    space: dict[str, BaseDistribution] = {
        c.name: IntDistribution(0, len(c.values) - 1) if c.ordered else CategoricalDistribution(range(len(c.values)))
        for c in choices
    }
    figure = {"space": args.space, "size": SPACES[args.space].size, "trials": args.trials, "goal": 0.3, "seconds": {}}
    for name in args.sampler or ("guided", "nsga2", "tpe"):
        last = proposals(name, space, args.trials, 0)[-args.trials // 5 :]
        figure["seconds"][name] = {
            "median": float(np.median(last)),
            "p90": float(np.quantile(last, 0.9)),
            "longest": max(last),
        }
        print(name, {k: round(v, 4) for k, v in figure["seconds"][name].items()}, flush=True)
    write("sampler_overhead", figure, goals_of(figure), seeds=[0])


if __name__ == "__main__":
    main()
