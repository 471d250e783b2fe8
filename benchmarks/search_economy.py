"""What a search saves by stopping candidates early, and where ``--stop auto`` would have ended it.

``python -m benchmarks.search_economy --yolobench TABLE --out runs/end-to-end --seeds 5``

End: on tables where every answer is known, after how many candidates the rule ends a search by the guided sampler,
and what share of the true front's hypervolume it has by then, beside what it has after all. Early: the quickstart's
search (its supernet is trained into ``--out``, or taken from there as ``benchmarks.search_end_to_end`` left it) with
and without stopping, the same seeds; every architecture is evaluated once, all its steps are timed, and both searches
get the same answers. Latency is the predictor's of the project's table, which costs nothing, so the time saved is
that of evaluating accuracy.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import optuna

from benchmarks.record import write
from benchmarks.search_end_to_end import TABLE, TableLatency, quickstart_context
from benchmarks.search_quality import guided
from benchmarks.search_tables import Problem, yolobench
from nas.core.atomic import atomic_write
from nas.core.console_reporter import ConsoleReporter
from nas.core.estimate import Candidate, Estimate, Objective
from nas.core.pareto import Archive, hypervolume
from nas.core.paths import new_folder
from nas.estimators import ESTIMATORS
from nas.estimators.base import Estimator
from nas.search.study import Study
from nas.search.terminator import GAIN, SearchProgress, StopRule
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

OBJECTIVES = (Objective("latency_ms", "min", "ms"), Objective("accuracy", "max"))


def ended(problem: Problem, seed: int, evaluations: int) -> dict[str, Any]:
    """Where ``auto`` ends one search, and the shares of hypervolume there and after all evaluations."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=guided(problem, seed))
    archive, progress, rule = Archive(OBJECTIVES, log=("latency_ms",)), SearchProgress(), StopRule()
    rows: dict[int, None] = {}
    end = None
    while len(rows) < evaluations:
        trial = study.ask(dict(problem.space))
        row = problem.row(trial.params)
        assert row is not None
        study.tell(trial, problem.answer(row))
        if row in rows:
            continue
        rows[row] = None
        latency, accuracy = problem.answer(row)
        estimates = (Estimate("latency_ms", latency, "ms"), Estimate("accuracy", accuracy))
        archive.add(Candidate(Architecture("table", 1, (("row", row),)), estimates))
        progress.volumes.append(archive.hypervolume)
        progress.expected.append(study.get_trials(deepcopy=False)[trial.number].system_attrs.get(GAIN))
        progress.times.append(None)
        if end is None and rule(progress):
            end = len(rows)
    found = list(rows)
    return {
        "end": end,
        "share_at_end": None if end is None else problem.share(found[:end]),
        "share_after_all": problem.share(found),
    }


class Remembered(Estimator):
    """Another estimator, every architecture asked once and to the end; its steps, with their seconds, stay in a
    file."""

    def __init__(self, estimator: Estimator, path: Path) -> None:
        super().__init__(estimator.context)
        self.name = estimator.name  # type: ignore[misc]
        self.unit = estimator.unit  # type: ignore[misc]
        self.direction = estimator.direction  # type: ignore[misc]
        self.rank = estimator.rank  # type: ignore[misc]
        self._estimator, self._path = estimator, path
        self.known: dict[str, list[tuple[str, float, float]]] = json.loads(path.read_text()) if path.exists() else {}

    def __call__(self, architecture: Architecture) -> Estimate:
        *_, last = self.rungs(architecture)
        return last

    def rungs(self, architecture: Architecture) -> Iterator[Estimate]:
        """As they were."""
        if architecture.id not in self.known:
            start, steps = time.monotonic(), []
            for estimate in self._estimator.rungs(architecture):
                steps.append((estimate.name, estimate.value, time.monotonic() - start))
                start = time.monotonic()
            self.known[architecture.id] = steps
            atomic_write(self._path, json.dumps(self.known))
        for name, value, _ in self.known[architecture.id]:
            yield Estimate(name, value, source="table")


def searched(
    space: SearchSpace, cost: Estimator, gain: Remembered, sampler: str, seed: int, trials: int, early_stop: bool
) -> dict[str, Any]:
    """Points of the candidates that went all the way, and what was stopped: the seconds of accuracy that were spent,
    and those that the steps left out take on average."""
    with tempfile.TemporaryDirectory() as folder:
        objectives = [Objective(e.name, e.direction, e.unit) for e in (cost, gain)]
        study = Study(Path(folder) / "study.journal", "run", space, objectives, sampler, seed)
        study.run([cost, gain], trials, early_stop=early_stop)
        stopped, savings = dict(study.history.stopped), study.history.savings
        steps = {id_: len(record.early) for id_, record in study.history.records.items()}
        points = [(float(np.log(c[cost.name].value)), c[gain.name].value) for c in study.candidates]
    seconds = {id_: [s for _, _, s in gain.known[id_]] for id_ in steps if id_ in gain.known}
    usual = [mean(column) for column in zip(*(seconds[id_] for id_ in steps if id_ not in stopped), strict=True)]
    spent = sum(sum(s if id_ not in stopped else s[: steps[id_]]) for id_, s in seconds.items())
    saved = sum(sum(usual[steps[id_] :]) for id_ in stopped)
    counts = {"stopped": len(stopped), "audited": savings.audited, "audited_on_front": savings.on_front}
    return {"points": points, "spent_s": spent, "saved_s": saved, **counts, "rho": dict(savings.correlations)}


def compared(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], trials: int) -> dict[str, Any]:
    """Hypervolume with early stopping as a share of that without, at equal candidates, and the share of the time for
    accuracy that it saved; per seed."""
    everything = [p for pair in pairs for run in pair for p in run["points"]]
    reference = (max(p[0] for p in everything), min(p[1] for p in everything))
    volumes = [tuple(hypervolume(run["points"], reference, ("min", "max")) for run in pair) for pair in pairs]
    return {
        "trials": trials,
        "hypervolume_ratio": [early / whole for whole, early in volumes],
        "saved_share": [early["saved_s"] / (early["saved_s"] + early["spent_s"]) for _, early in pairs],
        **{name: [early[name] for _, early in pairs] for name in ("stopped", "audited", "audited_on_front", "rho")},
    }


def main() -> None:
    """Both parts, as far as they are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yolobench", type=Path, help="the table as parquet")
    parser.add_argument("--out", type=Path, help="folder of the quickstart's supernet and of what was evaluated")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=80)
    parser.add_argument("--sampler", action="append", help="repeatable; by default guided and nsga2")
    parser.add_argument("--evaluations", type=int, default=200, help="of a table")
    parser.add_argument("--eval-images", type=int, default=500)
    parser.add_argument("--table", type=Path, default=TABLE)
    args = parser.parse_args()
    reporter = ConsoleReporter()
    if args.yolobench:
        import pandas

        columns = [str(c) for c in pandas.read_parquet(args.yolobench).columns]
        ends = dict[str, Any]()
        pairs_of_columns = [
            (a, d) for a in columns if a.startswith("map50") for d in columns if d.startswith("latency_ms_")
        ]
        for accuracy, device in pairs_of_columns:
            problem = yolobench(args.yolobench, accuracy, device)
            runs = [ended(problem, seed, min(args.evaluations, len(problem.rows))) for seed in range(args.seeds)]
            ends[problem.name] = runs
            reporter.note(
                f"{problem.name}: {[(r['end'], round(r['share_at_end'] or 0, 4), round(r['share_after_all'], 4)) for r in runs]}"
            )
        write("search_stop", ends, (), seeds=range(args.seeds))
    if args.out:
        context = quickstart_context(new_folder(args.out), reporter, args.eval_images)
        cost = TableLatency(context, args.table)
        gain = Remembered(ESTIMATORS["supernet"](context), args.out / f"rungs-{args.eval_images}.json")
        figure: dict[str, Any] = {}
        for sampler in args.sampler or ("guided", "nsga2"):
            pairs = []
            for seed in range(args.seeds):
                whole, early = (
                    searched(context.space, cost, gain, sampler, seed, args.trials, stop) for stop in (False, True)
                )
                pairs.append((whole, early))
                reporter.note(f"{sampler}, seed {seed}: {early['stopped']} of {args.trials} stopped")
            figure[sampler] = compared(pairs, args.trials)
            reporter.note(
                str({name: round(mean(figure[sampler][name]), 4) for name in ("hypervolume_ratio", "saved_share")})
            )
        write("search_early", figure, (), seeds=range(args.seeds))


if __name__ == "__main__":
    main()
