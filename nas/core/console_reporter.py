"""A reporter for terminals and notebooks.

Notes are lines. Progress is shown as live bars with an ETA. Where there is no terminal, it is a line at the start, so
that a unit of minutes is announced, and a line every few seconds.
All texts pass :func:`search_spaces.text.printable`: file names, class names and messages of libraries come from outside.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

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
        """Whether the console is a terminal, where bars are updated in place."""
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
        """Show a live bar per title with elapsed and remaining time; without a terminal, print a line every
        :data:`EVERY_S` seconds."""
        progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(30),
            _CountColumn(),
            TimeElapsedColumn(),
            _RemainingColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            console=self.console,
        )
        with progress:
            progress.disable = not self.console.is_terminal
            yield [self._updater(progress, title) for title in titles]

    def _updater(self, progress: Progress, title: str) -> Update:
        title, clock = printable(title), _Clock()
        task = progress.add_task(title, total=None, text="starting", clock=clock)
        printed: float | None = None
        announced = complete = False

        def update(done: int, total: int, text: str) -> None:
            nonlocal printed, announced, complete
            now, text = time.monotonic(), printable(text)
            clock.update(done, total, now)
            progress.update(task, completed=done, total=total, text=text)
            ended = done == total and not complete
            due = printed is None or now - printed >= EVERY_S if done else not announced
            announced = True
            if not self.console.is_terminal and (ended or due):
                printed, complete = now if done else None, done == total
                remaining = clock.remaining(now)
                eta = "" if remaining is None or done == total else f"ETA {remaining:.0f} s  "
                self.note(f"{title} {done}/{total}  {eta}{text}")

        return update


class _Clock:
    """Estimates the remaining time of work from the mean time of its units."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int, int] | None = None

    def update(self, done: int, total: int, now: float) -> None:
        """Count ``done`` of ``total`` units at time ``now``."""
        if self._first is None:
            # The units of an earlier run, which this one resumes, took no time here.
            self._first = (self._started, 0) if done == 1 else (now, done)
        if self._last is None or done != self._last[1] or total != self._last[2]:
            self._last = now, done, total

    def remaining(self, now: float) -> float | None:
        """Return the estimated seconds from ``now`` to the end; None before the first unit is done."""
        if self._first is None or self._last is None or self._last[1] <= self._first[1]:
            return None
        at, done, total = self._last
        each = (at - self._first[0]) / (done - self._first[1])
        return max(0.0, each * (total - done) - (now - at))


class _CountColumn(ProgressColumn):
    """``done/total``; nothing while the total is unknown."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}")


class _RemainingColumn(ProgressColumn):
    """``ETA h:mm:ss``; nothing before the first unit is done."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        clock: _Clock = task.fields["clock"]
        remaining = clock.remaining(time.monotonic())
        if remaining is None or task.finished:
            return Text("")
        return Text(f"ETA {timedelta(seconds=round(remaining))}", style="progress.remaining")
