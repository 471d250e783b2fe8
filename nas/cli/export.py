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
    from nas.cli.options import new_file, note_int8
    from nas.core.console_reporter import ConsoleReporter
    from nas.export.onnx import export_onnx, metadata_of
    from nas.inference.onnx_checks import MAX_SIDE, STRIDE
    from nas.supernet.weights import load_detector
    from search_spaces.errors import InputError

    detector, artifact, _ = load_detector(args.weights)
    out = args.out or args.weights.with_suffix(".onnx")
    size = args.image_size or int(artifact.architecture["image_size"])
    if not STRIDE <= size <= MAX_SIDE or size % STRIDE:
        raise InputError(f"image size {size}", f"a multiple of {STRIDE} from {STRIDE} to {MAX_SIDE}")
    new_file(out, ".onnx")
    worst = export_onnx(detector.deploy(), out, size, metadata_of(artifact.architecture, artifact.classes, size))
    reporter = ConsoleReporter()
    reporter.note(
        f"written: {out} (largest difference to torch {worst:.1e}; batch free, images in 0..1, boxes and scores out)"
    )
    note_int8(reporter, artifact, args.weights)
    return 0
