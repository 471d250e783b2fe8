"""What the training loop trains: a model and the losses of one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from nas.training.loss import Terms, Truth


class Task(ABC):
    """A model and the losses of one step.

    ``identity`` names what is trained: a checkpoint of another identity is refused.
    """

    model: nn.Module
    identity: str

    @abstractmethod
    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        """Yield one or more pairs of a scalar loss and its terms for ``images`` (N, 3, H, W) in 0..1.

        Each loss is back-propagated before the next one is requested. Random choices must derive from ``step``, so
        that a resumed training repeats them.
        """

    def groups(self, groups: list[dict[str, Any]], lr: float) -> list[dict[str, Any]]:
        """Divide the optimizer's parameter groups by learning rate, where parts of the model have one of their own
        (``lr``: that of the other parts)."""
        return groups

    def compile(self) -> None:
        """Compile the model's forward in place (``torch.compile``)."""
        on_gpu = next(self.model.parameters()).device.type == "cuda"
        # By default the compiler chooses channels_last, in which torch 2.13's backward of these networks crashes on
        # CPUs.
        self.model.compile(options=None if on_gpu else {"layout_optimization": False})
