"""What a training tells and keeps, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from nas.training.loggers import LOGGERS
from search_spaces.errors import InputError


@dataclass(frozen=True)
class Records:
    """What a training tells and keeps besides its weights: ``loggers`` besides CSV, an evaluation every so many
    epochs (0: at the end only), and, in ``<weights>.best.safetensors``, the averaged weights that did best in one."""

    loggers: tuple[str, ...] = ()
    eval_every: int = 0
    keep_best: bool = False

    def __post_init__(self) -> None:
        for name in self.loggers:
            LOGGERS[name]
        if self.eval_every < 0 or (self.keep_best and not self.eval_every):
            raise InputError(
                f"evaluation every {self.eval_every} epochs",
                "1 or more to keep the best" if self.keep_best else "0 or more",
            )


UNRECORDED = Records()
"""CSV, and an evaluation at the end."""
