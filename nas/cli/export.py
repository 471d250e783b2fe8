"""``nas export``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas export runs/digits/S.safetensors
  nas export S.safetensors --out s.onnx --image-size 256"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("weights", type=Path, help="trained weights (.safetensors)")
    parser.add_argument("--out", type=Path, help="ONNX file (default: beside the weights)")
    parser.add_argument("--image-size", type=int, help="side in pixels, a multiple of 32 (default: the architecture's)")


def run(args: argparse.Namespace) -> int:
    """Deploy, export, check."""
    from nas.cli.options import note_int8
    from nas.core.console_reporter import ConsoleReporter
    from nas.export.weights import export_weights

    done = export_weights(args.weights, args.out, args.image_size)
    reporter = ConsoleReporter()
    reporter.note(
        f"written: {done.path} (largest difference to torch {done.difference:.1e}; batch free, images in 0..1, "
        "boxes and scores out)"
    )
    note_int8(reporter, done.artifact, args.weights)
    return 0
