"""From a decoded image to detections: ten references with suppression, and YOLO26, which needs none.

``python -m benchmarks.end_to_end_latency --out runs/end-to-end --data digits@320``

``nas bench --end-to-end`` does the measuring: interleaved rounds in which every model runs letterboxing, network with
decoding, and suppression of the boxes that a trained detector has on the images (:mod:`nas.profiling.scene`). The
figure is the largest difference between the sum of the steps and the whole; beside it, the ranking by the network alone
and by the whole. ``results/end_to_end_latency.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.record import Goal, write
from latency_db.core.target import Target
from nas.bench.models import resolve_models
from nas.bench.run import BenchRequest, run_bench
from nas.bench.steps import steps_of
from nas.core.console_reporter import ConsoleReporter
from nas.core.paths import new_folder
from nas.data.source import open_data
from nas.profiling.interleaved import ROUND
from nas.profiling.scene import Scene

MODELS = (
    "yolov5n", "yolov6n", "yolov8n", "yolov8s", "yolo-nas-s", "yolo11n", "yolo11s", "yolo12n", "yolo26n", "yolo26s",
)  # fmt: skip
SUM = ("preprocessing", "network", "suppression")


def figure_of(steps: Mapping[str, Mapping[str, float]], target: str, objects: float) -> dict[str, Any]:
    """What is kept: the steps of each model in ms, how far their sum is from the whole, and both rankings."""
    models = {
        name: {**row, "sum": sum(row[part] for part in SUM), "rest": row["total"] / sum(row[part] for part in SUM) - 1}
        for name, row in steps.items()
    }
    return {
        "target": target,
        "objects_per_image": objects,
        "models": models,
        "largest_difference": max(abs(row["rest"]) for row in models.values()),
        "by_network": sorted(models, key=lambda name: models[name]["network"]),
        "by_total": sorted(models, key=lambda name: models[name]["total"]),
    }


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """The parts sum to the whole."""
    what = f"largest difference between the steps' sum and the end-to-end latency, {len(figure['models'])} models"
    return [Goal(what, figure["largest_difference"], "<= 0.05", "share")]


def main() -> None:
    """Measure, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(MODELS), help="as nas bench takes them")
    parser.add_argument("--target", default="onnxruntime:fp32@320")
    parser.add_argument("--data", default="digits@320", help="its val images and objects are the scene")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=ROUND.max_s, help="of timing per model and round, at most")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bench; the same command resumes it")
    args = parser.parse_args()
    target = Target.parse(args.target)
    data = open_data(args.data)
    scene = Scene.of(data.val)
    models = resolve_models(args.models, image_size=target.image_size)
    request = BenchRequest(models, [target], new_folder(args.out), args.rounds, data=data, scene=scene)
    done = run_bench(request, ConsoleReporter(), protocol=replace(ROUND, max_s=args.seconds))
    objects = sum(len(boxes) for boxes in scene.boxes) / len(scene.boxes)
    figure = figure_of(steps_of(args.out, str(target)), str(target), objects)
    for name, row in figure["models"].items():
        print(f"{name}: " + ", ".join(f"{part} {row[part]:.2f} ms" for part in (*SUM, "sum", "total")))
    write("end_to_end_latency", figure, goals_of(figure), machine=done.machine)


if __name__ == "__main__":
    main()
