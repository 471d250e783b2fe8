"""``nas dashboard``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas dashboard runs/shop
  nas dashboard postgresql://nas@db/studies --study shop
  nas dashboard runs/shop --host 0.0.0.0 --port 9000"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("study_of", metavar="RUN|URL", help="folder of a search, or the storage URL of its study")
    parser.add_argument("--study", help="name of the study, where the storage has several")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default %(default)s: this machine)")
    parser.add_argument("--port", type=int, default=8080, help="port to listen at (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Serve optuna-dashboard for a study until Ctrl-C."""
    from nas.cli.options import existing
    from nas.core.console_reporter import ConsoleReporter
    from nas.search.run_report.dashboard import serve
    from nas.search.settings import SearchSettings

    storage: Path | str = args.study_of
    name, settings = args.study, None
    if "://" not in args.study_of:
        folder = existing(Path(args.study_of), "run")
        settings = SearchSettings.read(folder)
        storage, name = settings.storage_of(folder), name or settings.study_name(folder)
    serve(storage, name, args.host, args.port, ConsoleReporter(), settings)
    return 0
