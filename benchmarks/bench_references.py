"""The references on this machine, interleaved, and whether their order is the one their authors measured.

``python -m benchmarks.bench_references all --target onnxruntime:fp32@640 --out runs/bench-ort``
``python -m benchmarks.bench_references 'yolo*[ns]' --target openvino:fp32@640 --int8 --data digits --out
runs/bench-ov``

``nas bench`` does the measuring (:mod:`nas.bench.run`): every round measures all models once, in an order of its own,
each beside an anchor. Of families whose authors give latencies of ONNX Runtime on a CPU, Spearman's rank correlation
with ours is computed, over each family and over all of them together. With ``--int8`` every model is measured in the
runtime's own int8 form as well. ``--so-far`` writes what a bench has that was interrupted, here or on another
machine, which is the one that is named then. Table and image go to ``results/`` beside the figure.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

from benchmarks.record import RESULTS, Goal, write
from latency_db.core.target import Target
from nas.bench.models import resolve_models
from nas.bench.report import bench_data, write_bench
from nas.bench.results import BenchResult
from nas.bench.run import BenchRequest, partial_result, run_bench
from nas.core.console_reporter import ConsoleReporter
from nas.core.paths import new_folder
from nas.data.source import open_data
from nas.profiling.interleaved import ROUND
from search_spaces.references import references

FEWEST = 3


def order(done: BenchResult) -> dict[str, Any]:
    """Family (and ``all``) -> Spearman's rho of our latencies with the published ones of ONNX Runtime on a CPU, and
    over how many networks. On a GPU: none."""
    if done.machine["device"].get("accelerator"):
        return {}
    known = references()
    rows: dict[str, list[tuple[float, float]]] = {}
    for name, entry in done.main.items():
        published = known[name].published if name in known else None
        if published and published.cpu_onnxruntime_ms and entry.latency:
            for group in (entry.model.family, "all"):
                rows.setdefault(group, []).append((entry.latency.value, published.cpu_onnxruntime_ms))
    return {
        group: {"networks": len(pairs), "rho": float(spearmanr(*zip(*pairs, strict=True)).statistic)}
        for group, pairs in rows.items()
        if len(pairs) >= FEWEST
    }


def figure_of(done: BenchResult, texts: Sequence[str]) -> dict[str, Any]:
    """What is kept: per model and target latency with its interval, the verdict, cost and published mAP."""
    ratios = done.speed_ups()
    rows: dict[str, Any] = {}
    for name, entry in done.main.items():
        rows[name] = {"family": entry.model.family, "params": entry.model.params, "gmacs": entry.model.macs / 1e9}
        rows[name]["map"] = entry.model.accuracy and {
            "percent": entry.model.accuracy.percent,
            "source": entry.model.accuracy.source,
        }
        for text in done.settings.targets:
            e = done.of(text)[name]
            found = e.latency and {
                "ms": e.latency.value,
                "low": e.latency.low,
                "high": e.latency.high,
                "verdict": e.verdict,
            }
            rows[name][text] = found or {"failed": e.failure}
        if name in ratios:
            r = ratios[name]
            rows[name]["int8_speed_up"] = {"value": r.value, "low": r.low, "high": r.high}
    return {
        "targets": list(done.settings.targets),
        "asked": list(texts),
        "rounds": done.settings.rounds,
        "models": rows,
        "order_against_published_cpu_latencies": order(done),
        "int8_speed_up_by_family": done.family_speed_ups(),
    }


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """The order is that of the published latencies, where there are any of ONNX Runtime on a CPU."""
    return [
        Goal(
            f"Spearman correlation with the published CPU latencies, {family if family != 'all' else 'all families'}",
            row["rho"],
            ">= 0.98",
        )
        for family, row in figure["order_against_published_cpu_latencies"].items()
    ]


def main() -> None:
    """Measure, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="as nas bench takes them")
    parser.add_argument("--target", default="onnxruntime:fp32@640")
    parser.add_argument("--int8", action="store_true", help="each model in int8 too")
    parser.add_argument("--data", default="digits", help="images to calibrate int8 with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds",
        type=float,
        default=ROUND.max_s,
        help="of timing, at most, for a model in a round (default %(default)s)",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the bench; the same command resumes it")
    parser.add_argument(
        "--so-far",
        action="store_true",
        help="measure nothing: write what the folder holds of a bench that was interrupted",
    )
    args = parser.parse_args()
    target = Target.parse(args.target)
    targets = [target, replace(target, precision="int8")] if args.int8 else [target]
    models = resolve_models(args.models, image_size=target.image_size)
    if args.so_far:
        done = partial_result(models, args.out)
    else:
        data = open_data(args.data) if args.int8 else None
        request = BenchRequest(models, targets, new_folder(args.out), args.rounds, data=data)
        done = run_bench(request, ConsoleReporter(), protocol=replace(ROUND, max_s=args.seconds))
    write_bench(args.out, done, bench_data(done))
    name = f"bench_{target.runtime}-{target.precision}"
    for kind in ("png", "md", "csv"):
        (RESULTS / f"{name}.{kind}").write_bytes((args.out / f"bench.{kind}").read_bytes())
    figure = figure_of(done, args.models)
    for group, row in figure["order_against_published_cpu_latencies"].items():
        print(
            f"{group}: rho {row['rho']:.3f} over {row['networks']} networks with the published latencies of ONNX Runtime on a CPU"
        )
    for family, ratio in figure["int8_speed_up_by_family"].items():
        print(f"{family}: int8 {ratio:.2f} times as fast")
    write(name, figure, goals_of(figure), machine=done.machine)


if __name__ == "__main__":
    main()
