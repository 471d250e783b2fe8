"""What every logger is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from nas.core.training_progress import Progress


class Logger(ABC):
    """Keeps what one training tells. Nothing is written before the first report; what a resumed training tells again
    replaces what it told before.

    ``weights`` is the file that the training writes: a logger puts its own beside it. ``settings`` (JSON-ready) say
    what is trained, and how.
    """

    @abstractmethod
    def __init__(self, weights: Path, settings: dict[str, Any]) -> None: ...

    @abstractmethod
    def log(self, progress: Progress) -> None:
        """One report: steps ascend, each comes once."""

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """The training has ended, or was stopped."""


def numbers(progress: Progress) -> dict[str, float]:
    """A report's figures by name, without those that were not measured."""
    return {
        "epoch": progress.epoch,
        **progress.terms,
        "lr": progress.lr,
        "images_per_s": progress.images_per_s,
        "memory_mib": progress.memory_mib,
        **{f"val_{name}": value for name, value in progress.metrics.items()},
    }
