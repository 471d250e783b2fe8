"""Conditions that end a training: a loss or gradients that are not finite, or a loss that explodes."""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path
from statistics import median

from nas.core import distributed as processes
from nas.core.atomic import atomic_write
from nas.core.training_progress import Diverged

EXPLODED = 1000.0
"""Multiple of the median of the last losses. A batch without any box reaches tens of times the median."""
REMEMBERED, ENOUGH = 100, 20
MIN_SCALE = 2.0**-10
"""Smallest loss scale of fp16. The scale begins at 2^16 and is halved with every skipped step whose gradients
overflowed."""
SHOWN = 8
"""Most file names in a message; all are in the file beside the checkpoint."""


class Guard:
    """Watches the losses of one training. Its memory affects nothing but the decision to stop."""

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=REMEMBERED)

    def flaw(self, loss: float, first: bool) -> str:
        """Return what is wrong with a loss, or an empty text. Only the ``first`` loss of a step is compared with earlier
        ones."""
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
    """Raises Diverged in all processes if one of them found a flaw.

    Args:
        flaw: what is wrong in this process; empty for nothing.
        step: the step.
        files: images of the batch.
        checkpoint: the checkpoint that was written last, and its step.
        asked: path of the checkpoint, if there is to be one.
    """
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
