"""Options of ``nas train`` for transfer learning: initial weights, layers, distillation, pseudo-labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces.errors import InputError

if TYPE_CHECKING:
    from nas.core.reporter import Reporter
    from nas.data.source import DataPair
    from nas.training.layers import LayerConfig


def add_transfer_options(parser: argparse.ArgumentParser) -> None:
    """Add --init, --teacher and --distill-*, --freeze, --layer-lr, --pseudo*."""
    parser.add_argument(
        "--init",
        type=Path,
        help="initial weights: of a detector or a supernet (.safetensors; 'supernet': the one beside the architecture), "
        "or published weights (.pt, .onnx; see nas import)",
    )
    parser.add_argument(
        "--accept-licence", action="store_true", help="with --init: import weights under a restricted licence"
    )
    parser.add_argument(
        "--freeze",
        action="append",
        default=[],
        metavar="NODE[,NODE…]",
        help="frozen layers, BatchNorm statistics included: backbone, stem,stage1",
    )
    parser.add_argument(
        "--layer-lr",
        action="append",
        default=[],
        metavar="NODE=FACTOR[,…]",
        help="learning rate of layers, as a factor: backbone=0.1, 'neck*=0.5'",
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        help="distil from these weights (.safetensors): of a detector, or the largest architecture of a supernet",
    )
    parser.add_argument("--distill-weight", type=float, help="initial weight of the distillation loss (default 1)")
    parser.add_argument("--distill-temperature", type=float, help="distillation temperature (default 1)")
    parser.add_argument(
        "--distill-features",
        type=float,
        metavar="WEIGHT",
        help="weight of the distillation of neck features (default 0: none)",
    )
    parser.add_argument(
        "--pseudo", type=Path, help="also train on pseudo-labelled images (a json that nas pseudo-label wrote)"
    )
    parser.add_argument(
        "--pseudo-weight",
        type=float,
        default=1.0,
        help="weight of pseudo-labelled boxes in the loss (default %(default)s)",
    )
    parser.add_argument(
        "--pseudo-by-score", action="store_true", help="multiply --pseudo-weight by the score of each box"
    )


def layer_config(args: argparse.Namespace) -> LayerConfig:
    """Return frozen layers and layer-wise learning rates. Raises InputError for a malformed option."""
    from nas.training.layers import LayerConfig

    frozen = tuple(part for text in args.freeze for part in text.split(",") if part)
    rates = tuple(_rate(part) for text in args.layer_lr for part in text.split(",") if part)
    return LayerConfig(frozen, rates)


def beside(path: Path | None, architecture: Path) -> Path | None:
    """Return the weights file; ``supernet`` stands for the one beside the architecture's file."""
    folder = architecture if architecture.is_dir() else architecture.parent
    if str(path) != "supernet":
        return path
    from nas.search.chosen_files import supernet_of

    return supernet_of(folder)


def initial(args: argparse.Namespace) -> Path | None:
    """Return the file of the initial weights; published weights are imported first. Raises InputError if they cannot
    be."""
    from nas.pretrained.convert import weights_file

    path = beside(args.init, args.architecture)
    return None if path is None else weights_file(path, args.accept_licence)


def distillation(args: argparse.Namespace) -> dict[str, Any]:
    """Return the distillation values that were given. Raises InputError if there is no teacher."""
    names = ("distill_weight", "distill_temperature", "distill_features")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if given and args.teacher is None:
        raise InputError(f"--{next(iter(given)).replace('_', '-')} without a teacher", "--teacher WEIGHTS with it")
    return given


def with_pseudo_labels(args: argparse.Namespace, data: DataPair, reporter: Reporter) -> DataPair:
    """Return the data set with the images of --pseudo. Raises InputError if the file cannot be read."""
    if args.pseudo is None:
        if args.pseudo_by_score:
            raise InputError("--pseudo-by-score without pseudo-labels", "--pseudo FILE with it")
        return data
    from nas.data.pseudo_labelled import with_pseudo

    mixed, lines = with_pseudo(data, args.pseudo, args.pseudo_weight, args.pseudo_by_score)
    for line in lines:
        reporter.note(line)
    return mixed


def _rate(text: str) -> tuple[str, float]:
    pattern, equals, factor = text.partition("=")
    try:
        if not equals or not pattern:
            raise ValueError
        return pattern, float(factor)
    except ValueError:
        raise InputError(f"--layer-lr {text!r}", "NODE=FACTOR, for example backbone=0.1") from None
