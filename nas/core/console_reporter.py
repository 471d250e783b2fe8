"""A reporter for terminals and notebooks.

Notes are lines. Progress is shown as live bars with an ETA, or as a line every few seconds where there is no terminal.
All texts pass :func:`search_spaces.text.printable`: file names, class names and messages of libraries come from outside.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nas.core.reporter import Reporter, Update
from nas.core.text_table import TextTable
from search_spaces.text import printable

EVERY_S = 10.0
"""Seconds between two progress lines where there is no terminal."""
_UNBOUNDED = 100_000
"""Width in characters of a table that is not limited by a window."""


class ConsoleReporter(Reporter):
    """Prints to a ``rich.console.Console`` (default: standard output)."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)

    @property
    def interactive(self) -> bool:  # type: ignore[override]
        """Whether the console is a terminal, where bars are drawn in place."""
        return self.console.is_terminal

    def note(self, text: str) -> None:
        """Print one line; a terminal breaks it where it is longer than the window."""
        self.console.print(printable(text), markup=False, emoji=False, soft_wrap=True)

    def table(self, table: TextTable, title: str | None = None) -> None:
        """Print a table with every cell in full.

        A terminal gets the widest form that fits (:meth:`TextTable.fitted`); a file or pipe one line per row.
        """
        if self.console.is_terminal:
            self.console.print(table.fitted(self.console.width, title))
        else:
            whole = table.rich(title)
            whole.width = self.console.measure(whole, options=self.console.options.update(width=_UNBOUNDED)).maximum
            self.console.print(whole, crop=False)

    @contextmanager
    def bars(self, titles: Sequence[str]) -> Iterator[list[Update]]:
        """A live bar per title with elapsed and remaining time; without a terminal a line every :data:`EVERY_S`."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(30),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
        )
        progress = Progress(
            *columns,
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            console=self.console,
        )
        with progress:
            progress.disable = not self.console.is_terminal
            yield [self._updater(progress, title) for title in titles]

    def _updater(self, progress: Progress, title: str) -> Update:
        title = printable(title)
        task = progress.add_task(title, total=None, text="")
        start, last, first = time.monotonic(), 0.0, 0

        def update(done: int, total: int, text: str) -> None:
            nonlocal start, last, first
            text = printable(text)
            progress.update(task, completed=done, total=total, text=text)
            now = time.monotonic()
            if not first:  # earlier work, resumed here, and the start-up tell nothing about the speed of the rest
                start, first = now, done
            if not self.console.is_terminal and (now - last > EVERY_S or done == total):
                last = now
                eta = f"ETA {(now - start) / (done - first) * (total - done):.0f} s  " if done > first else ""
                self.note(f"{title} {done}/{total}  {eta}{text}")

        return update
