"""C2f, the CSP layer of YOLOv8: a split, a chain of bottlenecks, every intermediate result concatenated."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces.blocks.base import Block
from search_spaces.graph import Layout
from search_spaces.layers import ConvNormAct


class Residual(nn.Module):
    """``x + conv(conv(x))`` with the two kernels given (shortcut optional) and ``inner`` channels between them
    (``hidden`` by default)."""

    def __init__(
        self, hidden: int, kernels: tuple[int, int], shortcut: bool, act: str, inner: int | None = None
    ) -> None:
        super().__init__()
        inner = inner or hidden
        self.conv1 = ConvNormAct((hidden,), (inner,), kernels[0], act=act)
        self.conv2 = ConvNormAct((inner,), (hidden,), kernels[1], act=act)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(N, hidden, H, W) -> the same shape."""
        y: Tensor = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class C2f(Block):
    """1x1 to two parts of ``hidden``, ``depth`` units chained on the second, all 2 + depth concatenated, 1x1 to
    ``out``.

    A unit is a residual bottleneck of two 3x3; the blocks that YOLO11 and later put into this shell override
    :meth:`unit`.
    """

    family = "c2f"

    def __init__(
        self, c_in: Layout, *, out: int, hidden: int, depth: int, shortcut: bool = True, act: str = "relu"
    ) -> None:
        super().__init__(c_in, out)
        self.hidden = hidden
        self.conv1 = ConvNormAct(c_in, (hidden, hidden), act=act)
        self.bottlenecks = nn.ModuleList(self.unit(hidden, shortcut, act) for _ in range(depth))
        self.conv2 = ConvNormAct((hidden,) * (2 + depth), (out,), act=act)

    @staticmethod
    def unit(hidden: int, shortcut: bool, act: str) -> nn.Module:
        """Make one unit of the chain: ``hidden`` channels in and out."""
        return Residual(hidden, (3, 3), shortcut, act)

    def transform(self, x: Tensor) -> Tensor:
        """(N, sum(c_in), H, W) -> (N, out, H, W)."""
        y = list(self.conv1(x).split(self.hidden, 1))
        for bottleneck in self.bottlenecks:
            y.append(bottleneck(y[-1]))
        out: Tensor = self.conv2(torch.cat(y, 1))
        return out
