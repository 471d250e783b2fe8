"""C3, the CSP layer of YOLOv5: two 1x1 branches, bottlenecks of a 1x1 and a 3x3 on one, concatenation, 1x1."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from search_spaces.blocks.base import Block
from search_spaces.blocks.c2f import Residual
from search_spaces.graph import Layout
from search_spaces.layers import ConvNormAct


class C3(Block):
    """Branch 1 (1x1 to ``hidden``, ``depth`` residual bottlenecks of 1x1 and 3x3), branch 2 (1x1 to ``hidden``),
    concatenation, 1x1 to ``out``."""

    family: ClassVar[str] = "c3"
    kernels: ClassVar[tuple[int, int]] = (1, 3)

    def __init__(
        self, c_in: Layout, *, out: int, hidden: int, depth: int, shortcut: bool = True, act: str = "relu"
    ) -> None:
        super().__init__(c_in, out)
        self.conv1 = ConvNormAct(c_in, (hidden,), act=act)
        self.conv2 = ConvNormAct(c_in, (hidden,), act=act)
        self.bottlenecks = nn.Sequential(*(self.unit(hidden, shortcut, act) for _ in range(depth)))
        self.conv3 = ConvNormAct((hidden, hidden), (out,), act=act)

    @classmethod
    def unit(cls, hidden: int, shortcut: bool, act: str) -> nn.Module:
        """Make one bottleneck: ``hidden`` channels in and out."""
        return Residual(hidden, cls.kernels, shortcut, act)

    def transform(self, x: Tensor) -> Tensor:
        """(N, sum(c_in), H, W) -> (N, out, H, W)."""
        out: Tensor = self.conv3(torch.cat([self.bottlenecks(self.conv1(x)), self.conv2(x)], 1))
        return out


class C3k(C3):
    """C3 with bottlenecks of two 3x3: the unit that YOLO11 and YOLO12 chain in other shells."""

    family, kernels = "c3k", (3, 3)


class LightResidual(nn.Module):
    """``x + pointwise(depthwise(conv(x)))``: a 1x1, a depthwise 3x3 and a 1x1 (shortcut optional)."""

    def __init__(self, hidden: int, shortcut: bool, act: str) -> None:
        super().__init__()
        self.conv1 = ConvNormAct((hidden,), (hidden,), act=act)
        self.depthwise = ConvNormAct((hidden,), (hidden,), 3, act=act, depthwise=True)
        self.pointwise = ConvNormAct((hidden,), (hidden,), act=act)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(N, hidden, H, W) -> the same shape."""
        y: Tensor = self.pointwise(self.depthwise(self.conv1(x)))
        return x + y if self.shortcut else y


class C3Light(C3):
    """C3 whose bottlenecks have a depthwise 3x3 and a 1x1 in the place of the 3x3: the block of YOLOX-Nano."""

    family = "c3-light"

    @classmethod
    def unit(cls, hidden: int, shortcut: bool, act: str) -> nn.Module:
        """Make one bottleneck with a depthwise conv."""
        return LightResidual(hidden, shortcut, act)
