"""What a person watches: progress with an ETA, the search so far. Lines instead of a live display where there is no
terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nas.core.training_progress import Watch
from nas.core.units import quantity
from nas.search.study import Event

EVERY_S = 10.0
"""Between lines where there is no terminal."""


class Display:
    """Prints notes, and progress of trainings and searches."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)

    def note(self, text: str) -> None:
        """One line for the person."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def _bars(self, titles: Sequence[str]) -> Iterator[list[Callable[[int, int, str], None]]]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(30),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
        )
        progress = Progress(
            *columns, TextColumn("ETA"), TimeRemainingColumn(), TextColumn("{task.fields[text]}"), console=self.console
        )
        with progress:
            progress.disable = not self.console.is_terminal
            yield [self._updater(progress, title) for title in titles]

    def _updater(self, progress: Progress, title: str) -> Callable[[int, int, str], None]:
        task = progress.add_task(title, total=None, text="")
        start, last, first = time.monotonic(), 0.0, 0

        def update(done: int, total: int, text: str) -> None:
            nonlocal start, last, first
            progress.update(task, completed=done, total=total, text=text)
            now = time.monotonic()
            if not first:  # what was done before this run, or took the start-up along, says nothing about the rest
                start, first = now, done
            if not self.console.is_terminal and (now - last > EVERY_S or done == total):
                last = now
                eta = f"ETA {(now - start) / (done - first) * (total - done):.0f} s  " if done > first else ""
                self.note(f"{title} {done}/{total}  {eta}{text}")

        return update

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """A bar for what counts its parts: call it with how many are done, and with all."""
        with self.steps(title) as update:
            yield lambda done, all_: update(done, all_, "")

    @contextmanager
    def trainings(self, titles: Sequence[str]) -> Iterator[list[Watch]]:
        """A watcher of each training for ``nas.training.loop.fit``."""

        def watcher(update: Callable[[int, int, str], None]) -> Watch:
            return lambda p: update(p.step, p.steps, p.text())

        with self._bars(titles) as updates:
            yield [watcher(update) for update in updates]

    @contextmanager
    def training(self, title: str) -> Iterator[Watch]:
        """A watcher of one training."""
        with self.trainings([title]) as (watch,):
            yield watch

    @contextmanager
    def steps(self, title: str) -> Iterator[Callable[[int, int, str], None]]:
        """A watcher of other long work: steps done, of how many, what the last one was."""
        with self._bars([title]) as (update,):
            yield update

    @contextmanager
    def search(self) -> Iterator[Callable[[Event], None]]:
        """A watcher for ``nas.search.study.Study.run``: candidates done, hypervolume, size of the front, the last
        candidate."""
        with self._bars(["search"]) as (update,):

            def watch(event: Event) -> None:
                volume = event.archive.hypervolume
                what = event.message or "  ".join(
                    quantity(event.candidate[o.name], False) for o in event.archive.objectives
                )  # type: ignore[index]
                text = (
                    f"front {len(event.archive.front)}"
                    + (f"  hypervolume {volume:.4g}" if volume is not None else "")
                    + f"  last: {what}"
                )
                update(event.done, event.wanted, text)
                if event.message:
                    self.note(f"candidate {event.done}: {event.message}")

            yield watch
