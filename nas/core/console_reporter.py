"""A reporter for terminals and notebooks: notes as lines, progress as live bars with an ETA, or as lines without a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nas.core.reporter import Reporter, Update

EVERY_S = 10.0
"""Seconds between two progress lines where there is no terminal."""


class ConsoleReporter(Reporter):
    """Prints to a ``rich.console.Console`` (default: standard output)."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)

    @property
    def interactive(self) -> bool:  # type: ignore[override]
        """Whether the console is a terminal, where bars are drawn in place."""
        return self.console.is_terminal

    def note(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def bars(self, titles: Sequence[str]) -> Iterator[list[Update]]:
        """A live bar per title with elapsed and remaining time; without a terminal a line every :data:`EVERY_S`."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(30),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
        )
        progress = Progress(
            *columns,
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=self.console,
        )
        with progress:
            progress.disable = not self.console.is_terminal
            yield [self._updater(progress, title) for title in titles]

    def _updater(self, progress: Progress, title: str) -> Update:
        task = progress.add_task(title, total=None, text="")
        start, last, first = time.monotonic(), 0.0, 0

        def update(done: int, total: int, text: str) -> None:
            nonlocal start, last, first
            progress.update(task, completed=done, total=total, text=text)
            now = time.monotonic()
            if not first:  # earlier work, resumed here, and the start-up tell nothing about the speed of the rest
                start, first = now, done
            if not self.console.is_terminal and (now - last > EVERY_S or done == total):
                last = now
                eta = f"ETA {(now - start) / (done - first) * (total - done):.0f} s  " if done > first else ""
                self.note(f"{title} {done}/{total}  {eta}{text}")

        return update
