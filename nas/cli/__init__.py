"""The command ``nas``.

Each verb is one module with ``EXAMPLES``, ``arguments(parser)`` and ``run(args)``; only the module of the requested
verb is imported. Nobody imports this package but :mod:`nas.__main__`.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from nas.core.paths import remove_unused_folders
from search_spaces.errors import InputError

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

VERBS = {
    "quickstart": "run the whole workflow on the embedded data set, in minutes on a CPU",
    "search": "find the Pareto front of a data set and a target, choose S, M and L",
    "select": "choose S, M and L anew from a finished search, with other budgets or goals",
    "supernet": "train the shared weights that a search ranks candidates with",
    "train": "train an architecture",
    "import": "convert published weights of a YOLO (.pt, .onnx) into a weights file",
    "extract": "write the weights that architectures of a run have in its supernet, usable without further training",
    "pseudo-label": "label images with a trained model, for training",
    "evaluate": "compute COCO metrics with confidence intervals, write a report, compare two models",
    "export": "export trained weights to ONNX, checked against PyTorch",
    "quantize": "quantize trained weights to int8 for a runtime; lint an int8 file",
    "predict": "find, draw and save the objects in images and videos",
    "measure": "measure the latency of an architecture, weights or an ONNX file on a target",
    "bench": "measure many models side by side: references, families, searched architectures",
    "models": "list the reference YOLOs with their cost and published accuracy; write one as an architecture file",
    "onboard": "measure enough networks on a target to predict the latency of all others",
    "certify": "measure S, M and L of a run again in fresh processes and compare",
    "device": "check a board over ssh: Python, runtimes, clocks, throttling, free disk",
    "db": "list, show, export, import and merge measured latencies",
    "plot": "draw the Pareto front of a run again",
    "report": "write one page that explains the result of a search; watch a running one",
    "dashboard": "look at the trials of a search in optuna-dashboard",
    "data": "check a data set; write a data set as a COCO folder",
    "list": "list search spaces, blocks, runtimes, estimators, samplers, data formats, recipes",
}
"""Verb -> what it does, in one line."""

MODULES = {verb: verb.replace("-", "_") for verb in VERBS} | {"list": "registered", "import": "import_weights"}
"""Verb -> its module in ``nas.cli``; a module ``list`` would hide the builtin in this one, and ``import`` is a
keyword."""

SAME_COMMAND_RESUMES = ("quickstart", "supernet", "train", "pseudo-label", "quantize", "bench", "onboard")
"""Verbs that continue an interrupted run when the same command is given again."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0: success; 1: the command ran and its answer is no; 2: bad input or a failed environment (one line on stderr);
    128 + n: ended by signal n (130 after Ctrl-C).
    """
    from nas.cli.border import guarded

    arguments = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: _command(arguments), _label(arguments), lambda: _interruption_hint(arguments))


def console() -> NoReturn:
    """Run the command of this process and end the process with its exit status."""
    from nas.cli.border import leave

    leave(main())


def parser_of(verb: str) -> argparse.ArgumentParser:
    """Build the parser of a verb.

    Raises InputError if the verb is unknown.
    """
    if verb not in VERBS:
        from nas.cli.renamed import REMOVED
        from search_spaces.registry import unknown

        if verb in REMOVED:
            raise InputError(f"nas {verb} is no verb any more", REMOVED[verb])
        raise unknown("verb", verb, tuple(VERBS))
    module = import_module(f"nas.cli.{MODULES[verb]}")
    parser = _Parser(
        f"nas {verb}",
        description=VERBS[verb],
        epilog=f"examples:\n{module.EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=module.run)
    module.arguments(parser)
    return parser


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; names of the version before are replaced, with one line on stderr that gives the new ones.

    Raises InputError if a verb, an option or a value is not valid.
    """
    from nas.cli.renamed import current

    (verb, *rest), notices = current(arguments)
    if notices:
        print(f"note: {'; '.join(dict.fromkeys(notices))}", file=sys.stderr)
    return parser_of(verb).parse_args(rest)


def resume_hint(arguments: Sequence[str]) -> str:
    """How to continue after an interruption of the command line, or an empty string if there is nothing to continue."""
    verb = arguments[0] if arguments else ""
    if verb == "search":
        folder = _value_of("--resume", arguments) or _value_of("--out", arguments)
        return f"finished candidates are kept; to resume: nas search --resume {folder}" if folder else ""
    if verb in SAME_COMMAND_RESUMES:
        return "finished work is kept; to resume, run the same command again"
    return ""


def _interruption_hint(arguments: Sequence[str]) -> str:
    """The hint on resuming; a search that was interrupted before its run was written has nothing to resume."""
    from pathlib import Path

    hint = resume_hint(arguments)
    if hint and arguments[0] == "search":
        folder = _value_of("--resume", arguments) or _value_of("--out", arguments)
        if not (Path(folder) / "run.json").is_file():
            return "nothing was written yet; to begin again, run the same command"
    return hint


class _Parser(argparse.ArgumentParser):
    """Reports a wrong option in one line, without the page of usage."""

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Print the help; a failure is raised, which argparse itself passes over."""
        print(self.format_help(), end="", file=file)
        if file is None and sys.stdout is not None:
            sys.stdout.flush()

    def error(self, message: str) -> NoReturn:
        raise InputError(message, hint=f"{self.prog} --help shows the options and examples")


def _command(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(version("hw-nas-yolo"))
        return 0
    args = parsed(arguments)
    try:
        status: int = args.command(args)
    except BaseException as error:
        remove_unused_folders()
        if isinstance(error, InputError):
            raise _naming_the_run(error, args) from None
        raise
    return status


def _naming_the_run(error: InputError, args: argparse.Namespace) -> InputError:
    """The error with the command's own run in place of ``RUN`` in what it advises."""
    run = next((run for name in ("run", "resume", "out") if (run := getattr(args, name, None))), None)
    text = str(error)
    if run is None or not (advice := re.compile(r"\b(nas select|--resume) RUN\b")).search(text):
        return error
    return InputError(advice.sub(lambda found: f"{found[1]} {shlex.quote(str(run))}", text))


def _label(arguments: Sequence[str]) -> str:
    return f"nas {arguments[0]}" if arguments and not arguments[0].startswith("-") else "nas"


def _value_of(option: str, arguments: Sequence[str]) -> str:
    """The value of an option on a command line, without its parser."""
    for argument, after in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == option:
            return after
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
    return ""


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
