"""The command ``nas``. Each verb is one file with ``SUMMARY``, ``EXAMPLES``, ``arguments(parser)`` and ``run(args)``;
only the verb asked for is imported."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from search_spaces.errors import InputError

# verb -> what it does; the module is nas.cli.<verb>, with _ for -.
VERBS = {
    "quickstart": "the whole job on the embedded data set, in minutes on a CPU",
    "search": "find the efficiency frontier of a data set and a target, choose S/M/L",
    "worker": "take part in a search that is under way, on this machine or another",
    "supernet": "train the shared weights that a search ranks candidates with",
    "train": "train a chosen architecture",
    "pseudo-label": "label images with a trained model, to train on them",
    "evaluate": "COCO metrics of weights or an export on a data set, with intervals; a report; two models compared",
    "export": "trained weights to ONNX, checked against torch",
    "quantize": "trained weights to int8 for a runtime: calibrated, checked, evaluated there; lint an int8 file",
    "predict": "find, draw and save the objects in images and videos",
    "measure": "latency of an architecture, weights or ONNX file on a target",
    "bench": "latency of many models side by side, in rounds: references, families, searched architectures",
    "models": "list the reference YOLOs with what they cost and what is published of them; write one as an architecture file",
    "onboard": "measure just enough networks on a target to predict the latency of all others",
    "certify": "measure the chosen of a run again, each in fresh processes, against what was said",
    "db": "list, show, export, import and merge the latencies that were measured",
    "plot": "draw the efficiency frontier of a run again",
    "data": "check a data set; write one as a COCO folder",
    "spaces": "list search spaces, blocks, runtimes, estimators, samplers, formats of data sets, recipes",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0, 2 for bad input, 130 after Ctrl-C."""
    args = sys.argv[1:] if argv is None else list(argv)
    if not args or args[0] in ("-h", "--help"):
        print(_overview())
        return 0 if args else 2
    if args[0] == "--version":
        from importlib.metadata import version

        print(version("hw-nas-yolo"))
        return 0
    try:
        return _verb(args[0], args[1:])
    except InputError as error:
        print(f"nas {args[0]}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            f"\nnas {args[0]}: interrupted; what was finished is kept, the same command goes on (a search: nas search --resume RUN)",
            file=sys.stderr,
        )
        return 130


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as everything else here does, and not after a page of usage."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message, hint=f"{self.prog} --help shows the options and examples")


def _overview() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {summary}" for verb, summary in VERBS.items()]
    return "\n".join(
        [
            "usage: nas VERB [options]      nas VERB --help for options and examples",
            "",
            "Hardware-aware neural architecture search for YOLO detectors.",
            "",
            *lines,
        ]
    )


def _verb(verb: str, args: Sequence[str]) -> int:
    if verb not in VERBS:
        from search_spaces.registry import unknown

        raise unknown("verb", verb, tuple(VERBS))
    module = import_module(f"nas.cli.{verb.replace('-', '_')}")
    parser = _Parser(
        f"nas {verb}",
        description=VERBS[verb],
        epilog=f"examples:\n{module.EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.arguments(parser)
    status: int = module.run(parser.parse_args(args))
    return status
