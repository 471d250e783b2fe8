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
    from nas.search.chosen_files import chosen_files, supernet_of
    from nas.search.settings import SearchSettings
    from nas.training.data import open_training_data
    from nas.training.extract import extract_detector
    from search_spaces.errors import InputError

    settings = SearchSettings.read(args.run)
    files = chosen_files(args.run)
    names = args.names or list(files)
    if args.out is not None and len(names) != 1:
        raise InputError(f"--out {args.out} for {len(names)} architectures", "one name, or no --out")
    supernet = args.supernet or supernet_of(args.run)
    data = args.data or settings.data
    if data is None:
        raise InputError("a run without a data set", "--data FOLDER")
    reporter = ConsoleReporter()
    pair = open_training_data(data, args.limit, reporter)
    for name in names:
        file = files.get(name, args.run / f"{name}.json")
        artifact = read_artifact(file)
        out = new_file(args.out or file.with_suffix(".safetensors"), ".safetensors")
        metrics = extract_detector(artifact, supernet, pair, out, reporter, args.device)
        reporter.note(f"{name}: mAP {metrics.map:.3f} on {pair.val.name} without further training; written: {out}")
    return 0
