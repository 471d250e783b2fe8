"""``nas supernet``."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

EXAMPLES = """\
  nas supernet --data digits --fix image_size=128 --epochs 20 --out runs/digits-supernet.safetensors
  nas supernet --space yolo-nas --data coco.yaml --fix image_size=640 --device cuda --out coco.safetensors
  torchrun --nproc-per-node 8 -m nas supernet --space yolo-nas --data coco.yaml --fix image_size=640 --device cuda --out coco.safetensors"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    from nas.cli.options import add_data, add_device, add_largest_first, add_logging, add_recipe, add_space

    add_space(parser)
    add_data(parser)
    add_recipe(parser, epochs=None)
    add_largest_first(parser)
    add_logging(parser)
    add_device(parser, training=True)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="weights file (.safetensors); an interrupted training resumes, finished weights are never replaced",
    )


def run(args: argparse.Namespace) -> int:
    """Train the shared weights; under torchrun, take part as one of its processes."""
    from nas.core import distributed as processes

    with processes.join_torchrun(args.device):
        return _train(args)


def _train(args: argparse.Namespace) -> int:
    from nas.cli.options import epochs_given, fixed_values, logging_config, new_file, recipe, reporter
    from nas.training.data import open_training_data
    from nas.training.job import ComputeConfig, TrainJob
    from nas.training.supernet_budget import default_supernet_epochs, supernet_quality
    from nas.training.train_supernet import train_supernet
    from search_spaces.spaces import SPACES

    shown = reporter()
    space = SPACES[args.space]
    space = space.restrict(fixed_values(space, args.fix))
    settings, logging = recipe(args), logging_config(args)
    new_file(args.out, ".safetensors")
    data = open_training_data(args.data, args.limit, shown)
    if not epochs_given(args):
        step_images = settings.batch_size * settings.accumulate
        settings = replace(settings, epochs=default_supernet_epochs(len(data.train), step_images))
    compute = ComputeConfig(args.device, args.processes)
    job = TrainJob(data, settings, augment=not args.no_augment, compute=compute, logging=logging)
    supernet = train_supernet(space, job, args.out, shown)
    shown.note(f"written: {args.out}")
    shown.note(supernet_quality(supernet, data).text())
    return 0
