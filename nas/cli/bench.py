"""``nas bench``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latency_db.core.target import Target
    from nas.bench.results import BenchModel
    from nas.core.budgets import BudgetRequest
    from nas.data.source import DataPair
    from nas.profiling.scene import Scene

EXAMPLES = """\
  nas bench all --out runs/bench                                        (every reference; nas models lists them)
  nas bench yolov8n 'yolo11*' YOLO-NAS runs/shop --target openvino:fp32 --out runs/bench
  nas bench YOLOv8 runs/shop/S.safetensors --int8 --data shop/ --out runs/int8
  nas bench all --budgets S=5ms,M=ref:yolo-nas-s --linear --out runs/bench    (a finished bench is drawn again without measuring)"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    from nas.cli.options import add_on

    parser.add_argument(
        "model",
        nargs="+",
        help="reference, family, pattern ('yolov8*'), all; architecture file, weights (.safetensors), folder of a search",
    )
    parser.add_argument(
        "--target", default="onnxruntime:fp32", help="runtime:precision[@size][/b8][/t2] (default %(default)s)"
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="also measure every model at int8 on the same runtime, and evaluate trained weights in int8; needs --data",
    )
    parser.add_argument(
        "--data",
        help="images to calibrate int8 with and to evaluate it on (digits, a COCO or YOLO folder, or a yaml)",
    )
    parser.add_argument(
        "--end-to-end",
        action="store_true",
        help="measure from a decoded image to detections, on images of --data: letterboxing, network, suppression",
    )
    parser.add_argument(
        "--num-classes", type=int, help="number of classes of all models (default: each its own, references 80)"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="interleaved rounds: each measures every model once (default %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the order in each round")
    parser.add_argument("--budgets", help="latencies to draw: S=5ms, or S=ref:MODEL for one that takes part")
    parser.add_argument("--linear", action="store_true", help="linear latency axis (default: logarithmic)")
    parser.add_argument("--title", help="heading")
    add_on(parser)
    parser.add_argument(
        "--latency-db", help="file or URL of latencies to keep the figures in too (default: one for all runs)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the bench; the same command resumes an interrupted one"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, combine, write; status 1 if a model failed."""
    from latency_db.remote.profiler import measuring_on

    with measuring_on(args.on):
        return _bench(args)


def _bench(args: argparse.Namespace) -> int:
    from latency_db.core.target import Target
    from latency_db.database.db import LatencyDB
    from nas.bench.models import resolve_models
    from nas.bench.report import bench_data, write_bench
    from nas.bench.report_tables import bench_notes, bench_table
    from nas.bench.run import BenchRequest, run_bench
    from nas.bench.steps import steps_of, steps_table, write_steps
    from nas.core.console_reporter import ConsoleReporter
    from nas.data.source import open_data
    from nas.data.transforms import AREA
    from nas.profiling.default_database import default_latency_db
    from search_spaces.errors import InputError

    if args.num_classes is not None and args.num_classes < 1:
        raise InputError(f"{args.num_classes} classes", "1 or more")
    targets = _targets(Target.parse(args.target), args)
    models = resolve_models(args.model, args.num_classes, targets[0].image_size, targets[0].precision)
    wanted = _wanted(args.budgets, models)
    data = open_data(args.data) if args.data else None
    reporter = ConsoleReporter()
    with LatencyDB(args.latency_db or default_latency_db()) as database:
        request = BenchRequest(models, targets, args.out, args.rounds, args.seed, data, _scene(args, data))
        done = run_bench(request, reporter, database)
    written = write_bench(args.out, done, bench_data(done, wanted, log_x=not args.linear, title=args.title))
    reporter.table(bench_table(done))
    for line in bench_notes(done):
        reporter.note(line)
    if args.end_to_end:
        steps = steps_of(args.out, str(targets[0]))
        reporter.table(steps_table(steps))
        if linear := [model.name for model in models if model.interpolation != AREA]:
            reporter.note(f"images are shrunk by linear interpolation for {', '.join(linear)}, as the weights say")
        written = [*written, write_steps(args.out, steps)]
    reporter.note("written: " + ", ".join(str(path) for path in written))
    return 1 if done.failures else 0


def _scene(args: argparse.Namespace, data: DataPair | None) -> Scene | None:
    """The scene of --end-to-end; an error without --data, or on a board."""
    from nas.profiling.end_to_end import BOARDS
    from nas.profiling.scene import Scene
    from search_spaces.errors import InputError

    if not args.end_to_end:
        return None
    if data is None:
        raise InputError("--end-to-end without --data", "a data set", "its val images and objects are measured on")
    if args.on:
        raise InputError(f"--end-to-end with --on {args.on}", "one of the two", BOARDS)
    return Scene.of(data.val)


def _targets(target: Target, args: argparse.Namespace) -> list[Target]:
    """The target, and with --int8 the same at int8; an error where that cannot be."""
    from dataclasses import replace

    from latency_db.runtimes import RUNTIMES
    from search_spaces.errors import InputError

    if args.int8 and target.precision == "int8":
        raise InputError(f"--int8 with --target {args.target}", "a target of another precision, to compare with")
    if (args.int8 or target.precision == "int8") and not args.data and RUNTIMES[target.runtime].measures:
        raise InputError("int8 without --data", "a data set", "int8 takes the ranges of activations from its images")
    return [target, replace(target, precision="int8")] if args.int8 else [target]


def _wanted(text: str | None, models: Sequence[BenchModel]) -> BudgetRequest | None:
    """The budgets to draw; one that is like a model has to be like one that takes part, at the size it takes part
    with."""
    from nas.core.budgets import parse_request
    from search_spaces.errors import InputError

    wanted = parse_request(text) if text else None
    sizes = {m.name: m.network.image_size for m in models}
    for like in wanted.references.values() if wanted else ():
        if like.reference not in sizes or like.image_size not in (None, sizes[like.reference]):
            taking_part = ", ".join(f"{name}@{size}" for name, size in sizes.items())
            raise InputError(f"budget {like}, which does not take part", f"one of {taking_part}")
    return wanted
