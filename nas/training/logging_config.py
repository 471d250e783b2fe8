"""What a training logs, evaluates and keeps while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from nas.training.loggers import LOGGERS
from search_spaces.errors import InputError
from search_spaces.text import counted


@dataclass(frozen=True)
class LoggingConfig:
    """Loggers, evaluations and kept weights of one training.

    ``loggers``: names of loggers besides CSV. ``eval_every``: epochs between two evaluations on the val split; 0
    evaluates at the end only. ``keep_best``: write the EMA weights of the best evaluation to
    ``<weights>.best.safetensors``.
    """

    loggers: tuple[str, ...] = ()
    eval_every: int = 0
    keep_best: bool = False

    def __post_init__(self) -> None:
        for name in self.loggers:
            LOGGERS[name]
        if self.eval_every < 0 or (self.keep_best and not self.eval_every):
            raise InputError(
                f"evaluation every {counted(self.eval_every, 'epoch')}",
                "1 or more to keep the best" if self.keep_best else "0 or more",
            )
