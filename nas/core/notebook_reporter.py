"""A reporter for notebooks: notes as output lines, progress as HTML bars that are updated in place."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nas.core.console_reporter import ConsoleReporter
from nas.core.reporter import Reporter, Update
from search_spaces.text import printable

EVERY_S = 0.2
"""Least seconds between two updates of a bar."""


def default_reporter() -> Reporter:
    """Return a :class:`NotebookReporter` within a Jupyter kernel, else a console reporter."""
    return NotebookReporter() if in_notebook() else ConsoleReporter()


def in_notebook() -> bool:
    """Return whether this process is a Jupyter kernel; imports nothing."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


class NotebookReporter(Reporter):
    """Shows notes and progress bars below the running cell."""

    interactive = True

    def note(self, text: str) -> None:
        """Show one line."""
        _display({"text/plain": printable(text)})

    @contextmanager
    def bars(self, titles: Sequence[str]) -> Iterator[list[Update]]:
        """Show one bar per title with elapsed and remaining time."""
        bars = [_Bar(title) for title in titles]
        handle = _display(_bundle(bars), updated=True)
        shown = 0.0

        def updater(bar: _Bar) -> Update:
            def update(done: int, total: int, text: str) -> None:
                nonlocal shown
                bar.set(done, total, text)
                if (now := time.monotonic()) - shown > EVERY_S or done == total:
                    shown = now
                    handle.update(_bundle(bars), raw=True)

            return update

        try:
            yield [updater(bar) for bar in bars]
        finally:
            handle.update(_bundle(bars), raw=True)


class _Bar:
    """State of one progress bar, and its HTML."""

    def __init__(self, title: str) -> None:
        self.title, self.text = printable(title), ""
        self.done, self.total, self.first = 0, 0, -1
        self.start = time.monotonic()

    def set(self, done: int, total: int, text: str) -> None:
        if self.first < 0:  # work that was done before says nothing about the speed now
            self.start, self.first = time.monotonic(), done
        self.done, self.total, self.text = done, total, printable(text)

    def html(self) -> str:
        elapsed = time.monotonic() - self.start
        fresh = self.done - self.first
        eta = f"ETA {elapsed / fresh * (self.total - self.done):.0f} s" if self.first >= 0 and fresh > 0 else ""
        cells = (
            html.escape(self.title),
            f"<progress value='{self.done}' max='{max(self.total, 1)}'></progress>",
            f"{self.done}/{self.total or '?'}",
            f"{elapsed:.0f} s",
            eta,
            html.escape(self.text),
        )
        return "<tr>" + "".join(f"<td style='text-align:left'>{cell}</td>" for cell in cells) + "</tr>"

    def plain(self) -> str:
        return f"{self.title} {self.done}/{self.total} {self.text}"


def _bundle(bars: Sequence[_Bar]) -> dict[str, str]:
    table = "<table>" + "".join(bar.html() for bar in bars) + "</table>"
    return {"text/html": table, "text/plain": "\n".join(bar.plain() for bar in bars)}


def _display(bundle: dict[str, str], updated: bool = False) -> Any:
    from IPython.display import display

    return display(bundle, raw=True, display_id=updated or None)
