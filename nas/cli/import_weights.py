"""``nas import``: convert published weights into a weights file."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas import yolov8s.pt                                   (writes yolov8s.safetensors)
  nas import best.onnx --out weights/best.safetensors
  nas train yolov8s.json --data shop/ --init yolov8s.pt   (imports automatically)"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument(
        "weights",
        type=Path,
        help="published weights (.pt, .pth, .onnx, .safetensors): YOLOv5, YOLOv5u, v6, v7, v8, 11, 12, 26, YOLO-NAS",
    )
    parser.add_argument(
        "--out", type=Path, help="weights file to write (default: the input's name with the extension .safetensors)"
    )
    parser.add_argument(
        "--accept-licence",
        action="store_true",
        help="import weights under a licence that forbids most uses (YOLO-NAS: no commercial use, no derivatives)",
    )


def run(args: argparse.Namespace) -> int:
    """Convert the weights and print a summary."""
    from nas.cli.options import new_file
    from nas.core.console_reporter import ConsoleReporter
    from nas.pretrained.convert import import_weights
    from search_spaces.errors import InputError

    out = args.out or args.weights.with_suffix(".safetensors")
    if out == args.weights:
        raise InputError(f"--out {out} is the file to be imported", "another name")
    imported = import_weights(args.weights, new_file(out, ".safetensors"), args.accept_licence)
    reporter = ConsoleReporter()
    for line in imported.lines():
        reporter.note(line)
    reporter.note(f"written: {out}; next: nas train {imported.reference} --data DATA --init {out}")
    return 0
