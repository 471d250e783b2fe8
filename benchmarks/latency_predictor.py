"""How far is predicted latency from measured latency, on architectures that nobody measured?

``python -m benchmarks.latency_predictor --table yolobench.parquet --database latencies.sqlite --target
onnxruntime:fp32 --target openvino:fp32``

``--table``: YOLOBench (arXiv:2307.13901; Deeplite/deeplite-torch-zoo, results/yolobench, Apache-2.0), 88
architectures at 11 resolutions, every column ``latency_ms_…`` a device. Per seed a quarter of the architectures is
held out at all resolutions; 100 networks of the others count as measured, drawn at random or chosen (20 spread over
the features, then 20 at a time the most informative). What is known of a network is its operations, which follow from
its name (:mod:`benchmarks.yolobench_networks`), and its family. ``new device``: as before with 10 and 20 networks,
while the other columns are known for all networks (transfer).

``--database``: measurements of a search space's networks (:mod:`benchmarks.collect_latencies`); per seed 100 at
random (two thirds, if there are fewer than 150) predict the others, split by architecture. Beside it, what measuring
again would give: how often the median of one fresh process is within 10 % of that of the other processes that
measured the same network. No predictor can be judged finer than that.

One configuration for all devices. A network that the predictor refuses counts as missed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.record import Goal, write
from benchmarks.yolobench_networks import family, operations
from latency_db.core.measurement import LatencyKey
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.database.filters import MeasurementFilter
from latency_db.predictor.database import rows_of
from latency_db.predictor.features import features
from latency_db.predictor.model import Predictor, Report, Row, spread
from search_spaces.errors import InputError

HELD_OUT = 0.25
MEASURED, FEW = 100, (10, 20)
FIRST, BATCH = 20, 20


def random_rows(pool: Sequence[Row], count: int, rng: np.random.Generator) -> list[Row]:
    """Some rows, drawn without replacement."""
    return [pool[i] for i in rng.choice(len(pool), count, replace=False)]


def chosen_rows(pool: Sequence[Row], count: int, transfer: Sequence[Predictor] = ()) -> list[Row]:
    """The rows that ``nas onboard`` would measure: spread at first, then the most informative. Latencies of rows not
    chosen are not looked at."""
    left = list(pool)
    taken: list[Row] = []
    while len(taken) < count:
        described = [row.features for row in left]
        want = min(BATCH if taken else FIRST, count - len(taken))
        found = Predictor.fit(taken, transfer).next_informative(described, want) if taken else spread(described, want)
        taken += [left[i] for i in found]
        left = [row for i, row in enumerate(left) if i not in set(found)]
    return taken


def evaluated(predictor: Predictor, test: Sequence[Row]) -> dict[str, float]:
    """Figures over the test rows; those outside the predictor's domain are misses, and are left out of ``mape``,
    ``tau`` and ``coverage``."""
    answered = [row for row in test if predictor.outside(row.features) is None]
    predictions = predictor.predict_all([row.features for row in answered])
    measured = np.array([row.ms for row in answered])
    predicted = np.array([p.ms for p in predictions])
    inside = np.array([p.low_ms <= row.ms <= p.high_ms for p, row in zip(predictions, answered, strict=True)])
    report = Report.of(predicted, measured, inside, len({row.group for row in answered}))
    share = len(answered) / len(test)
    return {
        "mape": report.mape,
        "within_5": report.within_5 * share,
        "within_10": report.within_10 * share,
        "tau": report.tau,
        "spearman": float(spearmanr(predicted, measured).statistic),
        "coverage": report.coverage,
        "half_width": float(np.median([(p.high_ms - p.low_ms) / 2 / p.ms for p in predictions])),
        "refused": 1 - share,
    }


def summary(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean over the seeds, and the worst seed's share within 10 %."""
    return {
        **{name: float(np.mean([run[name] for run in runs])) for name in runs[0]},
        "within_10_worst_seed": min(run["within_10"] for run in runs),
    }


def split(rows: Sequence[Row], rng: np.random.Generator, held_out: float) -> tuple[list[Row], list[Row]]:
    """(others, held out): whole groups."""
    groups = sorted({row.group for row in rows})
    test = set(rng.permutation(groups)[: max(1, round(held_out * len(groups)))])
    return [row for row in rows if row.group not in test], [row for row in rows if row.group in test]


def table_rows(path: Path) -> dict[str, list[Row]]:
    """Device -> rows, of every column of latencies."""
    import pandas

    table = pandas.read_parquet(path)
    described = [
        features(operations(a, int(r)), int(r), family=family(a))
        for a, r in zip(table.arch, table.resolution, strict=True)
    ]
    found = {}
    for column in (c for c in table.columns if c.startswith("latency_ms_")):
        values = zip(described, table[column].astype(float), table.arch, strict=True)
        found[column.removeprefix("latency_ms_")] = [Row(f, ms, str(arch)) for f, ms, arch in values if ms > 0]
    return found


def on_table(devices: dict[str, list[Row]], seeds: Sequence[int]) -> dict[str, Any]:
    """Per device, how the networks were picked and how many: figures."""
    known = {device: Predictor.fit(rows) for device, rows in devices.items()}
    figure: dict[str, Any] = {}
    for device, rows in devices.items():
        others = [predictor for name, predictor in known.items() if name != device]
        cases: dict[str, list[dict[str, float]]] = {}
        for seed in seeds:
            pool, test = split(rows, np.random.default_rng(seed), HELD_OUT)
            for count, transfer in ((MEASURED, []), *((n, others) for n in FEW)):
                name = f"{count} {'measured' if count == MEASURED else 'of a new device'}"
                drawn = random_rows(pool, count, np.random.default_rng(seed))
                for how, taken in (("random", drawn), ("chosen", chosen_rows(pool, count, transfer))):
                    cases.setdefault(f"{name}, {how}", []).append(evaluated(Predictor.fit(taken, transfer), test))
        figure[device] = {name: summary(runs) for name, runs in cases.items()}
        _show(device, figure[device])
    return figure


def on_database(path: str, texts: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Per target: figures of random splits of its largest series of measurements."""
    figure: dict[str, Any] = {}
    with LatencyDB(path) as database:
        for text in texts:
            rows, origin = _series(database, Target.parse(text))
            train = min(MEASURED, 2 * len(rows) // 3)
            runs = []
            for seed in seeds:
                pool, test = split(rows, np.random.default_rng(seed), 1 - train / len(rows))
                runs.append(
                    evaluated(
                        Predictor.fit(random_rows(pool, min(train, len(pool)), np.random.default_rng(seed))), test
                    )
                )
            whole = Predictor.fit(rows)
            figure[text] = {
                f"{train} measured, random": summary(runs),
                "networks": len(rows),
                "series": origin,
                "all": whole.report().to_dict(),
                "same_network_in_another_process": again(database, Target.parse(text)),
            }
            print(f"{text}: {figure[text]['same_network_in_another_process']}")
            _show(text, {f"{train} measured, random": figure[text][f"{train} measured, random"]})
    return figure


def again(database: LatencyDB, target: Target) -> dict[str, float]:
    """How well a measurement predicts a measurement: one process's median against the median of the others', over all
    networks with at least three."""
    missed = []
    for m in (m for _, m in database.rows(MeasurementFilter(target=f"{target.runtime}:{target.precision}"))):
        medians = m.environment.get("processes_ms", [])
        for i, one in enumerate(medians if len(medians) > 2 else []):
            missed.append(abs(one / float(np.median([*medians[:i], *medians[i + 1 :]])) - 1))
    return {"pairs": len(missed), "within_10": float(np.mean(np.array(missed) <= 0.1)) if missed else math.nan}


def _series(database: LatencyDB, target: Target) -> tuple[list[Row], str]:
    """The rows of the version and device that most was measured with, and which these are."""
    series = {
        (g.version, g.device): g
        for g in database.groups(MeasurementFilter(target=f"{target.runtime}:{target.precision}"))
    }
    found = {
        origin: rows_of(database, LatencyKey("", str(replace(target, image_size=None)), *origin)) for origin in series
    }
    origin, rows = max(found.items(), key=lambda item: len(item[1]), default=(("", ""), []))
    if not rows:
        raise InputError(
            f"no networks measured on {target}",
            "measurements that say their network",
            "python -m benchmarks.collect_latencies",
        )
    return rows, f"{origin[0]} on {series[origin].device_name or origin[1]}"


def _show(device: str, cases: dict[str, dict[str, float]]) -> None:
    for name, f in cases.items():
        print(
            f"{device}, {name}: MAPE {f['mape']:.1%}, within ±10 % {f['within_10']:.1%} (worst seed {f['within_10_worst_seed']:.1%}), ±5 % "
            f"{f['within_5']:.1%}, tau {f['tau']:.3f}, rho {f['spearman']:.3f}, intervals ± {f['half_width']:.1%} hold {f['coverage']:.1%}, "
            f"refused {f['refused']:.1%}",
            flush=True,
        )


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """95 % of the networks within 10 %, tau 0.95, from 100 networks or more."""
    goals = []
    for device, cases in figure.get("yolobench", figure).items():
        for case, row in cases.items():
            if case.endswith("measured, random") and int(case.split()[0]) >= 100:
                goals += [
                    Goal(
                        f"{device}: unseen networks predicted within ±10 % from {case}",
                        row["within_10"],
                        ">= 0.95",
                        "share",
                    ),
                    Goal(
                        f"{device}: Kendall's tau of predicted and measured latency from {case}", row["tau"], ">= 0.95"
                    ),
                ]
    return goals


def main() -> None:
    """Evaluate and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, help="YOLOBench as parquet")
    parser.add_argument("--database", help="latency database, file or URL")
    parser.add_argument("--target", action="append", default=[], help="of the database, repeatable")
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    if not args.table and not (args.database and args.target):
        parser.error("give --table, or --database with --target")
    seeds = range(args.seeds)
    if args.table:
        figure: dict[str, Any] = {"yolobench": on_table(table_rows(args.table), seeds)}
        write("latency_predictor", figure, goals_of(figure), seeds)
    if args.database:
        figure = on_database(args.database, args.target, seeds)
        write("latency_predictor_measured", figure, goals_of(figure), seeds)


if __name__ == "__main__":
    main()
