"""When a training must stop: a loss or gradients that are not finite, or a loss that explodes."""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path
from statistics import median

from nas.core import distributed as processes
from nas.core.atomic import atomic_write
from nas.core.training_progress import Diverged

EXPLODED = 1000.0
"""Times the median of the last losses; a batch without any box was seen at tens of times."""
REMEMBERED, ENOUGH = 100, 20
MIN_SCALE = 2.0**-10
"""Of fp16's losses. It is halved with every step that is left out because gradients overflowed: under it, that was no
accident (it begins at 2^16)."""
SHOWN = 8
"""File names in a message; all of them are in the file beside the checkpoint."""


class Guard:
    """Watches one training's losses. What it remembers decides nothing but whether to stop."""

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=REMEMBERED)

    def flaw(self, loss: float, first: bool) -> str:
        """What is wrong with a loss, or nothing. Only the ``first`` one of a step is compared with those before it."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not first:
            return ""
        usual = median(self._losses) if len(self._losses) >= ENOUGH else math.inf
        self._losses.append(loss)
        return f"the loss is {loss:.3g}, over {EXPLODED:.0f} times its median" if loss > EXPLODED * usual else ""


def stop_if_anywhere(
    flaw: str, step: int, files: list[str], checkpoint: tuple[Path, int] | None, asked: Path | None
) -> None:
    """Raise in all processes what one of them found in the images ``files``. ``checkpoint``: the file to go on from
    and its step; ``asked``: its path."""
    if not processes.any_process(bool(flaw)):
        return
    flaw, files = next(found for found in processes.gather((flaw, files)) if found[0])
    names = ", ".join(files[:SHOWN])
    if len(files) > SHOWN:
        names += f" and {len(files) - SHOWN} more"
        if asked is not None:
            listed = asked.with_suffix(".diverged.txt")
            names += f", all in {listed}"
            if not processes.rank():
                atomic_write(listed, "\n".join(files) + "\n")
    kept = (
        f"{checkpoint[0]} holds step {checkpoint[1]}, which was good" if checkpoint else "no checkpoint was written yet"
    )
    raise Diverged(
        f"{flaw} at step {step} (images {names}); {kept}",
        "",
        "look at these images, or begin anew (another --out) with a lower learning rate",
    )
