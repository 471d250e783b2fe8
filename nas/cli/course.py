"""Options of ``nas train`` about what a training begins with and who takes part in it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces.errors import InputError

if TYPE_CHECKING:
    from nas.core.reporter import Reporter
    from nas.data.source import DataPair
    from nas.training.initialization import Course


def add_course(parser: argparse.ArgumentParser) -> None:
    """--init, --teacher and --distill-*, --freeze, --layer-lr, --pseudo*."""
    parser.add_argument(
        "--init",
        type=Path,
        help="begin with these weights (.safetensors): a supernet's ('supernet' for the one beside the architecture) or a detector's",
    )
    parser.add_argument(
        "--freeze",
        action="append",
        default=[],
        metavar="NODE[,NODE…]",
        help="keep weights and BatchNorm of these: backbone, stem,stage1",
    )
    parser.add_argument(
        "--layer-lr",
        action="append",
        default=[],
        metavar="NODE=FACTOR[,…]",
        help="a rate of their own: backbone=0.1, 'neck*=0.5'",
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        help="learn from these weights too (.safetensors): a detector's, or the largest of a supernet's",
    )
    parser.add_argument("--distill-weight", type=float, help="of what the teacher says, at the beginning (default 1)")
    parser.add_argument("--distill-temperature", type=float, help="softens teacher and student (default 1)")
    parser.add_argument(
        "--distill-features",
        type=float,
        metavar="WEIGHT",
        help="compare the features of the necks, too (default 0: do not)",
    )
    parser.add_argument("--pseudo", type=Path, help="train on these images too (a json that nas pseudo-label wrote)")
    parser.add_argument(
        "--pseudo-weight", type=float, default=1.0, help="of their boxes in the loss (default %(default)s)"
    )
    parser.add_argument("--pseudo-by-score", action="store_true", help="multiplied by each box's score")


def course(args: argparse.Namespace) -> Course:
    """Teacher and tuning."""
    from nas.training.initialization import Course
    from nas.training.transfer import FineTuning

    frozen = tuple(part for text in args.freeze for part in text.split(",") if part)
    rates = tuple(_rate(part) for text in args.layer_lr for part in text.split(",") if part)
    return Course(beside(args.teacher, args.architecture), FineTuning(frozen, rates))


def beside(path: Path | None, architecture: Path) -> Path | None:
    """The weights file meant: ``supernet`` is the one beside the architecture's file."""
    return architecture.parent / "supernet.safetensors" if str(path) == "supernet" else path


def distillation(args: argparse.Namespace) -> dict[str, Any]:
    """The recipe's values that were given; an error for those without a teacher."""
    names = ("distill_weight", "distill_temperature", "distill_features")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if given and args.teacher is None:
        raise InputError(f"--{next(iter(given)).replace('_', '-')} without a teacher", "--teacher WEIGHTS with it")
    return given


def with_pseudo_labels(args: argparse.Namespace, data: DataPair, reporter: Reporter) -> DataPair:
    """The data set with what --pseudo adds."""
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
