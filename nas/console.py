"""What a person watches: progress with an ETA, the search so far. Lines instead of a live display where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nas.report.quantities import quantity
from nas.study import Event
from nas.training.loop import Progress as TrainingProgress

EVERY_S = 10.0
"""Between lines where there is no terminal."""


class Display:
    """Prints notes, and progress of trainings and searches."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._last = 0.0

    def note(self, text: str) -> None:
        """One line for the person."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def _bar(self, title: str) -> Iterator[Callable[[int, int, str], None]]:
        columns = (TextColumn("{task.description}"), BarColumn(30), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())
        progress = Progress(*columns, TextColumn("ETA"), TimeRemainingColumn(), TextColumn("{task.fields[text]}"), console=self.console)
        start, first = time.monotonic(), [0]
        with progress:
            task = progress.add_task(title, total=None, text="")

            def update(done: int, total: int, text: str) -> None:
                progress.update(task, completed=done, total=total, text=text)
                first[0] = first[0] or done
                now = time.monotonic()
                if not self.console.is_terminal and (now - self._last > EVERY_S or done == total):
                    self._last = now
                    left = (now - start) / max(1, done - first[0] + 1) * (total - done)
                    self.note(f"{title} {done}/{total}  {now - start:.0f} s, ETA {left:.0f} s  {text}")

            progress.disable = not self.console.is_terminal
            yield update

    @contextmanager
    def training(self, title: str) -> Iterator[Callable[[TrainingProgress], None]]:
        """A watcher for ``nas.training.loop.fit``."""
        with self._bar(title) as update:
            yield lambda p: update(p.step, p.steps, "  ".join(f"{k} {v:.3f}" for k, v in p.terms.items()))

    @contextmanager
    def search(self) -> Iterator[Callable[[Event], None]]:
        """A watcher for ``nas.study.Study.run``: candidates done, hypervolume, size of the front, the last candidate."""
        with self._bar("search") as update:

            def watch(event: Event) -> None:
                volume = event.archive.hypervolume
                what = event.message or "  ".join(quantity(event.candidate[o.name], False) for o in event.archive.objectives)  # type: ignore[index]
                text = f"front {len(event.archive.front)}" + (f"  hypervolume {volume:.4g}" if volume is not None else "") + f"  last: {what}"
                update(event.done, event.wanted, text)
                if event.message:
                    self.note(f"candidate {event.done}: {event.message}")

            yield watch
