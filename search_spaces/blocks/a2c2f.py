"""A2C2f, the layer of YOLO12 (Tian et al., arXiv:2502.12524): a chain of area-attention blocks, or of convolutional
units, every result concatenated."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from search_spaces.blocks.attention import area
from search_spaces.blocks.base import Block
from search_spaces.blocks.c3 import C3k
from search_spaces.graph import Layout
from search_spaces.layers import ConvNormAct

SCALE = 0.01  # of the outer residual at first, arXiv:2103.17239


class A2C2f(Block):
    """1x1 to ``hidden``, ``depth`` units chained, all 1 + depth concatenated, 1x1 to ``out``; a unit is two
    area-attention blocks.

    ``strips``: the areas that positions attend within.
    """

    family: ClassVar[str] = "a2c2f"
    ratio: ClassVar[float] = 2.0
    residual: ClassVar[bool] = False

    def __init__(self, c_in: Layout, *, out: int, hidden: int, depth: int, strips: int = 1, act: str = "relu") -> None:
        super().__init__(c_in, out)
        self.strips = strips
        self.conv1 = ConvNormAct(c_in, (hidden,), act=act)
        self.units = nn.ModuleList(self.unit(hidden, act) for _ in range(depth))
        self.conv2 = ConvNormAct((hidden,) * (1 + depth), (out,), act=act)
        self.scale = Scale(out) if self.residual and c_in == (out,) else None

    def unit(self, hidden: int, act: str) -> nn.Module:
        """Make one unit of the chain: ``hidden`` channels in and out."""
        return nn.Sequential(*(area(hidden, self.strips, self.ratio, act) for _ in "12"))

    def transform(self, x: Tensor) -> Tensor:
        """(N, sum(c_in), H, W) -> (N, out, H, W)."""
        y = [self.conv1(x)]
        for unit in self.units:
            y.append(unit(y[-1]))
        out: Tensor = self.conv2(torch.cat(y, 1))
        return out if self.scale is None else x + self.scale(out)


class A2C2fLarge(A2C2f):
    """Of YOLO12 l and x: a narrower MLP, and the input added to the result, which is scaled per channel."""

    family, ratio, residual = "a2c2f-large", 1.2, True


class R2C2f(A2C2f):
    """The same shell around C3k units: A2C2f without its attention, as YOLO12's neck has it."""

    family = "r2c2f"

    def unit(self, hidden: int, act: str) -> nn.Module:
        """Make a C3k with half the channels inside."""
        return C3k((hidden,), out=hidden, hidden=hidden // 2, depth=2, act=act)


class Scale(nn.Module):
    """A learned factor per channel (LayerScale, arXiv:2103.17239)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels, 1, 1), SCALE))
        self.layouts = ((channels,),)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        return x * self.gamma
