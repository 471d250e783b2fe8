"""Loggers of trainings by name. ``csv`` always takes part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas.core.training_progress import Progress, Watch
from nas.training.loggers.base import Logger
from search_spaces.registry import Registry

LOGGERS: Registry[type[Logger]] = Registry(
    "nas.loggers",
    {
        "csv": "nas.training.loggers.csv:CsvLogger",
        "tensorboard": "nas.training.loggers.tensorboard:TensorBoardLogger",
        "wandb": "nas.training.loggers.wandb:WandbLogger",
    },
)


class Logged:
    """A watch that also passes reports to the loggers of the training that writes ``weights``.

    A context manager, which closes the loggers. ``names``: loggers besides CSV; ``settings``: JSON-ready description
    of the training.
    """

    def __init__(self, watch: Watch, names: Sequence[str], weights: Path, settings: dict[str, Any]) -> None:
        self._watch = watch
        self._loggers = [LOGGERS[name](weights, settings) for name in dict.fromkeys(("csv", *names))]

    def __call__(self, progress: Progress) -> None:
        if not progress.tick:
            for logger in self._loggers:
                logger.log(progress)
        self._watch(progress)

    def __enter__(self) -> Logged:
        return self

    def __exit__(self, *_: object) -> None:
        for logger in self._loggers:
            logger.close()
