"""Compare samplers on tables of trained networks: hypervolume of the front after a number of evaluations.

``python -m benchmarks.search_quality --yolobench yolobench.parquet --nas-bench-201 nas_bench_201_hw.parquet --seeds
10`` ``python -m benchmarks.search_quality --table mine.csv --cost latency_ms --gain map --free macs,params --log
--dry``

The figure is the hypervolume of the evaluated rows as a share of the true front's, at several numbers of evaluations:
mean over seeds with a 95 % interval (Student's t). YOLOBench uses log latency, and the worst of the table as reference
point; NAS-Bench-201 uses latency, and the worst of the true front plus a tenth of its range. Repeated proposals cost
nothing. A proposal that the table lacks costs nothing either; Optuna's samplers receive the worst of the table for it.
The guided sampler proposes rows of the table only, as a search space has no other points.

Methods:

- ``guided``: the guided sampler; auxiliary inputs are MACs, parameters, and NWOT (YOLOBench) or the operations on a
  cell's paths (NAS-Bench-201)
- ``guided, latency known``: latency is a deterministic objective, only accuracy is evaluated
- ``guided, latency told``: warm start with the latency of 128 other points, as ``nas search`` does with a predicted
  latency
- ``guided, bare``: without auxiliary inputs
- ``random``, ``nsga2`` (population 20), ``tpe`` (multivariate), ``gp``: Optuna's samplers
- ``greedy``: fit Gaussian processes, evaluate the front of their means, repeat (as LINAS does; arXiv:2205.10358);
  ``greedy, free inputs``: with the auxiliary inputs of ``guided``

``--table`` takes any table: a column to minimise, one to maximise, columns that cost nothing, and parameters.

Each (problem, method, seed) is cached when it ends: the same command resumes, and ``--so-far`` reports the cache. With
``--keep``, methods that are not run keep their last result: ``--method guided --keep`` after a change of the sampler,
``--method gp --only "coco x latency_ms_a40" --evaluations 100 --keep`` for a slow sampler on one table. Curves go to
``results/search_quality.png`` and, as a plotly page, to the folder of the cache.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from benchmarks.record import RESULTS, write
from benchmarks.search_plot import draw_html, draw_png
from benchmarks.search_tables import DIRECTIONS, Problem, any_table, nas_bench_201, yolobench
from nas.core.pareto import non_dominated
from nas.search.cheap_objectives import AHEAD
from nas.search.samplers import SAMPLERS, StudyInfo
from nas.search.samplers.config import SamplerConfig
from nas.search.samplers.encoding import Encoding, append_inputs
from nas.search.samplers.gaussian import GaussianProcess
from nas.search.samplers.guided import GuidedSampler

COUNTS = (10, 20, 30, 50, 75, 100, 150, 200)
T_975 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26, 20: 2.09}
"""Student's t for so many seeds."""
TOO_MANY = 40
"""Repeated proposals in a row after which a random unseen row is evaluated."""


def guided(problem: Problem, seed: int, latency_known: bool = False, free: bool = True, ahead: int = 0) -> BaseSampler:
    """Make the guided sampler; ``ahead``: random rows whose latency is a warm start."""
    row = {frozenset(r.items()): i for i, r in enumerate(problem.rows)}

    def at(params: Mapping[str, Any]) -> int:
        return row[frozenset(params.items())]

    def latency(params: Mapping[str, Any]) -> float:
        return float(problem.latency[at(params)])

    prior_mean = None
    if problem.prior_mean and (free or latency_known):
        cost = problem.latency if latency_known else problem.free[problem.prior_mean[0]]
        gain = problem.free[problem.prior_mean[1]]

        def prior_mean(params: Mapping[str, Any]) -> tuple[float, float]:
            return float(cost[at(params)]), float(gain[at(params)])

    config = SamplerConfig(
        space=problem.space,
        log=(0,) if problem.log else (),
        deterministic={0: latency} if latency_known else {},
        auxiliary_inputs=problem.features() if free and problem.free else None,
        prior_mean=prior_mean,
        candidates=None if problem.whole else problem.rows,
    )
    sampler = GuidedSampler(seed, config)
    if ahead:
        cheap = np.random.default_rng([seed, ahead]).permutation(len(problem.rows))[:ahead]
        sampler.warm_start(0, [problem.rows[i] for i in cheap], problem.latency[cheap].tolist())
    return sampler


def gp(problem: Problem, seed: int) -> BaseSampler:
    """Make Optuna's Gaussian-process sampler."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import GPSampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return GPSampler(seed=seed)


METHODS: Mapping[str, Callable[[Problem, int], BaseSampler]] = {
    "guided": guided,
    "guided, latency known": lambda problem, seed: guided(problem, seed, latency_known=True),
    "guided, latency told": lambda problem, seed: guided(problem, seed, ahead=AHEAD),
    "guided, bare": lambda problem, seed: guided(problem, seed, free=False),
    "random": lambda problem, seed: SAMPLERS["random"](seed, StudyInfo()),
    "nsga2": lambda problem, seed: SAMPLERS["nsga2"](seed, StudyInfo()),
    "tpe": lambda problem, seed: SAMPLERS["tpe"](seed, StudyInfo()),
    "gp": gp,
}


GREEDY = ("greedy", "greedy, free inputs")


def asked(problem: Problem, sampler: BaseSampler, evaluations: int, seed: int) -> tuple[list[int], list[float]]:
    """Return rows in the order of their evaluation, and the seconds of the proposal of each."""
    rng = np.random.default_rng(seed)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    seen: dict[int, None] = {}
    seconds, stuck = [], 0
    while len(seen) < evaluations:
        start = time.perf_counter()
        trial = study.ask(dict(problem.space))
        took = time.perf_counter() - start
        row = problem.row(trial.params)
        if row is None or row in seen:
            study.tell(trial, problem.worst if row is None else problem.answer(row))
            stuck += 1
            if stuck >= TOO_MANY:
                unseen = [i for i in range(len(problem.rows)) if i not in seen]
                study.enqueue_trial(dict(problem.rows[rng.choice(unseen)]))
            continue
        stuck = 0
        seen[row] = None
        seconds.append(took)
        study.tell(trial, problem.answer(row))
    return list(seen), seconds


def greedy(problem: Problem, evaluations: int, seed: int, free: bool = False) -> tuple[list[int], list[float]]:
    """Return rows and seconds of the greedy loop: ten random rows, then at most ten of each predicted front."""
    rng = np.random.default_rng(seed)
    encoding = Encoding(problem.space)
    x, groups = encoding.embed(encoding.points(problem.rows)), encoding.groups
    if free and problem.free:
        features = problem.features()
        x, groups = append_inputs(x, groups, np.array([features(row) for row in problem.rows]))
    latency = np.log(problem.latency) if problem.log else problem.latency
    order = [int(i) for i in rng.permutation(len(problem.rows))[:10]]
    seconds = [0.0] * 10
    while len(order) < evaluations:
        start = time.perf_counter()
        unseen = np.setdiff1d(np.arange(len(problem.rows)), order)
        fits = [GaussianProcess(x[order], y[order], groups) for y in (latency, problem.accuracy)]
        predicted = np.column_stack([fit.mean(x[unseen]) for fit in fits])
        front = unseen[non_dominated(predicted, DIRECTIONS)]
        new = [int(i) for i in rng.permutation(front)[: min(10, evaluations - len(order))]]
        order += new
        seconds += [(time.perf_counter() - start) / len(new)] * len(new)
    return order, seconds


def run(problem: Problem, method: str, evaluations: int, seed: int) -> dict[str, Any]:
    """Return the shares of hypervolume at :data:`COUNTS`, and the median seconds of a proposal."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if method in GREEDY:
        rows, seconds = greedy(problem, evaluations, seed, free=method != "greedy")
    else:
        rows, seconds = asked(problem, METHODS[method](problem, seed), evaluations, seed)
    return {
        "shares": {str(n): problem.share(rows[:n]) for n in COUNTS if n <= evaluations},
        "seconds": median(seconds[10:] or seconds),
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean over seeds with the half-width of its 95 % interval, and the median seconds of a proposal."""
    t = T_975.get(len(runs), 2.0)
    shares = {}
    for count in runs[0]["shares"]:
        values = [r["shares"][count] for r in runs]
        shares[count] = {
            "mean": mean(values),
            "half_width": t * stdev(values) / len(values) ** 0.5 if len(values) > 1 else None,
        }
    return {"shares": shares, "seconds": median(r["seconds"] for r in runs), "seeds": len(runs)}


def names(text: str | None) -> tuple[str, ...]:
    """Return the names of columns in an option."""
    return tuple(text.split(",")) if text else ()


def main() -> None:
    """Run the problems, methods and seeds that are not cached, then write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yolobench", type=Path, help="the table as parquet")
    parser.add_argument("--nas-bench-201", type=Path, help="the table as parquet")
    parser.add_argument(
        "--table",
        type=Path,
        help="any other, parquet or CSV: every column that the next five do not name is a parameter",
    )
    parser.add_argument("--cost", metavar="COLUMN", help="to minimise")
    parser.add_argument("--gain", metavar="COLUMN", help="to maximise")
    parser.add_argument("--free", metavar="COLUMN,…", help="cost nothing: inputs of ours")
    parser.add_argument(
        "--prior-mean", "--guess", metavar="COST,GAIN", help="two free columns that stand for cost and gain at first"
    )
    parser.add_argument("--categories", metavar="COLUMN,…", help="numbers that have no order")
    parser.add_argument("--log", action="store_true", help="hypervolume of the cost's logarithm, as for a latency")
    parser.add_argument("--method", action="append", help="repeatable; without it all")
    parser.add_argument("--only", help="problems with this in their name")
    parser.add_argument("--evaluations", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--cache", type=Path, default=Path("runs/search_quality.json"))
    parser.add_argument("--dry", action="store_true", help="print, write no result")
    parser.add_argument("--keep", action="store_true", help="what is not run stays as the last result has it")
    parser.add_argument(
        "--so-far", action="store_true", help="run nothing: the result of the seeds that are in the cache"
    )
    args = parser.parse_args()
    problems = []
    if args.yolobench:
        import pandas

        columns = list(pandas.read_parquet(args.yolobench).columns)
        devices = [c for c in columns if c.startswith("latency_ms_")]
        problems += [yolobench(args.yolobench, a, d) for a in columns if a.startswith("map50") for d in devices]
    if args.nas_bench_201:
        import pandas

        columns = list(pandas.read_parquet(args.nas_bench_201).columns)
        problems += [
            nas_bench_201(args.nas_bench_201, d, a)
            for a in columns
            if a.endswith("_acc")
            for d in columns
            if d.startswith("latency_ms_")
        ]
    if args.table:
        if not (args.cost and args.gain):
            parser.error("--table needs --cost and --gain, names of columns")
        problems += [
            any_table(
                args.table,
                args.cost,
                args.gain,
                names(args.free),
                names(args.prior_mean),
                args.log,
                names(args.categories),
            )
        ]
    problems = [p for p in problems if args.only is None or args.only in p.name]
    known: dict[str, Any] = json.loads(args.cache.read_text()) if args.cache.exists() else {}
    figure: dict[str, Any] = json.loads((RESULTS / "search_quality.json").read_text())["figure"] if args.keep else {}
    for problem in problems:
        evaluations = min(max(args.evaluations, 200 if problem.beyond_front else 0), len(problem.rows))
        for method in args.method or (*METHODS, *GREEDY):
            keys = {seed: f"{problem.name} | {method} | {evaluations} | {seed}" for seed in range(args.seeds)}
            for seed, key in keys.items():
                if key not in known and not args.so_far:
                    known[key] = run(problem, method, evaluations, seed)
                    args.cache.parent.mkdir(parents=True, exist_ok=True)
                    args.cache.write_text(json.dumps(known))
            if not (runs := [known[key] for key in keys.values() if key in known]):
                continue
            found = summary(runs)
            figure.setdefault(problem.name, {})[method] = found
            text = "  ".join(f"{n}: {v['mean']:.4f}" for n, v in found["shares"].items())
            print(f"{problem.name} | {method}: {text}  ({found['seconds'] * 1e3:.0f} ms a proposal)", flush=True)
    if not args.dry:
        draw_png(figure, RESULTS / "search_quality.png")
        draw_html(figure, args.cache.with_suffix(".html"))
        write("search_quality", figure, (), seeds=range(args.seeds))


if __name__ == "__main__":
    main()
