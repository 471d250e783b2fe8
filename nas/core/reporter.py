"""The interface by which long-running functions report notes, warnings and progress. They return values and never
print."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from nas.core.training_progress import Watch

Update = Callable[[int, int, str], None]
"""``update(done, total, text)``: units of work done, their total number, and a description of the last one."""


class Reporter:
    """Receives notes and progress. This base class is silent; :class:`nas.core.console_reporter.ConsoleReporter` prints.

    A subclass overrides :meth:`note` and :meth:`bars`; all other methods call these two.
    """

    interactive = False
    """Whether progress is shown on a live display, so that it needs no lines of its own."""

    def note(self, text: str) -> None:
        """Report one line of information."""

    def warning(self, text: str) -> None:
        """Report one line about a problem that does not end the work."""
        self.note(f"warning: {text}")

    @contextmanager
    def bars(self, titles: Sequence[str]) -> Iterator[list[Update]]:
        """Show several progress bars together; yield one :data:`Update` per title."""
        yield [lambda done, total, text: None for _ in titles]

    @contextmanager
    def steps(self, title: str) -> Iterator[Update]:
        """Show one progress bar whose updates have a text; yield its :data:`Update`."""
        with self.bars([title]) as (update,):
            yield update

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """Show one progress bar without texts; yield ``update(done, total)``."""
        with self.steps(title) as update:
            yield lambda done, total: update(done, total, "")

    @contextmanager
    def trainings(self, titles: Sequence[str]) -> Iterator[list[Watch]]:
        """Show one progress bar per training; yield one callback per training for ``nas.training.loop.fit``."""

        def callback(update: Update) -> Watch:
            return lambda p: update(p.step, p.steps, p.text())

        with self.bars(titles) as updates:
            yield [callback(update) for update in updates]

    @contextmanager
    def training(self, title: str) -> Iterator[Watch]:
        """Show the progress bar of one training; yield its callback."""
        with self.trainings([title]) as (callback,):
            yield callback
