"""The decoupled head of YOLO-NAS: per level a shared stem, one conv per branch, box sides as distributions (DFL,
arXiv:2006.04388)."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor, nn

from search_spaces.graph import Layout
from search_spaces.heads.base import Head, Levels
from search_spaces.layers import ConvNormAct, conv2d

PRIOR = 0.01  # initial class probability, Lin et al., arXiv:1708.02002


def class_conv(c_in: int, num_classes: int) -> nn.Conv2d:
    """Make the 1x1 conv to class logits, biased so that every class begins at :data:`PRIOR`."""
    conv = conv2d((c_in,), (num_classes,), bias=True)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, -math.log((1 - PRIOR) / PRIOR))
    conv.class_rows = (1, 0)  # type: ignore[assignment]
    return conv


def side_bias(conv: nn.Conv2d) -> Tensor:
    """Return the bias (out,) of a conv to box sides: one number per output channel."""
    assert conv.bias is not None
    return conv.bias


class Level(nn.Module):
    """One resolution: 1x1 stem to ``width``, a 3x3 and a 1x1 per branch."""

    def __init__(self, c_in: int, width: int, num_classes: int, bins: int, act: str) -> None:
        super().__init__()
        self.stem = ConvNormAct((c_in,), (width,), act=act)
        self.cls_conv = ConvNormAct((width,), (width,), 3, act=act)
        self.reg_conv = ConvNormAct((width,), (width,), 3, act=act)
        self.cls = class_conv(width, num_classes)
        self.reg = conv2d((width,), (4 * bins,), bias=True)
        if bins == 1:  # sides themselves: boxes of two strides to begin with
            nn.init.constant_(side_bias(self.reg), 1.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, c_in, H, W) -> (N, classes, H, W), (N, 4 * bins, H, W)."""
        x = self.stem(x)
        return self.cls(self.cls_conv(x)), self.reg(self.reg_conv(x))


class DFLHead(Head):
    """``widths`` channels per level; each side l, t, r, b in strides is the mean of a distribution over
    0..``reg_max``."""

    family: ClassVar[str] = "dfl"

    def __init__(self, c_in: Layout, *, num_classes: int, widths: Layout, reg_max: int = 16, act: str = "relu") -> None:
        super().__init__(c_in, num_classes)
        self.reg_max = reg_max
        self.levels = nn.ModuleList(
            Level(c, w, num_classes, reg_max + 1, act) for c, w in zip(c_in, widths, strict=True)
        )

    def forward(self, *features: Tensor) -> Levels:
        """Return per level (N, classes, H, W) and (N, 4 * (reg_max + 1), H, W)."""
        return tuple(level(x) for level, x in zip(self.levels, features, strict=True))


class SidesHead(DFLHead):
    """The same with the sides predicted themselves, as YOLOv6 N and S have it."""

    family = "sides"

    def __init__(self, c_in: Layout, *, num_classes: int, widths: Layout, act: str = "relu") -> None:
        super().__init__(c_in, num_classes=num_classes, widths=widths, reg_max=0, act=act)
