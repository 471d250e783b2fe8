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
        self.bottlenecks = nn.Sequential(*(Residual(hidden, self.kernels, shortcut, act) for _ in range(depth)))
        self.conv3 = ConvNormAct((hidden, hidden), (out,), act=act)

    def transform(self, x: Tensor) -> Tensor:
        """(N, sum(c_in), H, W) -> (N, out, H, W)."""
        out: Tensor = self.conv3(torch.cat([self.bottlenecks(self.conv1(x)), self.conv2(x)], 1))
        return out


class C3k(C3):
    """C3 with bottlenecks of two 3x3: the unit that YOLO11 and YOLO12 chain in other shells."""

    family, kernels = "c3k", (3, 3)
