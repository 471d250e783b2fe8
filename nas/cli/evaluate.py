"""``nas evaluate``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

EXAMPLES = """\
  nas evaluate runs/digits/S.safetensors --data digits
  nas evaluate S.safetensors --data coco.yaml --json"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    from nas.cli.options import add_data, add_device

    parser.add_argument("weights", type=Path, help="trained weights (.safetensors)")
    add_data(parser)
    add_device(parser)
    parser.add_argument("--json", action="store_true", help="all metrics as JSON")


def run(args: argparse.Namespace) -> int:
    """COCO metrics on the val split."""
    from nas.accuracy import batches, mean_average_precision
    from nas.console import Display
    from nas.training.precision import device_of
    from nas.weights import load_detector
    from nas.workflow.training import check_classes, open_training_data

    display = Display()
    detector, artifact, _ = load_detector(args.weights)
    data = open_training_data(args.data, args.limit, display)
    check_classes(artifact, data)
    size = int(artifact.architecture["image_size"])
    metrics = mean_average_precision(detector.to(device_of(args.device)).deploy(), data.val, batches(data.val, size))
    if args.json:
        print(json.dumps(metrics.to_dict(), indent=2))
    else:
        display.note(f"mAP50-95 {metrics.map:.4f}   mAP50 {metrics.map50:.4f}   on {len(data.val)} val pictures")
    return 0
