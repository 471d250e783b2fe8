"""``nas quickstart``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas quickstart --out runs/quickstart
  nas quickstart --out runs/mine --data shop/ --image-size 320      (the same steps on a data set of one's own)"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/quickstart"),
        help="folder of the run (default %(default)s); an interrupted run resumes",
    )
    parser.add_argument("--data", default="digits@96", help="data set (default %(default)s)")
    parser.add_argument("--image-size", default="96", metavar="HxW", help="320, or 384x640 (default %(default)s)")
    parser.add_argument("--trials", type=int, default=40, help="architectures to evaluate (default %(default)s)")
    parser.add_argument("--supernet-epochs", type=int, default=3, help="default %(default)s")
    parser.add_argument(
        "--epochs",
        type=int,
        default=4,
        help="of each chosen architecture, from the supernet's weights (default %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Run the quickstart and print its table."""
    from nas.core.console_reporter import ConsoleReporter
    from nas.search.quickstart import QuickstartConfig, quickstart

    reporter = ConsoleReporter()
    config = QuickstartConfig(args.data, args.image_size, args.trials, args.supernet_epochs, args.epochs, args.seed)
    result = quickstart(config, args.out, reporter)
    reporter.table(result.table)
    reporter.note(f"{result.seconds:.0f} s; see {args.out}/frontier.html, frontier.png, prediction.png")
    return 0
