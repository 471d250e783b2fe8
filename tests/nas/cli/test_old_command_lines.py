"""Command lines of version 0.1 still parse: names that changed are replaced by today's, with one line that says so."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import pytest

from nas.cli import VERBS, main, parsed, parser_of, renamed
from nas.core.budgets import parse_request
from search_spaces.errors import InputError

LINES = (Path(__file__).parent / "command_lines_0_1.txt").read_text(encoding="utf-8").splitlines()
GONE = tuple(f"nas {verb}" for verb in renamed.REMOVED)
COMMANDS = [line for line in LINES if not line.startswith(("#", "options ", *GONE))]
OPTIONS = [line.removeprefix("options ").split(": ") for line in LINES if line.startswith("options ")]
OPTIONS = [entry for entry in OPTIONS if entry[0] not in renamed.REMOVED]


def words(command: str) -> list[str]:
    """The arguments after ``nas``; what stands before it (torchrun) is left out."""
    found = shlex.split(command)
    return found[found.index("nas") + 1 :]


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Every option of a parser and of its sub-parsers."""
    found = set()
    for action in parser._actions:
        found |= set(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                found |= options_of(sub)
    return found


def test_the_list_is_a_list() -> None:
    assert len(COMMANDS) > 100 and len(OPTIONS) > 20


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_line_of_version_0_1_parses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    args = parsed(words(command))
    assert callable(args.command)
    assert len(capsys.readouterr().err.splitlines()) <= 1


@pytest.mark.parametrize("verb, options", OPTIONS, ids=[verb for verb, _ in OPTIONS])
def test_every_option_of_version_0_1_is_there_under_one_name(verb: str, options: str) -> None:
    (today, *_), _ = renamed.current(verb.split()[:1])
    table = renamed.OPTIONS.get(today, {})
    missing = {table.get(option, option) for option in options.split()} - options_of(parser_of(today))
    assert missing == set()


@pytest.mark.parametrize("verb", renamed.OPTIONS)
def test_old_names_are_gone_and_new_ones_exist(verb: str) -> None:
    """An old name that is still an option would never be reached."""
    options = options_of(parser_of(verb))
    assert set(renamed.OPTIONS[verb].values()) <= options
    assert not set(renamed.OPTIONS[verb]) & options


def test_old_verbs_are_gone_and_new_ones_exist() -> None:
    assert set(renamed.VERBS.values()) <= set(VERBS)
    assert not set(renamed.VERBS) & set(VERBS)


@pytest.mark.parametrize("command", [line for line in LINES if line.startswith(GONE)])
def test_a_verb_that_is_gone_names_the_option_to_use_instead(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(command)) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "--workers N" in shown


def test_a_notice_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    args = parsed(["search", "--quote", "--more=9", "--budgets", "S=like:yolov8n,M=like:yolo11s"])
    assert (args.estimate_cost, args.total_trials, args.budgets) == (True, 9, "S=ref:yolov8n,M=ref:yolo11s")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        "note: --quote is now --estimate-cost; --more is now --total-trials; like:REFERENCE is now ref:REFERENCE\n"
    )


def test_an_old_verb_works_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spaces", "yolo-nano"]) == 0
    shown = capsys.readouterr()
    assert "width" in shown.out and shown.err == "note: nas spaces is now nas list\n"


def test_names_of_today_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    parsed(["search", "--estimate-cost", "--budgets", "S=ref:yolov8n"])
    assert capsys.readouterr().err == ""


def test_an_unknown_option_is_still_an_error() -> None:
    with pytest.raises(InputError, match="--quot "):
        parsed(["search", "--quot 5"])


def test_budgets_written_by_version_0_1_are_read() -> None:
    """``run.json`` keeps the text of ``--budgets``."""
    wanted = parse_request("S=like:yolov8n,M=like:yolov8s@320")
    assert str(wanted.references["M"]) == "ref:yolov8s@320"
