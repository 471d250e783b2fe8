"""``nas select``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas select runs/shop --budgets S=3ms,M=6ms,L=9ms
  nas select runs/shop --budgets S=ref:yolov8n --out runs/shop-dropin
  nas select runs/shop --at-least S=0.40,M=0.45"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("run", type=Path, help="folder of a search; nothing more is searched")
    limits = parser.add_mutually_exclusive_group()
    limits.add_argument(
        "--budgets",
        help="as in nas search: S=2ms,M=4ms or S=ref:yolov8n; without any, S, M and L spread over the front",
    )
    limits.add_argument("--at-least", help="as in nas search: S=0.40,M=0.45 or S=ref:yolov8n")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of S.json, M.json, L.json and the front (default: the run; where trained weights of other "
        "architectures are, selection-N in it)",
    )


def run(args: argparse.Namespace) -> int:
    """Choose S, M and L anew, measure them, write their files and candidates.csv."""
    from nas.cli.options import existing, new_folder
    from nas.core.console_reporter import ConsoleReporter
    from nas.search.report.front_files import results_table
    from nas.search.reselect import select_again

    reporter = ConsoleReporter()
    out = new_folder(args.out) if args.out else None
    result = select_again(existing(args.run, "run"), args.budgets, args.at_least, reporter, out)
    reporter.table(results_table([(p.name, p.candidate) for p in result.selection]))
    reporter.note(f"{result.folder}: {', '.join(result.files)}")
    if (result.folder / "report.html").exists():
        reporter.note("report.html shows the selection before: nas report writes it anew")
    return 0
