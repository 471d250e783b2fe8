"""``nas data``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas data check shop/                     counts, classes, boxes, every problem by name; decodes every image
  nas data check shop/ --json              the same for a program
  nas data write VOCdevkit/VOC2012 --out voc   a data set of any format as a COCO folder
  nas data write digits --out digits       the embedded set, likewise"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("action", choices=("check", "write"))
    parser.add_argument("spec", help="data set: digits, a COCO, YOLO or Pascal VOC folder, or a yaml")
    parser.add_argument("--json", action="store_true", help="with check: the report as JSON")
    parser.add_argument("--out", type=Path, help="with write: the folder to make")
    parser.add_argument("--link", action="store_true", help="with write: hard-link the images and do not copy them")


def run(args: argparse.Namespace) -> int:
    """Check a data set, or write it as a COCO folder."""
    return _write(args) if args.action == "write" else _check(args)


def _check(args: argparse.Namespace) -> int:
    from rich.console import Console

    from nas.core.console_reporter import ConsoleReporter
    from nas.data.check import check
    from search_spaces.text import json_text

    reporter = ConsoleReporter(Console(stderr=True, highlight=False)) if args.json else ConsoleReporter()
    with reporter.progress("images") as watch:
        report = check(args.spec, watch)
    if args.json:
        print(json_text(report.to_dict(), indent=2))
    else:
        for line in report.lines():
            reporter.note(line)
    return 2 if report.unusable else 0


def _write(args: argparse.Namespace) -> int:
    from nas.core.console_reporter import ConsoleReporter
    from nas.data.write import write_coco
    from search_spaces.errors import InputError
    from search_spaces.text import counted

    if args.out is None:
        raise InputError("no --out", "the folder to make")
    reporter = ConsoleReporter()
    with reporter.progress("images") as watch:
        splits = write_coco(args.spec, args.out, args.link, watch)
    for data in splits:
        images, boxes = counted(len(data), "image"), counted(data.boxes, "box", "boxes")
        reporter.note(f"{args.out / data.split}.json: {images}, {boxes}")
        for line in (*data.problems.lines(), *data.remarks()):
            reporter.note(f"  {line}")
    return 0
