"""``nas measure``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latency_db.core.measurement import Measurement

EXAMPLES = """\
  nas measure runs/digits/S.onnx
  nas measure runs/digits/S.json --target onnxruntime:fp32/t2 --repeat 5
  nas measure yolov8n
  nas measure runs/digits/S.onnx --target openvino:int8 --data digits@128
  nas measure runs/digits/S.onnx --on ssh:pi@raspberrypi.local"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    from nas.cli.options import add_on

    parser.add_argument(
        "model",
        type=Path,
        help="ONNX file, architecture file (S.json), trained weights (.safetensors) or a reference's name (nas models)",
    )
    parser.add_argument(
        "--target", default="onnxruntime:fp32", help="runtime:precision[@size][/b8][/t2] (default %(default)s)"
    )
    parser.add_argument("--data", help="int8 only: images to calibrate with (digits, a COCO or YOLO folder, or a yaml)")
    parser.add_argument(
        "--repeat", type=int, default=1, help="number of measurements, each in new processes (default %(default)s)"
    )
    add_on(parser)
    parser.add_argument("--json", action="store_true", help="the full records as JSON")
    parser.add_argument(
        "--latency-db", help="file or URL of the database that keeps the latency (default: one for all runs)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, store, print."""
    import json

    from rich.console import Console

    from latency_db.core.target import Target
    from latency_db.database.db import LatencyDB
    from latency_db.remote.profiler import measuring_on
    from nas.core.console_reporter import ConsoleReporter
    from nas.core.references import existing_model
    from nas.data.source import open_data
    from nas.profiling.default_database import default_latency_db
    from nas.profiling.measure import measurements
    from search_spaces.errors import InputError

    if args.repeat < 1:
        raise InputError(f"--repeat {args.repeat}", "1 or more")
    reporter = ConsoleReporter(Console(stderr=True, highlight=False)) if args.json else ConsoleReporter()
    target = Target.parse(args.target)
    model = existing_model(args.model)
    name = args.latency_db or default_latency_db()
    measured = []
    with (
        LatencyDB(name) as database,
        measuring_on(args.on),
        reporter.progress(f"measuring {model.name} on {target}") as update,
    ):
        update(0, args.repeat)
        data = open_data(args.data) if args.data else None
        for m, nominal in measurements(model, target, database, data, args.repeat):
            measured.append(m)
            update(len(measured), args.repeat)
            if not args.json:
                reporter.note(f"{len(measured)}/{args.repeat}: {_line(m, nominal)}")
    if args.json:
        print(json.dumps([m.to_dict() for m in measured], indent=2))
    elif args.repeat > 1:
        reporter.note(f"{args.repeat} times on {target}: {_spread(measured)}")
    return 0


def _line(m: Measurement, nominal: float | None) -> str:
    line = (
        f"median {m.median_ms:.3f} ms ± {m.half_width:.1%} ({m.low_ms:.3f}..{m.high_ms:.3f}), p90 {m.p90_ms:.3f}, "
        f"p99 {m.p99_ms:.3f}, {m.runs} runs, {m.clock} clock, {m.verdict}"
    )
    if nominal and m.reference_ms:
        line += f", {m.at_nominal_speed(nominal).median_ms:.3f} ms at the nominal speed"
    return line


def _spread(measured: Sequence[Measurement]) -> str:
    from statistics import median

    values = sorted(m.median_ms for m in measured)
    middle = median(values)
    return f"{middle:.3f} ms, spread {values[0] / middle - 1:+.1%} … {values[-1] / middle - 1:+.1%}"
