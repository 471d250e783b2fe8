"""``nas certify``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas certify runs/quickstart
  nas certify runs/shop --repeat 10
  nas certify runs/shop --target openvino:fp32      (the same architectures elsewhere)"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    from nas.cli.options import add_on

    parser.add_argument("run", type=Path, help="folder of a finished search")
    parser.add_argument(
        "--repeat",
        type=int,
        default=5,
        help="measure each so many times, each in fresh processes (default %(default)s)",
    )
    parser.add_argument("--target", help="another target than the search's")
    add_on(parser)
    parser.add_argument("--latency-db", help="file or URL of latencies to keep the figures in (default: the search's)")


def run(args: argparse.Namespace) -> int:
    """Measure, compare, print, write ``certificate.json``; status 1 where a figure does not hold."""
    from latency_db.remote.profiler import measuring_on
    from nas.cli.options import existing
    from nas.core.console_reporter import ConsoleReporter
    from nas.search.certificate import certificate_table, write_certificates
    from nas.search.certify import certify
    from nas.search.settings import SearchSettings
    from search_spaces.errors import InputError

    if args.repeat < 1:
        raise InputError(f"--repeat {args.repeat}", "1 or more")
    reporter = ConsoleReporter()
    folder = existing(args.run, "run")
    with measuring_on(args.on or (None if args.target else SearchSettings.read(folder).on)) as board:
        certificates = certify(
            folder, args.repeat, reporter, args.target, args.latency_db, time_surroundings=board is None
        )
    write_certificates(folder / "certificate.json", certificates)
    reporter.table(certificate_table(certificates))
    reporter.note(f"written: {folder}/certificate.json")
    return 0 if all(c.holds for c in certificates) else 1
