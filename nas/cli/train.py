"""``nas train``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas train runs/digits/S.json --data digits --init runs/digits/supernet.safetensors
  nas train runs/coco/M.json --data coco.yaml --epochs 100 --batch-size 64 --device cuda --out M.safetensors
  nas train yolov8n --data shop/ --epochs 100                                       (a reference; nas models lists them)
  nas train S.json --data shop/ --recipe finetune --set mosaic=0.5 --eval-every 5 --keep best
  torchrun --nproc-per-node 8 -m nas train M.json --data coco.yaml --recipe yolo-nas --device cuda --out M.safetensors"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    from nas.cli.options import add_data, add_device, add_recipe, add_records

    parser.add_argument("architecture", type=Path, help="architecture file that nas search wrote (S.json), or a reference's name (nas models)")
    add_data(parser)
    parser.add_argument("--init", type=Path, help="begin with a supernet's weights (.safetensors; 'supernet' for the one beside the architecture)")
    add_recipe(parser, epochs=30)
    add_records(parser)
    add_device(parser, training=True)
    parser.add_argument("--out", type=Path, help="weights file (default: the architecture's path, .safetensors); an interrupted training goes on")


def run(args: argparse.Namespace) -> int:
    """Train one architecture; in what torchrun started, as one of several."""
    from nas.training import processes

    with processes.joined(args.device):
        return _train(args)


def _train(args: argparse.Namespace) -> int:
    from nas.cli.options import display, new_folder, recipe, records
    from nas.models import artifact_of, with_classes_of
    from nas.workflow.training import Means, open_training_data, train_detector
    from search_spaces.spaces import space_of

    shown = display()
    artifact = artifact_of(args.architecture)
    space_of(artifact.architecture)
    settings, kept = recipe(args), records(args)
    out = args.out or args.architecture.with_suffix(".safetensors")
    new_folder(out.parent)
    data = open_training_data(args.data, args.limit, shown)
    artifact = with_classes_of(artifact, data)
    init = args.architecture.parent / "supernet.safetensors" if str(args.init) == "supernet" else args.init
    means = Means(args.device, args.processes, not args.no_augment)
    metrics = train_detector(artifact, data, settings, out, shown, init, means, kept)
    shown.note(f"{artifact.name}: mAP50-95 {metrics.map:.3f}, mAP50 {metrics.map50:.3f} on {len(data.val)} val pictures; written: {out}")
    return 0
