"""The interface of loggers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from nas.core.training_progress import Progress


class Logger(ABC):
    """Records the progress of one training.

    A logger writes nothing before the first report. Reports that a resumed training repeats replace the earlier ones.

    Args:
        weights: Weights file that the training writes. A logger writes its file into the same folder.
        settings: Settings of the training, JSON-ready.
    """

    @abstractmethod
    def __init__(self, weights: Path, settings: dict[str, Any]) -> None: ...

    @abstractmethod
    def log(self, progress: Progress) -> None:
        """Record one report. Steps ascend, and each step is reported once.

        Raises InputError if the report cannot be written.
        """

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """End the record: the training has ended or was stopped."""


def numbers(progress: Progress) -> dict[str, float]:
    """Return the values of a report by name, without those that were not measured."""
    return {
        "epoch": progress.epoch,
        **progress.terms,
        "lr": progress.lr,
        "images_per_s": progress.images_per_s,
        "memory_mib": progress.memory_mib,
        **{f"val_{name}": value for name, value in progress.metrics.items()},
    }
