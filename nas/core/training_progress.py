"""Reports of a running training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from search_spaces.errors import InputError


@dataclass(frozen=True)
class Progress:
    """A report of a training.

    Attributes:
        step: finished steps.
        steps: steps of the whole training.
        epoch: current epoch, from 0.
        terms: mean loss terms since the last report.
        lr: learning rate.
        images_per_s: images per second of all processes since the last report, without evaluations and checkpoints.
        memory_mib: peak memory in MiB, of the GPU where one trains, else of the process.
        metrics: metrics of the EMA weights on the val split, where they were evaluated at this step.
        tick: an update for progress bars between two reports, without losses; loggers ignore it.
        phase: what runs instead of steps, such as ``evaluating 50/200 images``.
    """

    step: int
    steps: int
    epoch: int
    terms: dict[str, float]
    lr: float
    images_per_s: float = 0.0
    memory_mib: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    tick: bool = False
    phase: str = ""

    def text(self) -> str:
        """Return one line for a person."""
        if self.phase:
            return self.phase
        parts = [f"{name} {value:.3f}" for name, value in (*self.terms.items(), *self.metrics.items())]
        if self.images_per_s:
            parts += [
                f"{self.images_per_s:.{0 if self.images_per_s >= 10 else 1}f} images/s",
                f"{self.memory_mib / 1024:.1f} GiB",
            ]
        return "  ".join(parts)


Watch = Callable[[Progress], None]


class Diverged(InputError):
    """The loss of a training became NaN, infinite, or a thousand times what it was. The command line prints one
    line: it is no defect of the program."""


class Meter:
    """Measures images per second between :meth:`start` and each :meth:`count`."""

    def __init__(self) -> None:
        self._images, self._seconds, self._since = 0, 0.0, time.perf_counter()

    def start(self) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def count(self, images: int) -> None:
        """Count images that were processed since the last call of either method."""
        now = time.perf_counter()
        self._images, self._seconds, self._since = self._images + images, self._seconds + now - self._since, now

    def rate(self) -> float:
        """Return images per second since the last call of this method."""
        rate = self._images / self._seconds if self._seconds else 0.0
        self._images, self._seconds = 0, 0.0
        return rate
