"""The same networks in all CPU runtimes, interleaved: which runtime for which network?

``python -m benchmarks.runtimes_cpu runs/quickstart --out runs/runtimes-cpu``

Six references at 320 px, and S, M and L of the run at their own size, in fp32 on one thread. Every round measures every
network in every runtime once, in a random order, each beside the reference model of its runtime. ncnn does not decode
boxes, so the time of the decoding in ONNX Runtime is added to its latency. An interrupted bench resumes with the same
command. ``results/runtimes_cpu.json`` and ``.png``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, Goal, write
from latency_db.core.measurement import Measurement
from latency_db.core.target import Target
from latency_db.runtimes import RUNTIMES
from nas.bench.models import resolve_models
from nas.bench.results import BenchModel
from nas.core.paths import new_folder
from nas.profiling.end_to_end_engine import decoding_ms
from nas.profiling.interleaved import ROUND, RoundEntrant, estimates, measure_round, round_order
from nas.profiling.workload import latency_workload
from search_spaces.spaces import space_of

REFERENCES = ("yolov6n", "yolov8n", "yolo11n", "yolo12n", "yolo26n", "yolo-nas-s")
SIZE = 320
CPU_RUNTIMES = ("onnxruntime", "openvino", "ncnn", "mnn", "litert", "torch")
UNDECODED = ("ncnn",)
"""Runtimes whose latency has no box decoding."""
Key = tuple[int, str, str]
"""Round, model, runtime."""


def models_of(runs: Sequence[str], references: Sequence[str]) -> list[BenchModel]:
    """The references at :data:`SIZE` pixels, and the models of the runs at their own size."""
    own = resolve_models(runs) if runs else []
    return [*resolve_models(references, image_size=SIZE), *own]


def measured(
    models: Sequence[BenchModel], runtimes: Sequence[str], rounds: int, seconds: float, journal: Path
) -> dict[Key, Measurement | str]:
    """Measure what the journal lacks, and return everything; a failure is its text."""
    found = (
        {tuple(row["key"]): _read(row) for row in map(json.loads, journal.read_text().splitlines())}
        if journal.exists()
        else {}
    )
    by_name = {model.name: model for model in models}
    with tempfile.TemporaryDirectory() as scratch, journal.open("a") as out:
        entrants = [
            RoundEntrant(f"{name} {runtime}", Target(runtime), partial(_workload, model, Path(scratch)))
            for name, model in by_name.items()
            for runtime in runtimes
        ]
        for number in range(rounds):
            done = partial(_is_due, found, number)
            for outcome in measure_round(
                round_order(entrants, 0, number), replace(ROUND, seed=number, max_s=seconds), done
            ):
                name, _, runtime = outcome.entrant.name.rpartition(" ")
                m = outcome.measurement
                found[number, name, runtime] = m if m is not None else str(outcome.error)
                row = {
                    "key": [number, name, runtime],
                    "measured": m.to_dict() if m else None,
                    "failure": str(outcome.error or ""),
                }
                out.write(json.dumps(row) + "\n")
                out.flush()
                print(
                    number + 1,
                    outcome.entrant.name,
                    f"{m.median_ms:.2f} ms, {m.verdict}" if m else outcome.error,
                    flush=True,
                )
    return found


def _read(row: Mapping[str, Any]) -> Measurement | str:
    return Measurement.from_dict(row["measured"]) if row["measured"] else str(row["failure"])


def _is_due(found: Mapping[Key, object], number: int, entrant: RoundEntrant) -> bool:
    name, _, runtime = entrant.name.rpartition(" ")
    return (number, name, runtime) not in found and not any(
        isinstance(found.get((i, name, runtime)), str) for i in range(number)
    )


def _workload(model: BenchModel, scratch: Path) -> Any:
    architecture = model.network.architecture
    sized = Target("onnxruntime", image_size=model.network.image_size)
    return latency_workload(space_of(architecture), architecture, model.network.classes, sized, scratch)


def decodings(models: Sequence[BenchModel]) -> dict[str, float]:
    """The time of the box decoding in ONNX Runtime of each model, ms."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for model in models:
            path = _workload(model, Path(scratch)).path()
            found[model.name] = decoding_ms(Target("onnxruntime"), path, model.network.image_size) or 0.0
    return found


def figure_of(
    found: Mapping[Key, Measurement | str], models: Sequence[BenchModel], decoding: Mapping[str, float]
) -> dict[str, Any]:
    """What is kept: per network and runtime the latency with its interval; the fastest runtime of each network."""
    groups: dict[str, list[Measurement]] = {}
    failures = {}
    for (_, name, runtime), m in found.items():
        if isinstance(m, str):
            failures[f"{name} {runtime}"] = m
        else:
            groups.setdefault(f"{name} {runtime}", []).append(m)
    latencies = estimates(groups)
    rows: dict[str, Any] = {}
    for model in models:
        row: dict[str, Any] = {
            "size": str(model.network.image_size),
            "gmacs": model.macs / 1e9,
            "decoding_ms": decoding[model.name],
        }
        for key, e in latencies.items():
            name, _, runtime = key.rpartition(" ")
            if name == model.name and e.low is not None and e.high is not None:
                extra = decoding[name] if runtime in UNDECODED else 0.0
                row[runtime] = {"ms": e.value + extra, "low": e.low + extra, "high": e.high + extra}
                row[runtime]["verdicts"] = sorted({m.verdict for m in groups[key]})
        rows[model.name] = row
    fastest = {
        name: min((r for r in CPU_RUNTIMES if r in row), key=lambda r: row[r]["ms"]) for name, row in rows.items()
    }
    gains = {
        name: rows[name]["onnxruntime"]["ms"] / rows[name][best]["ms"]
        for name, best in fastest.items()
        if "onnxruntime" in rows[name]
    }
    versions = {m.target.runtime: m.environment["runtime_version"] for ms in groups.values() for m in ms}
    return {
        "models": rows, "fastest": fastest, "speed_up_over_onnxruntime": gains, "failures": failures,
        "versions": versions, "rounds": 1 + max(number for number, *_ in found),
    }  # fmt: skip


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """Nothing failed."""
    return [Goal("networks and CPU runtimes that failed, of all pairs", len(figure["failures"]), "<= 0")]


def draw(figure: Mapping[str, Any], path: Path) -> Path:
    """Draw the latencies: one row per network, one mark per runtime, logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = figure["models"]
    chart, axes = plt.subplots(figsize=(8, 1.4 + 0.45 * len(rows)), layout="constrained")
    for k, runtime in enumerate(CPU_RUNTIMES):
        places = [(i, row[runtime]) for i, row in enumerate(rows.values()) if runtime in row]
        if places:
            values = [entry["ms"] for _, entry in places]
            reach = [[e["ms"] - e["low"] for _, e in places], [e["high"] - e["ms"] for _, e in places]]
            heights = [i + (k - len(CPU_RUNTIMES) / 2) * 0.09 for i, _ in places]
            axes.errorbar(values, heights, xerr=reach, fmt="o^sDvP"[k], markersize=5, capsize=2, label=runtime)
    axes.set_yticks(range(len(rows)), [f"{name} @{row['size']}" for name, row in rows.items()])
    axes.set_xscale("log")
    axes.set_xlabel("Latency, ms (fp32, one thread, box decoding included, 95 % intervals)")
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    chart.legend(loc="outside upper center", ncols=len(CPU_RUNTIMES), frameon=False)
    chart.savefig(path, dpi=120)
    plt.close(chart)
    return path


def main() -> None:
    """Measure, compare, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", help="folders of searches, or weights: their S, M and L take part")
    parser.add_argument("--references", nargs="*", default=list(REFERENCES))
    parser.add_argument("--runtimes", nargs="*", default=list(CPU_RUNTIMES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=ROUND.max_s, help="of timing per measurement, at most")
    parser.add_argument("--out", type=Path, required=True, help="folder of the journal; the same command resumes it")
    args = parser.parse_args()
    runtimes = [r for r in args.runtimes if RUNTIMES[r].available() is None]
    models = models_of(args.runs, args.references)
    found = measured(models, runtimes, args.rounds, args.seconds, new_folder(args.out) / "measurements.jsonl")
    figure = figure_of(found, models, decodings(models))
    for name, row in figure["models"].items():
        print(name, {r: round(row[r]["ms"], 2) for r in runtimes if r in row}, "fastest:", figure["fastest"][name])
    draw(figure, RESULTS / "runtimes_cpu.png")
    write("runtimes_cpu", figure, goals_of(figure))


if __name__ == "__main__":
    main()
