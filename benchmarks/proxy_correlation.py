"""Which training-free score of a detector can be trusted, on real accuracies? Rank correlation over YOLOBench,
overall and where it matters.

``python -m benchmarks.proxy_correlation --yolobench yolobench.parquet``

YOLOBench (arXiv:2307.13901; Deeplite/deeplite-torch-zoo, results/yolobench, Apache-2.0): 968 trained detectors, 88
architectures at 11 resolutions, with mAP50-95 on COCO (572 of them) and VOC (from scratch) and latency on three
devices. Costs on paper (parameters, MACs, elements written) are known for all, from their names
(:mod:`benchmarks.yolobench_networks`). Scores that run a network (our NWOT, our SynFlow) are computed for the
architectures that this project's spaces hold, YOLOv5 to v8; ``nwot_table`` is the table's own pre-activation NWOT,
for all. Combinations are fixed in advance: means of ranks.

Kendall's tau with mAP: overall; within 12 bands of equal count by a device's latency (mean over the bands); at one
resolution (mean over resolutions); at one resolution *and* within a quarter of its latencies (mean); among the best
15 % by mAP. Intervals: 95 %, bootstrap over architectures, because the 11 resolutions of one architecture are no 11
independent networks.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata, spearmanr

from benchmarks.record import write
from benchmarks.yolobench_networks import architecture, operations
from nas.estimators import ESTIMATORS
from nas.estimators.base import Context
from search_spaces.spaces import space_of

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
RUN = ("nwot", "synflow")
ALONE = ("params", "macs", "activations", "resolution", "latency", "nwot_table", *RUN)
TOGETHER: Mapping[str, tuple[str, ...]] = {
    "macs + nwot": ("macs", "nwot_table"),
    "latency + nwot": ("latency", "nwot_table"),
    "macs + latency + nwot": ("macs", "latency", "nwot_table"),
    "activations + nwot": ("activations", "nwot_table"),
}
"""Combinations: the mean of the ranks of these."""
BANDS, QUARTERS, BEST = 12, 4, 0.15
FEWEST = 4
DRAWS = 100
NWOT_AT, NWOT_BATCH = 160, 8


def scored(names: list[str], cache: Path) -> dict[str, dict[str, float]]:
    """Our scores of every architecture that a space holds, at :data:`NWOT_AT` px; kept one by one, so that a stopped
    run resumes."""
    known: dict[str, dict[str, float]] = json.loads(cache.read_text()) if cache.exists() else {}
    for i, name in enumerate(names, 1):
        if name in known or (point := architecture(name)) is None:
            continue
        point = point.replace(image_size=NWOT_AT)
        context = Context(space_of(point), 80)
        known[name] = {score: ESTIMATORS[score](context)(point).value for score in RUN}
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(json.dumps(known))
        print(f"{i}/{len(names)} {name}: " + ", ".join(f"{k} {v:.2f}" for k, v in known[name].items()), flush=True)
    return known


def columns(names: Array, sizes: Array, scores: Mapping[str, Mapping[str, float]], nwot: Array) -> dict[str, Array]:
    """Return score -> its values, [rows]; NaN where it was not computed. Latency, which is a device's, is added
    later."""
    ops = [operations(str(name), int(size)) for name, size in zip(names, sizes, strict=True)]
    values = {
        "params": np.array([sum(op.params for op in row) for row in ops], np.float64),
        "macs": np.array([sum(op.macs for op in row) for row in ops], np.float64),
        "activations": np.array([sum(math.prod(op.output) for op in row) for row in ops], np.float64),
        "resolution": sizes.astype(np.float64),
        "nwot_table": nwot,
    }
    for score in RUN:
        values[score] = np.array([scores.get(str(name), {}).get(score, math.nan) for name in names])
    # The estimator's own extension beyond 160 px (nas.estimators.nwot), which is exact: the score at 160 px is the
    # same run.
    values["nwot"] = values["nwot"] + 2 * NWOT_BATCH * np.log(sizes / NWOT_AT)
    return values


def tau(score: Array, accuracy: Array) -> float:
    """Compute Kendall's tau-b of two arrays [n]; NaN where either does not vary."""
    if len(score) < FEWEST or len(set(score)) < 2 or len(set(accuracy)) < 2:
        return math.nan
    return float(kendalltau(score, accuracy).statistic)


Grouping = Callable[[Array, Array, Array], list[Rows]]


def bands(latency: Array, sizes: Array, accuracy: Array) -> list[Rows]:
    """Return the rows of each band of equal count by latency; arguments are [rows]."""
    return [np.asarray(part) for part in np.array_split(np.argsort(latency, kind="stable"), BANDS)]


def at_resolution(latency: Array, sizes: Array, accuracy: Array) -> list[Rows]:
    """Return the rows of each resolution; arguments are [rows]."""
    return [np.flatnonzero(sizes == size) for size in np.unique(sizes)]


def at_resolution_and_quarter(latency: Array, sizes: Array, accuracy: Array) -> list[Rows]:
    """Return the rows of each resolution in each quarter of its latencies; arguments are [rows]."""
    return [
        part[q]
        for part in at_resolution(latency, sizes, accuracy)
        for q in np.array_split(np.argsort(latency[part], kind="stable"), QUARTERS)
    ]


def best(latency: Array, sizes: Array, accuracy: Array) -> list[Rows]:
    """Return the most accurate rows; arguments are [rows]."""
    return [np.argsort(-accuracy, kind="stable")[: max(FEWEST, round(BEST * len(accuracy)))]]


def everything(latency: Array, sizes: Array, accuracy: Array) -> list[Rows]:
    """Return all rows; arguments are [rows]."""
    return [np.arange(len(accuracy))]


GROUPINGS: Mapping[str, Grouping] = {
    "overall": everything,
    "within latency bands": bands,
    "one resolution": at_resolution,
    "one resolution and latency quarter": at_resolution_and_quarter,
    "best 15 %": best,
}


def correlations(
    values: Mapping[str, Array], latency: Array, sizes: Array, accuracy: Array
) -> dict[str, dict[str, float]]:
    """Return grouping -> score -> mean tau over its groups; all arrays are [rows]."""
    ranked = {name: np.mean([rankdata(values[part]) for part in parts], axis=0) for name, parts in TOGETHER.items()}
    every = {**values, **ranked}
    found: dict[str, dict[str, float]] = {}
    for grouping, groups in GROUPINGS.items():
        rows = groups(latency, sizes, accuracy)
        found[grouping] = {}
        for name, score in every.items():
            with np.errstate(invalid="ignore"):
                taus = [tau(score[r], accuracy[r]) for r in rows]
            known = [t for t in taus if not math.isnan(t)]
            if known:
                found[grouping][name] = float(np.mean(known))
    return found


def with_interval(
    values: dict[str, Array], latency: Array, sizes: Array, accuracy: Array, groups: Array, draws: int
) -> dict[str, Any]:
    """Return grouping -> score -> tau, and with ``draws`` its 95 % bootstrap interval over architectures.

    All arrays are [rows].
    """
    point = correlations(values, latency, sizes, accuracy)
    rng = np.random.default_rng(0)
    names = np.unique(groups)
    rows_of = {name: np.flatnonzero(groups == name) for name in names}
    drawn = []
    for _ in range(draws):
        rows = np.concatenate([rows_of[name] for name in rng.choice(names, len(names))])
        drawn.append(correlations({k: v[rows] for k, v in values.items()}, latency[rows], sizes[rows], accuracy[rows]))
    out: dict[str, Any] = {}
    for grouping, scores in point.items():
        out[grouping] = {}
        for name, value in scores.items():
            many = [d[grouping][name] for d in drawn if name in d[grouping]]
            low, high = (round(float(q), 4) for q in np.quantile(many, (0.025, 0.975))) if many else (None, None)
            out[grouping][name] = {"tau": round(value, 4), "low": low, "high": high}
    return out


def main() -> None:
    """Score, correlate, write."""
    import pandas

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yolobench", type=Path, required=True, help="the table as parquet")
    parser.add_argument(
        "--scores",
        type=Path,
        default=Path("runs/proxy_scores.json"),
        help="where our scores are kept while and after they are computed",
    )
    args = parser.parse_args()
    table = pandas.read_parquet(args.yolobench)
    scores = scored(sorted(set(table.arch)), args.scores)
    values = columns(table.arch.to_numpy(), table.resolution.to_numpy(), scores, table.nwot_preact.to_numpy(np.float64))
    latencies = [c for c in table.columns if c.startswith("latency_ms_")]
    figure: dict[str, Any] = {"table": {}, "held": {}}
    ours = np.isfinite(values["nwot"])
    figure["nwot_against_the_table"] = {
        "architectures": len(scores),
        "tau": float(kendalltau(values["nwot"][ours], values["nwot_table"][ours]).statistic),
        "rho": float(spearmanr(values["nwot"][ours], values["nwot_table"][ours]).statistic),
    }
    for what in (c for c in table.columns if c.startswith("map")):
        for on in latencies:
            for kept, rows in (
                ("table", table[what].notna() & table[on].notna()),
                ("held", table[what].notna() & table[on].notna() & ours),
            ):
                r = rows.to_numpy(bool)
                used = {k: v[r] for k, v in values.items() if kept == "held" or k not in RUN}
                used["latency"] = table[on].to_numpy(np.float64)[r]
                accuracy, groups = table[what].to_numpy(np.float64)[r], table.arch.to_numpy()[r]
                found = with_interval(
                    used, used["latency"], used["resolution"], accuracy, groups, DRAWS if kept == "table" else 0
                )
                figure[kept][f"{what} x {on}"] = {"networks": int(r.sum()), "tau": found}
        print(f"{what}: done", flush=True)
    write("proxy_correlation", figure, ())


if __name__ == "__main__":
    main()
