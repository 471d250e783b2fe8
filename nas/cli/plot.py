"""``nas plot``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas plot runs/digits
  nas plot runs/digits --format svg,pdf
  nas plot runs/digits --linear --title "Digits on my laptop" --out slides"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("run", type=Path, help="folder of a search")
    parser.add_argument("--out", type=Path, help="folder for the plots, frontier.html, … (default: the run)")
    parser.add_argument(
        "--format",
        default="html,png",
        metavar="NAME[,NAME…]",
        help="html, png, svg, pdf; several separated by commas (default %(default)s)",
    )
    parser.add_argument("--title", help="heading")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--log", action="store_true", help="logarithmic latency axis")
    scale.add_argument("--linear", action="store_true", help="linear latency axis (default: by the range)")


def run(args: argparse.Namespace) -> int:
    """Draw a run's candidates again; works during a search too."""
    from nas.cli.options import existing, new_folder
    from nas.core.console_reporter import ConsoleReporter
    from nas.plotting.frontier import write_frontier
    from nas.search.run_frontier import run_frontier

    folder = existing(args.run, "run")
    data = run_frontier(folder, args.title, True if args.log else False if args.linear else None)
    written = write_frontier(new_folder(args.out) if args.out else folder, data, args.format.split(","))
    ConsoleReporter().note("written: " + ", ".join(str(path) for path in written))
    return 0
