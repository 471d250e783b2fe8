"""``nas evaluate``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from search_spaces.text import counted

EXAMPLES = """\
  nas evaluate runs/digits/S.safetensors --data digits
  nas evaluate S.onnx --data shop/ --out report              curves, confusions, the worst images: report/report.html
  nas evaluate M.safetensors --data shop/ --against S.onnx   is M better than S, or is it chance?
  nas evaluate S.safetensors --data coco.yaml --split test --json"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    from nas.cli.options import add_data, add_device

    parser.add_argument("model", type=Path, help="trained weights (.safetensors) or an exported model (.onnx)")
    add_data(parser)
    add_device(parser)
    parser.add_argument("--split", default="val", help="of the data set (default %(default)s)")
    parser.add_argument("--out", type=Path, help="folder for report.html, metrics.json, per_class.csv and images/")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="MODEL",
        help="another model: the difference on the same images, with its interval",
    )
    parser.add_argument("--batch", type=int, default=8, help="images run at once (default %(default)s)")
    parser.add_argument("--iou", type=float, default=0.5, help="of the confusions in the report (default %(default)s)")
    parser.add_argument(
        "--score",
        type=float,
        help="of the confusions in the report (default: where the mean F1 of the classes is best)",
    )
    parser.add_argument(
        "--images",
        type=int,
        default=12,
        help="in the report: so many of the worst and as many by chance (default %(default)s)",
    )
    parser.add_argument(
        "--resamples", type=int, default=1000, help="of the images, for the 95 %% interval (default %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the resamples and of the images by chance (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="everything as JSON")


def run(args: argparse.Namespace) -> int:
    """COCO metrics on a split."""
    from rich.console import Console

    from nas.cli.options import new_folder
    from nas.core.console_reporter import ConsoleReporter
    from nas.data.source import open_data
    from nas.evaluation.evaluate import EvaluationConfig, compare_files, evaluate_file
    from nas.evaluation.report import against_dict, write_evaluation
    from nas.evaluation.report_tables import class_table, difference_text, summary

    _check(args)
    reporter = ConsoleReporter(Console(stderr=True, highlight=False)) if args.json else ConsoleReporter()
    data = open_data(
        args.data, val=args.split, limit=args.limit, on_problem=lambda line: reporter.note(f"data: {line}")
    )
    settings = EvaluationConfig(args.device, args.batch, args.iou, args.score, args.resamples, args.seed)
    folder = new_folder(args.out) if args.out else None  # before hours of work that could not be written
    evaluation = evaluate_file(args.model, data, settings, reporter)
    against = compare_files(evaluation, args.against, data, settings, reporter) if args.against else None
    compared = (args.against.name, against[1]) if against else None
    if args.json:
        print(json.dumps({**evaluation.to_dict(), **against_dict(compared)}, indent=2))
    else:
        reporter.note(
            f"{args.model} on {counted(len(data.val), f'{args.split} image')} of {data.name}, {evaluation.runtime}"
        )
        for line in summary(evaluation.metrics, evaluation.interval):
            reporter.note(line)
        reporter.table(class_table(evaluation.rows))
    if against and not args.json:
        other, difference = against
        reporter.note(f"{args.against} on the same images, {other.runtime}")
        for line in summary(other.metrics, difference.b):
            reporter.note(line)
        reporter.note(difference_text(difference, *_names(args.model, args.against)))
    if folder:
        written = write_evaluation(folder, evaluation, args.images, args.seed, compared)
        reporter.note(f"written: {', '.join(map(str, written))}")
    return 0


def _check(args: argparse.Namespace) -> None:
    from search_spaces.errors import InputError

    if args.batch < 1 or args.resamples < 1 or args.images < 0 or args.seed < 0:
        got = f"batch {args.batch}, {args.resamples} resamples, {args.images} images, seed {args.seed}"
        raise InputError(got, "1 or more in a batch and resamples, 0 or more images and seed")
    if not 0 < args.iou <= 1 or not 0 <= (args.score or 0) <= 1:
        raise InputError(f"IoU {args.iou}, score {args.score}", "IoU over 0, both at most 1")
    if args.out and (args.out / "run.json").exists():
        raise InputError(
            f"--out {args.out} is the folder of a search", f"another folder, such as {args.out / 'report'}"
        )


def _names(a: Path, b: Path) -> tuple[str, str]:
    """File names, or whole paths where these are equal."""
    return (a.name, b.name) if a.name != b.name else (str(a), str(b))
