"""``nas train``."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

EXAMPLES = """\
  nas train runs/digits/S.json --data digits --init runs/digits/supernet.safetensors
  nas train runs/coco/M.json --data coco.yaml --epochs 100 --batch-size 64 --device cuda --out M.safetensors
  nas train yolov8n --data shop/ --epochs 100                                       (a reference; nas models lists them)
  nas train S.json --data shop/ --recipe finetune --set mosaic=0.5 --eval-every 5 --keep best
  nas train yolov8n --data shop/ --init pretrained.safetensors --freeze stem,stage1 --layer-lr backbone=0.1
  nas train runs/digits/S.json --data digits --teacher runs/digits/L.safetensors --distill-features 1
  nas train runs/shop/S.json --data shop/ --pseudo pseudo.json --pseudo-weight 0.5
  torchrun --nproc-per-node 8 -m nas train M.json --data coco.yaml --recipe yolo-nas --device cuda --out M.safetensors"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    from nas.cli.options import add_data, add_device, add_logging, add_recipe
    from nas.cli.transfer_options import add_transfer_options

    parser.add_argument(
        "architecture",
        type=Path,
        help="architecture file that nas search wrote (S.json), or a reference's name (nas models)",
    )
    add_data(parser)
    add_recipe(parser, epochs=30)
    add_logging(parser)
    add_transfer_options(parser)
    add_device(parser, training=True)
    parser.add_argument(
        "--out",
        type=Path,
        help="weights file (default: the architecture's path, .safetensors); an interrupted training goes on",
    )


def run(args: argparse.Namespace) -> int:
    """Train one architecture; in what torchrun started, as one of several."""
    from nas.core import distributed as processes

    with processes.join_torchrun(args.device):
        return _train(args)


def _train(args: argparse.Namespace) -> int:
    from nas.cli.options import logging_config, new_file, note_int8, recipe, reporter
    from nas.cli.transfer_options import beside, distillation, layer_config, with_pseudo_labels
    from nas.core.references import artifact_of, with_classes_of
    from nas.training.data import open_training_data
    from nas.training.job import ComputeConfig, TrainJob
    from nas.training.train_detector import train_detector
    from search_spaces.spaces import space_of

    shown = reporter()
    artifact = artifact_of(args.architecture)
    space_of(artifact.architecture)
    settings, logging = replace(recipe(args), **distillation(args)), logging_config(args)
    out = new_file(args.out or args.architecture.with_suffix(".safetensors"), ".safetensors")
    data = open_training_data(args.data, args.limit, shown)
    artifact = with_classes_of(artifact, data)
    data = with_pseudo_labels(args, data, shown)
    job = TrainJob(
        data,
        settings,
        init=beside(args.init, args.architecture),
        teacher=beside(args.teacher, args.architecture),
        layers=layer_config(args),
        augment=not args.no_augment,
        compute=ComputeConfig(args.device, args.processes),
        logging=logging,
    )
    metrics = train_detector(artifact, job, out, shown)
    shown.note(
        f"{artifact.name}: mAP50-95 {metrics.map:.3f}, mAP50 {metrics.map50:.3f} on {len(data.val)} val images; written: {out}"
    )
    note_int8(shown, artifact, out, args.data)
    return 0
