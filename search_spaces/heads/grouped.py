"""The head of YOLOv9 (arXiv:2402.13616): decoupled, with the four sides in groups of their own in the box branch."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from search_spaces.graph import Layout
from search_spaces.heads.base import Head, Levels
from search_spaces.heads.decoupled import Branch
from search_spaces.heads.dfl import class_conv, side_bias
from search_spaces.layers import ConvNormAct, divisible, grouped2d

SIDES = 4
CLASS_WIDTH = 128
"""A class branch is at most so wide for the classes' sake."""


class BoxBranch(nn.Module):
    """A 3x3 to ``width`` channels, a 3x3 and a 1x1 in :data:`SIDES` groups: ``bins`` values of each side."""

    def __init__(self, c_in: int, width: int, bins: int, act: str) -> None:
        super().__init__()
        sides = (width // SIDES,) * SIDES
        self.convs = nn.Sequential(
            ConvNormAct((c_in,), sides, 3, act=act), ConvNormAct(sides, sides, 3, act=act, grouped=True)
        )
        self.last = grouped2d(sides, (bins,) * SIDES, bias=True)
        nn.init.constant_(side_bias(self.last), 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """(N, c_in, H, W) -> (N, 4 * bins, H, W)."""
        y: Tensor = self.last(self.convs(x))
        return y


class GroupedHead(Head):
    """YOLOv9's. Widths follow from the finest level's channels and the classes; ``bins`` of each side's
    distribution. ``narrow``: a class branch is at least as wide as the classes and not as twice their number (T)."""

    family: ClassVar[str] = "decoupled-grouped"

    def __init__(
        self, c_in: Layout, *, num_classes: int, bins: int = 16, narrow: bool = False, act: str = "relu"
    ) -> None:
        super().__init__(c_in, num_classes)
        box = max(divisible(c_in[0] // 4, SIDES), SIDES * bins)
        label = max(c_in[0], min(num_classes if narrow else 2 * num_classes, CLASS_WIDTH))
        self.box = nn.ModuleList(BoxBranch(c, box, bins, act) for c in c_in)
        self.label = nn.ModuleList(Branch(c, label, class_conv(label, num_classes), False, act) for c in c_in)

    def forward(self, *features: Tensor) -> Levels:
        """Return per level (N, classes, H, W) and (N, 4 * bins, H, W)."""
        return tuple((label(x), box(x)) for x, box, label in zip(features, self.box, self.label, strict=True))
