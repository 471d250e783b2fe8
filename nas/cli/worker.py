"""``nas worker``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas worker runs/coco                                                            (a folder that both machines see)
  nas worker --storage postgresql://nas@db/studies --study coco --supernet coco.safetensors --latency-db postgresql://nas@db/latencies
  nas worker runs/coco --target tensorrt:fp16/cuda:1 --device cuda:1              (the second GPU of a machine)"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    from nas.cli.options import add_on

    parser.add_argument("run", type=Path, nargs="?", help="folder of the search (else --storage)")
    parser.add_argument("--storage", help="where the search keeps its study: the URL that its --storage named")
    parser.add_argument("--study", help="its name, where the storage has several (the name of the search's folder)")
    parser.add_argument("--data", help="the search's data set, where it lies elsewhere on this machine")
    parser.add_argument("--supernet", help="the search's trained supernet, where it lies elsewhere on this machine")
    add_on(parser)
    parser.add_argument("--latency-db", help="file or URL of latencies (default: as the search)")
    parser.add_argument(
        "--target", help="the search's target on another device of the same kind, for example tensorrt:fp16/cuda:1"
    )
    parser.add_argument("--device", help="for accuracy: auto, cpu, cuda, cuda:1 (default: as the search)")


def run(args: argparse.Namespace) -> int:
    """Evaluate candidates until the search has all that it wants."""
    from latency_db.remote.profiler import measuring_on
    from nas.cli.options import existing
    from nas.core.console_reporter import ConsoleReporter
    from nas.search.settings import SearchSettings
    from nas.search.worker import WorkerOverrides, work
    from search_spaces.errors import InputError

    if (args.run is None) == (args.storage is None):
        raise InputError(
            "no study to work on" if args.run is None else "a folder and a --storage",
            "the folder of a search, or --storage URL",
        )
    storage: Path | str
    if args.run is not None:
        settings = SearchSettings.read(existing(args.run, "run"))
        storage, name = settings.storage_of(args.run), settings.study_name(args.run)
    else:
        storage, name = args.storage if "://" in args.storage else Path(args.storage), args.study
    reporter = ConsoleReporter()
    overrides = WorkerOverrides(args.data, args.supernet, args.latency_db, args.target, args.device)
    with measuring_on(args.on):
        done = work(storage, name, overrides, reporter)
    reporter.note(f"{done} candidates evaluated here; the search has all that it wanted")
    return 0
