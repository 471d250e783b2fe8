"""``nas report``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.core.console_reporter import ConsoleReporter

EXAMPLES = """\
  nas report runs/shop                            (report.html and report.json in the run)
  nas report runs/shop --verify 10                (measure the 10 most interesting counterfactuals first)
  nas report runs/shop --watch                    (rewrite the page while the search runs)
  nas report runs/shop --json > facts.json        (the facts only)
  nas report runs/shop --stock yolov8n,yolo11n --out slides/shop.html"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("run", type=Path, help="folder of a search, finished or running")
    parser.add_argument("--out", type=Path, help="the page (default: RUN/report.html, with report.json beside it)")
    parser.add_argument("--json", action="store_true", help="print the facts as JSON and write no page")
    parser.add_argument(
        "--verify",
        type=int,
        metavar="N",
        default=0,
        help="measure the N most interesting counterfactuals of S, M and L first, side by side with these",
    )
    parser.add_argument(
        "--watch",
        type=float,
        metavar="SECONDS",
        nargs="?",
        const=15.0,
        help="rewrite the page so often until the search is finished (default 15); the page loads itself again",
    )
    parser.add_argument(
        "--stock",
        metavar="NAME[,NAME…]",
        help="stock networks to compare with, measured on the target; none for none (default yolov5n,yolov8n,yolo11n)",
    )
    parser.add_argument(
        "--no-profile", action="store_true", help="leave out the latency per operation of S, M and L (a second each)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the report of a run, its facts, or a page that is rewritten while the search runs."""

    from nas.cli.options import existing
    from nas.core.console_reporter import ConsoleReporter
    from nas.core.reporter import Reporter
    from nas.search.run_report.facts import ReportConfig, report_facts
    from nas.search.run_report.stock import DEFAULT
    from nas.search.run_report.write import watch_report, write_report
    from search_spaces.errors import InputError
    from search_spaces.references import reference
    from search_spaces.text import json_text

    if args.verify < 0:
        raise InputError(f"--verify {args.verify}", "0 or more")
    folder = existing(args.run, "run")
    stock = DEFAULT if args.stock is None else tuple(n for n in args.stock.split(",") if n and n != "none")
    for name in stock:
        reference(name)
    config = ReportConfig(stock, not args.no_profile)
    reporter = ConsoleReporter()
    if args.verify:
        _verify(folder, args.verify, reporter)
    if args.json:
        print(json_text(report_facts(folder, config, Reporter()), indent=1))
        return 0
    page = args.out or folder / "report.html"
    if args.watch is not None:
        watch_report(folder, page, args.watch, config, reporter)
        return 0
    page, facts = write_report(folder, page, config, reporter)
    reporter.note(f"written: {page} ({page.stat().st_size / 1e6:.1f} MB), {facts}")
    return 0


def _verify(folder: Path, count: int, reporter: ConsoleReporter) -> None:
    """Measure counterfactuals and print predicted and measured changes."""
    from nas.search.explain.verify import verified_table, verify

    reporter.table(verified_table(verify(folder, count, reporter)))
