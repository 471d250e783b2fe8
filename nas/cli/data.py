"""``nas data``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas data check shop/                 counts, classes, and every problem by name
  nas data write digits --out digits   the embedded set as a COCO folder that any tool can read"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("action", choices=("check", "write"))
    parser.add_argument("spec", help="data set: digits, a COCO or YOLO folder, or a yaml")
    parser.add_argument("--out", type=Path, help="with write: the folder to make")


def run(args: argparse.Namespace) -> int:
    """Check or write."""
    import shutil

    from nas.console import Display
    from nas.data.source import open_data
    from search_spaces.errors import InputError

    display = Display()
    data = open_data(args.spec)
    if args.action == "write":
        if args.out is None or args.out.exists():
            raise InputError(f"--out {args.out}", "a folder that does not exist yet")
        if not args.spec.startswith("digits"):
            raise InputError(f"data set {args.spec}", "digits: others are files already")
        shutil.copytree(data.train.samples[0].path.parent.parent, args.out)
        display.note(f"written: {args.out} (train.json, val.json, images/)")
        return 0
    for split in (data.train, data.val):
        counts = [sum(int((s.labels == k).sum()) for s in split.samples) for k in range(len(split.classes))]
        display.note(f"{data.name}/{split.split}: {len(split)} pictures, {split.boxes} boxes")
        display.note("  " + ", ".join(f"{name} {count}" for name, count in zip(split.classes, counts, strict=True)))
    problems = data.problems()
    for line in problems:
        display.note(f"  {line}")
    display.note("no problem found" if not problems else f"{len(problems)} kinds of problems")
    return 0
