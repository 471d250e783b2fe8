"""``nas pseudo-label``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas pseudo-label L.safetensors --images photos/ --out pseudo.json --score 0.4 --score-for cat=0.6
  nas pseudo-label L.onnx --images photos/ --out pseudo.json --precision 0.9 --data shop/ --ignore-from 0.1 --tta
  nas train S.json --data shop/ --pseudo pseudo.json --pseudo-weight 0.5                       (what to do with it)"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    from nas.cli.options import add_data, add_device

    parser.add_argument("model", type=Path, help="trained weights (.safetensors) or an exported model (.onnx)")
    parser.add_argument("--images", type=Path, required=True, help="folder of images, searched in depth")
    parser.add_argument("--out", type=Path, required=True, help="COCO json to write; an interrupted labelling resumes")
    parser.add_argument("--score", type=float, default=0.4, help="least score of a label (default %(default)s)")
    parser.add_argument(
        "--score-for", action="append", default=[], metavar="CLASS=SCORE", help="least score of one class (repeatable)"
    )
    parser.add_argument(
        "--precision",
        type=float,
        help="choose each class's least score so that so many of its boxes in the val split are right",
    )
    parser.add_argument(
        "--ignore-from",
        type=float,
        metavar="SCORE",
        help="mark boxes from this score to the least as regions not to learn from",
    )
    parser.add_argument(
        "--tta",
        nargs="?",
        const="nms",
        choices=("nms", "weighted"),
        help="look at each image mirrored, too; how boxes are merged",
    )
    add_data(parser, required=False)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Label, count, name what is broken."""
    from nas.cli.options import existing, new_folder
    from nas.core.console_reporter import ConsoleReporter
    from nas.data.source import open_data
    from nas.inference.backends import open_backend
    from nas.pseudo_labels.label import LabelThresholds, pseudo_label
    from nas.pseudo_labels.thresholds import Finder

    reporter = ConsoleReporter()
    wanted = LabelThresholds(args.score, tuple(map(_score, args.score_for)), args.precision, args.ignore_from)
    finder = Finder(open_backend(existing(args.model, "model"), args.device), args.tta)
    existing(args.images, "folder of images")
    new_folder(args.out.parent)
    data = open_data(args.data, limit=args.limit) if args.data else None
    images, boxes, broken = pseudo_label(args.model, finder, args.images, args.out, wanted, reporter, data)
    reporter.note(
        f"{boxes} boxes in {images} images" + (f", {broken} broken" if broken else "") + f"; written: {args.out}"
    )
    return 0 if images else 2


def _score(text: str) -> tuple[str, float]:
    from search_spaces.errors import InputError

    name, equals, score = text.rpartition("=")
    try:
        if not equals or not name:
            raise ValueError
        return name, float(score)
    except ValueError:
        raise InputError(f"--score-for {text!r}", "CLASS=SCORE, for example cat=0.6") from None
