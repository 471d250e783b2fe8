"""Options that several verbs share."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.core.paths import existing, new_file, new_folder
from search_spaces.fixed_values import fixed_values

if TYPE_CHECKING:
    from nas.core.architecture_file import Artifact
    from nas.core.reporter import Reporter
    from nas.training.logging_config import LoggingConfig
    from nas.training.recipe import Recipe

__all__ = [
    "add_data",
    "add_device",
    "add_largest_first",
    "add_logging",
    "add_recipe",
    "add_space",
    "epochs_given",
    "existing",
    "fixed_values",
    "logging_config",
    "new_file",
    "new_folder",
    "note_int8",
    "recipe",
    "recipe_values",
    "reporter",
]


DEFAULT_SPACE = "yolo-nano"


def add_space(parser: argparse.ArgumentParser, from_weights: bool = False) -> None:
    """Add --space and --fix. ``from_weights``: without --space, initial weights may choose the space (None)."""
    default = f"{DEFAULT_SPACE}; with --init the one that holds the network" if from_weights else DEFAULT_SPACE
    parser.add_argument(
        "--space",
        default=None if from_weights else DEFAULT_SPACE,
        help=f"search space (nas list lists them; default {default})",
    )
    parser.add_argument(
        "--fix",
        action="append",
        default=[],
        metavar="CHOICE=V[,V…]",
        help="let a choice take only these values, for example image_size=320 (repeatable)",
    )


def add_data(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add --data and --limit."""
    parser.add_argument(
        "--data", required=required, help="data set: digits, a COCO, YOLO or Pascal VOC folder, or a yaml"
    )
    parser.add_argument("--limit", type=int, help="use at most so many images of each split")


def add_on(parser: argparse.ArgumentParser, **more: Any) -> None:
    """Add --on; ``more`` as ``add_argument`` takes it."""
    text = "measure on another machine: ssh:user@host[:port][?python=PATH] (docs/boards.md), or ray:RESOURCE"
    parser.add_argument("--on", metavar="BOARD", help=f"{text} (docs/scaling.md)", **more)


def add_ray(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --ray; ``what`` is done on the cluster."""
    parser.add_argument(
        "--ray",
        metavar="auto|ADDRESS",
        help=f"{what} on the nodes of a Ray cluster; auto: the one that this machine belongs to (docs/scaling.md)",
    )


def add_device(parser: argparse.ArgumentParser, training: bool = False) -> None:
    """Add --device; with ``training`` also --processes."""
    parser.add_argument(
        "--device", default="auto", help="for training and accuracy: auto, cpu, cuda, cuda:1 (default %(default)s)"
    )
    if training:
        parser.add_argument(
            "--processes",
            type=int,
            default=1,
            help="train in so many processes that share the CPU's cores (default %(default)s)",
        )


def add_largest_first(parser: argparse.ArgumentParser) -> None:
    """Add --largest-first, of a supernet's training."""
    parser.add_argument(
        "--largest-first",
        type=float,
        metavar="SHARE",
        help="share of the steps in which the largest network learns alone (default 0.5; with --init 0.25)",
    )


def add_recipe(parser: argparse.ArgumentParser, epochs: int | None) -> None:
    """Add the training options; ``epochs`` is the verb's own default for the default recipe (None: it follows from the
    number of images)."""
    from nas.training.recipes import RECIPES

    own = "at least 20, at least 1000 steps, more for several image sizes" if epochs is None else str(epochs)
    parser.set_defaults(default_epochs=epochs)
    parser.add_argument(
        "--recipe", default="default", help=f"{', '.join(RECIPES)} (docs/training.md; default %(default)s)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=V",
        help="another value for any part of the recipe, augmentation included (repeatable)",
    )
    parser.add_argument("--epochs", type=int, help=f"default: the recipe's; of the default one {own}")
    parser.add_argument(
        "--batch-size", type=int, help="of all processes together; default: the recipe's, 32 of the default one"
    )
    parser.add_argument(
        "--accumulate", type=int, metavar="N", help="make a step of so many batches, as if of one (default 1)"
    )
    parser.add_argument("--optimizer", help="adamw or sgd (default: the recipe's)")
    parser.add_argument("--lr", type=float, help="peak learning rate")
    parser.add_argument("--cls-weight", type=float, help="of the classification loss (default 1)")
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        help="default auto: bf16 where the hardware computes in it",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        default=None,
        help="compile the network's forward (torch.compile; not of a supernet)",
    )
    parser.add_argument("--seed", type=int, help="default 0")
    parser.add_argument("--no-augment", action="store_true", help="train on the images as they are")


def add_logging(parser: argparse.ArgumentParser) -> None:
    """Add --logger, --eval-every and --keep."""
    parser.add_argument(
        "--logger", action="append", default=[], help="besides the .log.csv: tensorboard or wandb (repeatable)"
    )
    parser.add_argument(
        "--eval-every",
        type=int,
        default=0,
        metavar="N",
        help="val mAP of the averaged weights every N epochs (default: at the end)",
    )
    parser.add_argument(
        "--keep", choices=("last", "best"), default="last", help="best: keep the weights of the best evaluation, too"
    )


def logging_config(args: argparse.Namespace) -> LoggingConfig:
    """Return the loggers, evaluations and kept weights of a training. Raises InputError for an unknown logger."""
    from nas.training.logging_config import LoggingConfig

    return LoggingConfig(tuple(args.logger), args.eval_every, args.keep == "best")


def reporter() -> Reporter:
    """Return a console reporter, silent in all but the first of several processes that train together."""
    from rich.console import Console

    from nas.core import distributed as processes
    from nas.core.console_reporter import ConsoleReporter

    return ConsoleReporter(Console(quiet=True)) if processes.rank() else ConsoleReporter()


def recipe_values(args: argparse.Namespace) -> dict[str, Any]:
    """Return the training options that were given, by name."""
    names = (
        "epochs",
        "batch_size",
        "accumulate",
        "optimizer",
        "lr",
        "cls_weight",
        "largest_first",
        "precision",
        "compile",
        "seed",
    )
    return {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}


def epochs_given(args: argparse.Namespace) -> bool:
    """Return whether the options name the number of epochs, or a recipe that does."""
    return args.epochs is not None or args.recipe != "default" or any(t.startswith("epochs") for t in args.set)


def recipe(args: argparse.Namespace, start: Mapping[str, Any] | None = None) -> Recipe:
    """Return the named recipe, changed by --set and by the training options that were given.

    Args:
        args: The options.
        start: Values that suit the beginning of the training. They replace defaults, not what the recipe names.

    Raises InputError for an unknown recipe or value.
    """
    from nas.training.recipe import Recipe, parse_values
    from nas.training.recipes import RECIPES

    named = RECIPES[args.recipe].recipe
    if args.recipe == "default" and args.default_epochs is not None:
        named = named.changed({"epochs": args.default_epochs})
    default = Recipe()
    named = named.changed({n: v for n, v in (start or {}).items() if getattr(named, n) == getattr(default, n)})
    return named.changed(parse_values(args.set)).changed(recipe_values(args))


def note_int8(reporter: Reporter, artifact: Artifact, weights: Path, data: str = "DATA") -> None:
    """Note the next command for floating-point weights of an architecture that was chosen in int8."""
    if (target := artifact.int8_target) is not None:
        reporter.note(
            f"{artifact.name} was chosen at {target}, and these weights are float; "
            f"next: nas quantize {weights} --data {data} --target {target}"
        )
