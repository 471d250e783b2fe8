"""``nas extract``: write detectors from the supernet of a search."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas extract runs/shop --data shop/                  (S, M and L)
  nas extract runs/shop S --data shop/ --out S.safetensors"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("run", type=Path, help="folder of a search")
    parser.add_argument("names", nargs="*", help="architectures of the run (default: all chosen)")
    parser.add_argument("--data", help="data set (default: the run's)")
    parser.add_argument("--limit", type=int, help="use at most so many images of each split")
    parser.add_argument("--supernet", type=Path, help="weights of the supernet (default: the run's)")
    parser.add_argument(
        "--out", type=Path, help="weights file, for one architecture (default: NAME.safetensors in the run)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Extract the weights from the supernet, recalibrate BatchNorm, and print the accuracy."""
    from nas.cli.options import new_file
    from nas.core.architecture_file import read_artifact
    from nas.core.console_reporter import ConsoleReporter
    from nas.search.report.front_files import read_front
    from nas.search.settings import SearchSettings
    from nas.training.data import open_training_data
    from nas.training.extract import extract_detector
    from search_spaces.errors import InputError

    settings = SearchSettings.read(args.run)
    names = args.names or [name for name, _ in read_front(args.run / "front.json").chosen]
    if args.out is not None and len(names) != 1:
        raise InputError(f"--out {args.out} for {len(names)} architectures", "one name, or no --out")
    supernet = args.supernet or Path(settings.supernet or args.run / "supernet.safetensors")
    data = args.data or settings.data
    if data is None:
        raise InputError("a run without a data set", "--data FOLDER")
    reporter = ConsoleReporter()
    pair = open_training_data(data, args.limit, reporter)
    for name in names:
        artifact = read_artifact(args.run / f"{name}.json")
        out = new_file(args.out or args.run / f"{name}.safetensors", ".safetensors")
        metrics = extract_detector(artifact, supernet, pair, out, reporter, args.device)
        reporter.note(f"{name}: mAP {metrics.map:.3f} on {pair.val.name} without further training; written: {out}")
    return 0
