"""``nas quantize``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.text import printable

if TYPE_CHECKING:
    from nas.quantization.mixed_precision import SelectionConfig

EXAMPLES = """\
  nas quantize runs/digits/S.safetensors --data digits --target openvino:int8
  nas quantize S.safetensors --data shop/ --target onnxruntime:int8 --calibrator percentile --calibration 300 --out S-int8.onnx
  nas quantize S.safetensors --data shop/ --max-drop 0.45                      (selective: the fastest with at most this loss in points of mAP)
  nas quantize S.safetensors --data shop/ --budget 2ms --trials 40             (selective: the most accurate within this latency)
  nas quantize S.safetensors --data shop/ --qat                                (fine-tuned with fake quantization, with a control)
  nas quantize --lint S-int8.onnx                                              (lint a file; status 1 if there is an error)"""
MODES = ("ptq", "selective", "qat")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    from latency_db.conversion.int8 import CALIBRATORS
    from nas.cli.options import add_data, add_device

    parser.add_argument("weights", type=Path, help="trained weights (.safetensors); with --lint an ONNX file")
    add_data(parser, required=False)
    parser.add_argument(
        "--target",
        help="runtime:int8[@size][/b8][/t2] that will serve the model (default: the int8 target of its search, else openvino:int8)",
    )
    parser.add_argument("--mode", choices=MODES, help="default ptq; selective where --max-drop or --budget is given")
    parser.add_argument(
        "--calibration",
        type=int,
        default=100,
        metavar="N",
        help="images of the train split that calibrate the ranges of activations (default %(default)s)",
    )
    parser.add_argument(
        "--calibrator",
        choices=tuple(CALIBRATORS),
        default="max",
        help="how a range follows from these images (default %(default)s)",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="interleaved rounds of the latency measurement, 0 for none (default %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the calibration images and the order of the rounds")
    parser.add_argument(
        "--out", type=Path, help="ONNX file (default: beside the weights, -int8.onnx); its report is written beside it"
    )
    parser.add_argument("--lint", action="store_true", help="only check an ONNX file")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    _add_selective(parser)
    _add_qat(parser)
    add_device(parser)


def _add_selective(parser: argparse.ArgumentParser) -> None:
    chosen = parser.add_argument_group("selective: which blocks are kept in floating point")
    chosen.add_argument(
        "--max-drop", type=float, metavar="POINTS", help="largest loss in points of mAP (hundredths; default 0.5)"
    )
    chosen.add_argument("--budget", metavar="LATENCY", help="largest latency, for example 2ms")
    chosen.add_argument(
        "--along", type=int, default=8, help="sets measured along the greedy path (default %(default)s)"
    )
    chosen.add_argument(
        "--trials", type=int, default=16, help="sets measured next to the front afterwards (default %(default)s)"
    )
    chosen.add_argument(
        "--gains",
        choices=("measured", "predicted"),
        default="measured",
        help="latency gain of each block (default %(default)s)",
    )
    chosen.add_argument(
        "--subset",
        type=int,
        default=100,
        help="val images for the sensitivity of blocks, 0 for all (default %(default)s)",
    )


def _add_qat(parser: argparse.ArgumentParser) -> None:
    aware = parser.add_argument_group("qat: fine-tuning with fake quantization")
    aware.add_argument("--qat", action="store_const", const="qat", dest="mode", help="the same as --mode qat")
    aware.add_argument("--epochs", type=int, help="default a tenth of the training's")
    aware.add_argument("--lr", type=float, help="peak learning rate (default a hundredth of the training's)")


def run(args: argparse.Namespace) -> int:
    """Quantize, check, evaluate, time; or check alone."""
    from latency_db.core.target import Target
    from nas.cli.options import existing, new_file
    from nas.core.console_reporter import ConsoleReporter
    from search_spaces.errors import InputError

    if args.lint:
        return _lint(existing(args.weights, "model"), args.json)
    if args.data is None:
        raise InputError(
            "nas quantize without --data",
            "a data set",
            "its train split gives the ranges of activations, its val split the accuracy",
        )
    if args.rounds < 0:
        raise InputError(f"--rounds {args.rounds}", "0 or more")
    from rich.console import Console

    from nas.quantization.model import CalibrationConfig
    from nas.quantization.ptq import QuantizationRequest, QuantizationSettings, quantize_post_training
    from nas.supernet.weights import load_detector
    from nas.training.data import open_training_data

    reporter = ConsoleReporter(Console(stderr=True, highlight=False) if args.json else None)
    selects = args.max_drop is not None or args.budget is not None
    mode = args.mode or ("selective" if selects else "ptq")
    if selects and mode != "selective":
        raise InputError(
            f"--max-drop or --budget with --mode {mode}", "--mode selective", "they pick one of a selection's points"
        )
    settings = QuantizationSettings(
        CalibrationConfig(args.calibration, args.calibrator, args.seed), args.rounds, args.seed
    )
    out = new_file(args.out or args.weights.with_name(f"{args.weights.stem}-int8.onnx"), ".onnx")
    target = (
        Target.parse(args.target)
        if args.target
        else load_detector(args.weights)[1].int8_target or Target.parse("openvino:int8")
    )
    data = open_training_data(args.data, args.limit, reporter)
    request = QuantizationRequest(args.weights, data, target, out, settings)
    if mode == "selective":
        from nas.quantization.mixed_precision import quantize_selectively

        report, _ = quantize_selectively(request, _search(args), reporter)
    elif mode == "qat":
        from nas.quantization.qat import QatConfig, quantize_aware

        report = quantize_aware(request, QatConfig(args.epochs, args.lr, device=args.device), reporter)
    else:
        report = quantize_post_training(request, reporter)
    print(json.dumps(report.to_dict(), indent=2) if args.json else "\n".join(map(printable, report.lines())))
    return 0


def _search(args: argparse.Namespace) -> SelectionConfig:
    from nas.core.budgets import parse_budgets
    from nas.quantization.mixed_precision import SelectionConfig

    budget = parse_budgets(f"budget={args.budget}")["budget"] if args.budget else None
    return SelectionConfig(args.along, args.trials, args.gains, args.subset, args.max_drop, budget)


def _lint(model: Path, as_json: bool) -> int:
    from nas.quantization.lint import lint

    found = lint(model)
    print(json.dumps(found.to_dict(), indent=2) if as_json else "\n".join(map(printable, found.lines())))
    return 1 if found.errors else 0
