"""A logger that writes TensorBoard event files in ``<weights>.tensorboard/`` (extra ``tensorboard``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nas.core.training_progress import Progress
from nas.training.loggers.base import Logger, numbers
from search_spaces.errors import InputError


class TensorBoardLogger(Logger):
    """Writes one scalar per value and step. TensorBoard drops earlier values of repeated steps (``purge_step``).

    Raises InputError if TensorBoard is not installed.
    """

    def __init__(self, weights: Path, settings: dict[str, Any]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError(f"--logger tensorboard: {error}", hint="pip install 'hw-nas-yolo[tensorboard]'") from None
        self._open = SummaryWriter
        self._folder = weights.with_suffix(".tensorboard")
        self._writer: Any = None

    def log(self, progress: Progress) -> None:
        """Write one scalar per value of a report."""
        if self._writer is None:
            self._writer = self._open(str(self._folder), purge_step=progress.step)
        for name, value in numbers(progress).items():
            self._writer.add_scalar(name, value, progress.step)
        self._writer.flush()

    def close(self) -> None:
        """Write buffered values and close the file."""
        if self._writer is not None:
            self._writer.close()
