"""``nas supernet``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas supernet --data digits --fix image_size=128 --epochs 20 --out runs/digits-supernet.safetensors
  nas supernet --space yolo-nas --data coco.yaml --fix image_size=640 --device cuda --out coco.safetensors"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    from nas.cli.options import add_data, add_device, add_largest_first, add_recipe, add_space

    add_space(parser)
    add_data(parser)
    add_recipe(parser, epochs=20)
    add_largest_first(parser)
    add_device(parser, training=True)
    parser.add_argument("--out", type=Path, required=True, help="weights file (.safetensors); an interrupted training goes on")


def run(args: argparse.Namespace) -> int:
    """Train the shared weights."""
    from nas.cli.options import fixed_values, new_folder, recipe
    from nas.console import Display
    from nas.workflow.training import Means, open_training_data, train_supernet
    from search_spaces.spaces import SPACES

    display = Display()
    space = SPACES[args.space]
    space = space.restrict(fixed_values(space, args.fix))
    settings = recipe(args)
    new_folder(args.out.parent)
    data = open_training_data(args.data, args.limit, display)
    train_supernet(space, data, settings, args.out, display, Means(args.device, args.processes, not args.no_augment))
    display.note(f"written: {args.out}")
    return 0
