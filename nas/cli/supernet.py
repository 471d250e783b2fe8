"""``nas supernet``."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

EXAMPLES = """\
  nas supernet --data digits --fix image_size=128 --epochs 20 --out runs/digits-supernet.safetensors
  nas supernet --space yolo-nas --data coco.yaml --fix image_size=640 --device cuda --out coco.safetensors
  nas supernet --init yolov8n.pt --data shop/ --fix image_size=320 --epochs 10 --out runs/shop-supernet.safetensors
  torchrun --nproc-per-node 8 -m nas supernet --space yolo-nas --data coco.yaml --fix image_size=640 --device cuda --out coco.safetensors"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    from nas.cli.options import add_data, add_device, add_largest_first, add_logging, add_recipe, add_space

    add_space(parser, from_weights=True)
    add_data(parser)
    parser.add_argument(
        "--init",
        type=Path,
        metavar="WEIGHTS",
        help="begin as a trained detector (.safetensors, or published weights: nas import); the space is what its "
        "weights cover, narrower and shallower",
    )
    parser.add_argument(
        "--accept-licence", action="store_true", help="with --init: import weights under a restricted licence"
    )
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
    from nas.cli.options import DEFAULT_SPACE, epochs_given, fixed_values, logging_config, new_file, recipe, reporter
    from nas.training.data import open_training_data
    from nas.training.job import ComputeConfig, TrainJob
    from nas.training.supernet_budget import default_supernet_epochs, supernet_quality
    from nas.training.train_supernet import train_supernet
    from search_spaces.spaces import SPACES

    shown = reporter()
    settings, logging = recipe(args), logging_config(args)
    if args.init is None:
        space = SPACES[args.space or DEFAULT_SPACE]
        space, init = space.restrict(fixed_values(space, args.fix)), None
    else:
        from nas.pretrained.convert import weights_file
        from nas.training.recipe import FROM_TRAINED
        from nas.training.supernet_initialization import space_from

        init = weights_file(args.init, args.accept_licence)
        space = space_from(init, args.space, args.fix)
        settings = recipe(args, FROM_TRAINED)
        shown.note(f"space {space.name}, as far as {args.init.name} covers it: {space.size:.3g} architectures")
    new_file(args.out, ".safetensors")
    data = open_training_data(args.data, args.limit, shown)
    if not epochs_given(args):
        step_images = settings.batch_size * settings.accumulate
        settings = replace(settings, epochs=default_supernet_epochs(len(data.train), step_images, space.image_sizes))
    compute = ComputeConfig(args.device, args.processes)
    job = TrainJob(data, settings, init, augment=not args.no_augment, compute=compute, logging=logging)
    supernet = train_supernet(space, job, args.out, shown)
    shown.note(f"written: {args.out}")
    shown.note(supernet_quality(supernet, data).text())
    return 0
