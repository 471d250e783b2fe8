"""What a training tells while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from search_spaces.errors import InputError


@dataclass(frozen=True)
class Progress:
    """What a watcher is told: steps done of all, epoch from 0, mean loss terms since the last report, learning rate.

    ``images_per_s``: of all processes, since the last report, evaluation and saving left out. ``memory_mib``: the
    most that was held so far, of the GPU where one trains, else of the process. ``metrics``: of the averaged weights
    on val, where they were evaluated at this step.
    """

    step: int
    steps: int
    epoch: int
    terms: dict[str, float]
    lr: float
    images_per_s: float = 0.0
    memory_mib: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)

    def text(self) -> str:
        """One line for a person."""
        parts = [f"{name} {value:.3f}" for name, value in (*self.terms.items(), *self.metrics.items())]
        if self.images_per_s:
            parts += [
                f"{self.images_per_s:.{0 if self.images_per_s >= 10 else 1}f} images/s",
                f"{self.memory_mib / 1024:.1f} GiB",
            ]
        return "  ".join(parts)


Watch = Callable[[Progress], None]


class Diverged(InputError):
    """The loss became NaN, infinite or a thousand times what it was: no defect of the program, so the command line
    says it in one line."""


class Meter:
    """Images per second of what is timed: from :meth:`start` to each :meth:`count`."""

    def __init__(self) -> None:
        self._images, self._seconds, self._since = 0, 0.0, time.perf_counter()

    def start(self) -> None:
        """Time runs from now."""
        self._since = time.perf_counter()

    def count(self, images: int) -> None:
        """So many were done since the last call of either."""
        now = time.perf_counter()
        self._images, self._seconds, self._since = self._images + images, self._seconds + now - self._since, now

    def rate(self) -> float:
        """Since the last call."""
        rate = self._images / self._seconds if self._seconds else 0.0
        self._images, self._seconds = 0, 0.0
        return rate
