"""Writing a report once, or again and again while the search runs."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from nas.core.reporter import Reporter
from nas.search.run_report.facts import REPORT_FILE, ReportConfig, report_facts, write_facts
from nas.search.run_report.page import write_page
from search_spaces.errors import InputError
from search_spaces.text import counted


def write_report(folder: Path, page: Path, config: ReportConfig, reporter: Reporter) -> tuple[Path, Path]:
    """Write the page and the facts of a run; return both paths.

    The facts go to ``report.json`` in the run, and beside the page if that is elsewhere. Raises InputError if the
    folder holds no run, or no candidate was evaluated yet.
    """
    page.parent.mkdir(parents=True, exist_ok=True)
    facts = report_facts(folder, config, reporter)
    written = write_facts(folder / REPORT_FILE, facts)
    if page.parent.resolve() != folder.resolve():
        written = write_facts(page.with_suffix(".json"), facts)
    return write_page(page, facts), written


def watch_report(folder: Path, page: Path, seconds: float, config: ReportConfig, reporter: Reporter) -> None:
    """Rewrite the page of a running search until it is finished, then write the whole report.

    Args:
        folder: The run.
        page: The page.
        seconds: Seconds between two writings; the page loads itself again as often.
        config: Content of the last report; those before leave out what is measured or modelled.
        reporter: Receives notes.

    Raises InputError if the interval is not positive or the folder holds no run.
    """
    if not seconds > 0:
        raise InputError(f"--watch {seconds:g}", "seconds above 0")
    page.parent.mkdir(parents=True, exist_ok=True)
    light = replace(config, stock=(), profile=False, explain=False)
    known = -1
    while True:
        try:
            facts = report_facts(folder, light, Reporter())
        except InputError as error:
            if "no evaluated candidate" not in str(error):
                raise
            facts = None
        if facts is not None:
            if facts["run"]["finished"]:
                break
            if len(facts["candidates"]) != known:
                known = len(facts["candidates"])
                write_page(page, facts, max(1, round(seconds)))
                reporter.note(f"{counted(known, 'candidate')}: {page}")
        time.sleep(seconds)
    write_report(folder, page, config, reporter)
    reporter.note(f"the search is finished: {page}")
