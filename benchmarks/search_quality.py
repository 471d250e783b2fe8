"""How good is a front after so many evaluations? Our sampler against Optuna's and a greedy predictor loop, on tables
where every answer is known.

``python -m benchmarks.search_quality --yolobench yolobench.parquet --nas-bench-201 nas_bench_201_hw.parquet --seeds
10`` ``python -m benchmarks.search_quality --table mine.csv --cost latency_ms --gain map --free macs,params --log
--dry``

Figure: hypervolume of what was evaluated as a share of the true front's, at several counts of evaluations; mean over
seeds and a 95 % interval of that mean (Student's t). On YOLOBench of log latency, the reference point being the worst
of the table; on NAS-Bench-201 of plain latency, the reference being the worst of the true front and a tenth of its
range further. A point that was asked before costs nothing; one that the table lacks is told to Optuna's samplers as
the worst of the table, and costs nothing either. Ours knows which points exist, as a space does.

Methods: ``guided`` (ours; MACs, params, on YOLOBench NWOT and on NAS-Bench-201 what of a cell's graph is live are
free inputs of its models), ``guided, latency known`` (only accuracy is evaluated), ``guided, latency told`` (that of
128 other points is known before the search, as ``nas search`` does with a predicted latency), ``guided, bare`` (no
free inputs), Optuna's ``random``, ``nsga2`` (population 20), ``tpe`` (multivariate), ``gp``, and ``greedy``: fit
Gaussian processes, evaluate what they predict to be the front, again (as LINAS does; arXiv:2205.10358). ``greedy,
free inputs`` is that with the inputs of ``guided``, which tells what those are worth and what the sampler is.

``--table`` takes any table: two columns to search by, columns that cost nothing, and parameters, which are all others.

Every (problem, method, seed) is kept as it is done: the same command goes on, and ``--so-far`` makes do with what is
there. With ``--keep`` what is not run stays as the last result has it: ``--method guided --keep`` after a change of
our sampler, ``--method gp --only "coco x latency_ms_a40" --evaluations 100
--keep`` for a slow one on one table. Curves with their intervals go to ``results/search_quality.png`` and, as a
plotly page, beside the cache.
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
"""Asks in a row that bring nothing new, after which a random unseen row is evaluated (samplers converge; it is the
next thing a user would do)."""


def guided(problem: Problem, seed: int, latency_known: bool = False, free: bool = True, ahead: int = 0) -> BaseSampler:
    """Ours; ``ahead``: so many rows, drawn by chance, whose latency is told before the search."""
    row = {frozenset(r.items()): i for i, r in enumerate(problem.rows)}

    def at(params: Mapping[str, Any]) -> int:
        return row[frozenset(params.items())]

    def latency(params: Mapping[str, Any]) -> float:
        return float(problem.latency[at(params)])

    prior_mean = None
    if problem.guess and (free or latency_known):
        cost = problem.latency if latency_known else problem.free[problem.guess[0]]
        gain = problem.free[problem.guess[1]]

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
        told = np.random.default_rng([seed, ahead]).permutation(len(problem.rows))[:ahead]
        sampler.warm_start(0, [problem.rows[i] for i in told], problem.latency[told].tolist())
    return sampler


def gp(problem: Problem, seed: int) -> BaseSampler:
    """Optuna's Gaussian-process sampler."""
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
    """Rows in the order in which they were evaluated, and the seconds that each new one took to be proposed."""
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
    """Ten at random; then as long as it takes: models of both objectives, the front that their means predict is
    evaluated, ten at most."""
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
    """Shares of hypervolume at :data:`COUNTS`, and the median seconds of a proposal."""
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
    """Mean over seeds per count with the half-width of its 95 % interval, and the median seconds of a proposal."""
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
    """Of columns, from an option."""
    return tuple(text.split(",")) if text else ()


def main() -> None:
    """All problems, methods and seeds that are not there yet; then the table."""
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
        "--guess", metavar="COST,GAIN", help="two of the free ones, stand-ins for where a search begins"
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
                args.table, args.cost, args.gain, names(args.free), names(args.guess), args.log, names(args.categories)
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
