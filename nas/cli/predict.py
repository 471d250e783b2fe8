"""``nas predict``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas predict runs/digits/S.onnx image.jpg
  nas predict S.onnx photos/*.jpg --out drawn --score 0.4
  nas predict S.safetensors photos/ --recursive --classes cat,dog --save json,yolo
  nas predict S.onnx street.mp4                                                       a video with boxes: predictions/street.mp4"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("model", type=Path, help="exported model (.onnx) or trained weights (.safetensors)")
    parser.add_argument("images", nargs="+", help="images, videos, folders of them, patterns")
    parser.add_argument(
        "--out", type=Path, default=Path("predictions"), help="folder for what is written (default %(default)s)"
    )
    parser.add_argument(
        "--save", action="append", metavar="KIND[,KIND…]", help="drawn (default), json, coco, yolo; several: json,yolo"
    )
    parser.add_argument("--no-draw", action="store_true", help="draw nothing; without --save, list only")
    parser.add_argument("--recursive", action="store_true", help="look into the folders in a folder")
    parser.add_argument("--classes", metavar="NAME[,NAME…]", help="only these")
    parser.add_argument("--score", type=float, default=0.3, help="least score (default %(default)s)")
    parser.add_argument(
        "--iou", type=float, default=0.6, help="overlap from which boxes of one class are one (default %(default)s)"
    )
    parser.add_argument("--max-detections", type=int, default=300, help="in an image (default %(default)s)")
    parser.add_argument(
        "--multi-label", action="store_true", help="a box may be several classes, as when nas evaluate scores it"
    )
    parser.add_argument("--batch", type=int, default=8, help="images run at once (default %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    """List, draw and save what is found; a broken image is named and passed over."""
    from nas.cli.options import new_folder
    from nas.core.console_reporter import ConsoleReporter
    from nas.data.images import find_images
    from nas.inference.inputs import find_inputs
    from nas.inference.model import load
    from nas.inference.nms import Suppression
    from nas.inference.predict import PredictionJob
    from search_spaces.errors import InputError

    suppression = Suppression(
        args.score, args.iou, args.max_detections, max(1000, args.max_detections), args.multi_label
    )
    if args.batch < 1:
        raise InputError(f"--batch {args.batch}", "1 or more")
    save = _save(args)
    model = load(args.model, args.device)
    labels = model.labels_of(args.classes.split(",") if args.classes else None)
    paths = find_inputs(args.images, args.recursive)
    reporter = ConsoleReporter()
    for folder in filter(Path.is_dir, map(Path, args.images)):
        for line in find_images(folder, args.recursive).remarks():
            reporter.note(line)
    job = PredictionJob(
        model, new_folder(args.out) if save else args.out, suppression, labels, save, args.batch, reporter
    )
    job.run(paths)
    return 2 if job.failed == len(paths) else 0


def _save(args: argparse.Namespace) -> list[str]:
    """What to write, each kind once."""
    from nas.inference.writers import WRITERS
    from search_spaces.registry import unknown

    kinds = [
        kind for text in args.save or ["drawn"] for kind in text.split(",") if not (args.no_draw and kind == "drawn")
    ]
    for kind in kinds:
        if kind not in WRITERS:
            raise unknown("kind to --save", kind, tuple(WRITERS))
    return list(dict.fromkeys(kinds))
