"""How long work reports to whoever runs it: notes, warnings and progress. Work returns values and never prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from nas.core.training_progress import Watch

Update = Callable[[int, int, str], None]
"""``update(done, total, text)``: units of work done, of how many, and what the last one was."""


class Reporter:
    """Receives notes and progress. This base class is silent; :class:`nas.core.console_reporter.ConsoleReporter` prints.

    A subclass overrides :meth:`note` and :meth:`bars`; everything else is built on these two.
    """

    interactive = False
    """Whether a person watches a live display, so that progress needs no lines of its own."""

    def note(self, text: str) -> None:
        """One line of information."""

    def warning(self, text: str) -> None:
        """One line about something that deserves attention but does not end the work."""
        self.note(f"warning: {text}")

    @contextmanager
    def bars(self, titles: Sequence[str]) -> Iterator[list[Update]]:
        """A progress bar per title, side by side; gives one :data:`Update` per title."""
        yield [lambda done, total, text: None for _ in titles]

    @contextmanager
    def steps(self, title: str) -> Iterator[Update]:
        """One progress bar whose updates carry a text."""
        with self.bars([title]) as (update,):
            yield update

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """One progress bar without texts: ``update(done, total)``."""
        with self.steps(title) as update:
            yield lambda done, total: update(done, total, "")

    @contextmanager
    def trainings(self, titles: Sequence[str]) -> Iterator[list[Watch]]:
        """A progress bar per training; gives one callback per training for ``nas.training.loop.fit``."""

        def callback(update: Update) -> Watch:
            return lambda p: update(p.step, p.steps, p.text())

        with self.bars(titles) as updates:
            yield [callback(update) for update in updates]

    @contextmanager
    def training(self, title: str) -> Iterator[Watch]:
        """A progress bar of one training."""
        with self.trainings([title]) as (callback,):
            yield callback
