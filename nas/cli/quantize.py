"""``nas quantize``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas quantize runs/digits/S.safetensors --data digits --target openvino:int8
  nas quantize S.safetensors --data shop/ --target onnxruntime:int8 --calibrator percentile --calibration 300 --out S-int8.onnx
  nas quantize --lint S-int8.onnx                                              (check a file; status 1 where it is not what it should be)"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    from latency_db.int8 import CALIBRATORS
    from nas.cli.options import add_data

    parser.add_argument("weights", type=Path, help="trained weights (.safetensors); with --lint an ONNX file")
    add_data(parser, required=False)
    parser.add_argument("--target", default="openvino:int8", help="runtime:int8[@size][/b8][/t2] that will serve the model (default %(default)s)")
    parser.add_argument("--calibration", type=int, default=100, metavar="N", help="pictures of the train split for the ranges (default %(default)s)")
    parser.add_argument("--calibrator", choices=tuple(CALIBRATORS), default="max", help="how a range follows from them (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measure latency in so many rounds, 0 for none (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="draws the calibration pictures and the order of the rounds")
    parser.add_argument("--out", type=Path, help="ONNX file (default: beside the weights, -int8.onnx); its report is written beside it")
    parser.add_argument("--lint", action="store_true", help="only check an ONNX file")
    parser.add_argument("--json", action="store_true", help="the report as JSON")


def run(args: argparse.Namespace) -> int:
    """Quantize, check, evaluate, time; or check alone."""
    import json

    from nas.cli.options import existing, new_folder
    from nas.console import Display

    if args.lint:
        from nas.quantization.lint import lint

        found = lint(existing(args.weights, "model"))
        print(json.dumps(found.to_dict(), indent=2) if args.json else "\n".join(found.lines()))
        return 1 if found.errors else 0

    from latency_db.target import Target
    from nas.quantization.subject import Calibration
    from nas.workflow.quantizing import Settings, post_training
    from nas.workflow.training import open_training_data
    from search_spaces.errors import InputError

    if args.data is None:
        raise InputError("nas quantize without --data", "a data set", "its train split gives the ranges of activations, its val split the accuracy")
    if args.rounds < 0:
        raise InputError(f"--rounds {args.rounds}", "0 or more")
    display = Display()
    settings = Settings(Calibration(args.calibration, args.calibrator, args.seed), args.rounds, args.seed)
    out = args.out or args.weights.with_name(f"{args.weights.stem}-int8.onnx")
    new_folder(out.parent)
    data = open_training_data(args.data, args.limit, display)
    report = post_training(args.weights, data, Target.parse(args.target), out, settings, display)
    print(json.dumps(report.to_dict(), indent=2) if args.json else "\n".join(report.lines()))
    return 0
