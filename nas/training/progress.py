"""What a training tells while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """What a watcher is told: steps done of all, epoch from 0, mean loss terms since the last report, learning rate."""

    step: int
    steps: int
    epoch: int
    terms: dict[str, float]
    lr: float


Watch = Callable[[Progress], None]


class Diverged(RuntimeError):
    """The loss became NaN or infinite."""
