"""``nas measure``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas measure runs/digits/S.onnx
  nas measure runs/digits/S.json --target onnxruntime:fp32/t2 --repeat 5
  nas measure yolov8n
  nas measure runs/digits/S.onnx --target openvino:int8 --data digits@128"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
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
        "--repeat", type=int, default=1, help="measure so many times, each in fresh processes (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="the full records as JSON")
    parser.add_argument(
        "--latency-db", help="file or URL of latencies to keep the figure in (default: one for all runs)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, keep, print."""
    import json
    import tempfile
    from statistics import median

    from latency_db.core.measurement import Measurement
    from latency_db.core.profiler import FINALIST
    from latency_db.core.target import Target
    from latency_db.database.db import LatencyDB
    from latency_db.runtimes import open_profiler
    from nas.core.console_reporter import ConsoleReporter
    from nas.core.references import existing_model
    from nas.data.source import open_data
    from nas.profiling.default_database import default_latency_db
    from nas.profiling.workload import workload_of
    from search_spaces.errors import InputError

    if args.repeat < 1:
        raise InputError(f"--repeat {args.repeat}", "1 or more")
    reporter = ConsoleReporter()
    target = Target.parse(args.target)
    model = existing_model(args.model)
    with tempfile.TemporaryDirectory() as scratch, LatencyDB(args.latency_db or default_latency_db()) as database:
        workload = workload_of(model, target, Path(scratch), open_data(args.data) if args.data else None)
        measured: list[Measurement] = []
        for i in range(args.repeat):
            with open_profiler(target, FINALIST) as profiler:
                if (
                    not measured
                ):  # the usual speed is what was kept before these sittings; without that, the first sitting's
                    reference = database.nominal_reference_ms(profiler.key(workload.key))
                measured.append(database.measure_cached(profiler, workload, fresh=True))
                reference = reference or measured[0].reference_ms
            m = measured[-1]
            if not args.json:
                usual = (
                    f", {m.at_nominal_speed(reference).median_ms:.3f} ms at the machine's usual speed"
                    if reference and m.reference_ms
                    else ""
                )
                reporter.note(
                    f"{i + 1}/{args.repeat}: median {m.median_ms:.3f} ms ± {m.half_width:.1%} ({m.low_ms:.3f}..{m.high_ms:.3f}), p90 {m.p90_ms:.3f}, p99 "
                    f"{m.p99_ms:.3f}, {m.runs} runs, {m.clock} clock, {m.verdict}{usual}"
                )
    if args.json:
        print(json.dumps([m.to_dict() for m in measured], indent=2))
    elif args.repeat > 1:
        values = sorted(m.median_ms for m in measured)
        middle = median(values)
        reporter.note(
            f"{args.repeat} times on {target}: {middle:.3f} ms, spread {values[0] / middle - 1:+.1%} … {values[-1] / middle - 1:+.1%}"
        )
    return 0
