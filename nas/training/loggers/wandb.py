"""A logger for Weights & Biases (extra ``wandb``). Runs are offline, in ``<weights>.wandb/``, unless the environment
variable ``WANDB_MODE`` is set."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from nas.core.training_progress import Progress
from nas.training.loggers.base import Logger, numbers
from search_spaces.errors import InputError


class WandbLogger(Logger):
    """Records one run per training; ``wandb sync`` uploads an offline run.

    The id of the run is a hash of the path of the weights, so that a resumed training continues its run. Raises
    InputError if wandb is not installed.
    """

    def __init__(self, weights: Path, settings: dict[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise InputError(f"--logger wandb: {error}", hint="pip install 'hw-nas-yolo[wandb]'") from None
        self._wandb = wandb
        self._weights, self._settings = weights, settings
        self._run: Any = None

    def log(self, progress: Progress) -> None:
        """Record all values of a report under its step."""
        if self._run is None:
            folder = self._weights.with_suffix(".wandb")
            folder.mkdir(parents=True, exist_ok=True)
            self._run = self._wandb.init(
                project="hw-nas-yolo",
                name=self._weights.stem,
                id=hashlib.sha256(str(self._weights.resolve()).encode()).hexdigest()[:16],
                dir=str(folder),
                config=self._settings,
                mode=os.environ.get("WANDB_MODE", "offline"),
                resume="allow",
                settings=self._wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
            )
        self._run.log(numbers(progress), step=progress.step)

    def close(self) -> None:
        """End the run."""
        if self._run is not None:
            self._run.finish()
