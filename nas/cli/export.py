"""``nas export``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.export.deploy import DeployConfig

EXAMPLES = """\
  nas export runs/digits/S.safetensors
  nas export S.safetensors --out s.onnx --image-size 256
  nas export S.safetensors --to ncnn                        a folder for ncnn: S-ncnn/
  nas export S.safetensors --to litert --precision int8 --data shop/
  nas export S.safetensors --nms --score 0.25               suppression inside the ONNX file
  nas export S.safetensors --to openvino --layout yolo      what Frigate calls yolo-generic"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("weights", type=Path, help="trained weights (.safetensors)")
    parser.add_argument(
        "--to",
        default="onnx",
        metavar="FORMAT",
        help="onnx, openvino, ncnn, mnn, litert, tensorrt or tensorrt-rtx (default %(default)s)",
    )
    parser.add_argument("--out", type=Path, help="ONNX file or folder (default: beside the weights)")
    parser.add_argument("--image-size", metavar="HxW", help="320, or 384x640 (default: the architecture's)")
    parser.add_argument("--precision", default="fp32", help="of the format's runtime (default %(default)s)")
    parser.add_argument("--data", help="litert in int8: images of its train split calibrate the ranges of activations")
    parser.add_argument("--batch", type=int, help="images of one run (default: free in ONNX, else 1)")
    parser.add_argument(
        "--layout",
        default="dense",
        help="of the outputs: dense (boxes and scores) or yolo (one tensor, as servers such as Frigate read it)",
    )
    parser.add_argument("--nms", action="store_true", help="put suppression into the file")
    parser.add_argument("--score", type=float, default=0.3, help="with --nms: least score (default %(default)s)")
    parser.add_argument("--iou", type=float, default=0.6, help="with --nms: largest overlap (default %(default)s)")
    parser.add_argument(
        "--max-detections", type=int, default=300, help="with --nms: detections of an image (default %(default)s)"
    )
    parser.add_argument("--multi-label", action="store_true", help="with --nms: a box may be several classes")


def run(args: argparse.Namespace) -> int:
    """Deploy, export, check."""
    from nas.cli.options import note_int8
    from nas.core.console_reporter import ConsoleReporter
    from nas.export.deploy import export_model
    from nas.export.weights import export_weights

    config = _config(args)
    reporter = ConsoleReporter()
    with reporter.progress(f"export {args.weights.name} and compare it with torch") as update:
        update(0, 1)
        if config.plain:
            done = export_weights(args.weights, args.out, args.image_size)
        else:
            deployed = export_model(args.weights, args.out, config)
        update(1, 1)
    if config.plain:
        reporter.note(
            f"written: {done.path} (largest difference to torch {done.difference:.1e}; batch free, images in 0..1, "
            "boxes and scores out)"
        )
        note_int8(reporter, done.artifact, args.weights)
        return 0
    checked = (
        "int8: nas evaluate computes its accuracy"
        if config.precision == "int8"
        else f"not checked: {deployed.runtime} cannot run on this machine"
        if deployed.difference is None
        else f"largest difference to torch {deployed.difference:.1e} in {deployed.runtime}"
    )
    reporter.note(f"written: {deployed.path} ({checked})")
    note_int8(reporter, deployed.artifact, args.weights)
    return 0


def _config(args: argparse.Namespace) -> DeployConfig:
    from nas.data.source import open_data
    from nas.export.deploy import DeployConfig
    from nas.inference.nms import Suppression
    from search_spaces.errors import InputError

    if args.batch is not None and args.batch < 1:
        raise InputError(f"--batch {args.batch}", "1 or more")
    most = args.max_detections
    suppression = Suppression(args.score, args.iou, most, max(1000, most), args.multi_label) if args.nms else None
    data = open_data(args.data) if args.data else None
    return DeployConfig(
        args.to, args.precision, args.image_size, args.batch, args.layout, suppression, calibration=data
    )
