"""Spatial pyramid pooling (He et al., arXiv:1406.4729) in the forms that YOLOs give it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces.blocks.base import Block
from search_spaces.graph import Layout
from search_spaces.layers import ConvNormAct


def max_pool(kernel: int) -> nn.MaxPool2d:
    """Make a max-pooling of stride 1 that keeps the size."""
    return nn.MaxPool2d(kernel, 1, kernel // 2)


class SPP(Block):
    """1x1 to half the channels, max-pools of 5, 9 and 13 (stride 1) in parallel, concatenation of the four, 1x1 to
    ``out``."""

    family = "spp"

    def __init__(self, c_in: Layout, *, out: int, act: str = "relu") -> None:
        super().__init__(c_in, out)
        hidden = sum(c_in) // 2
        self.conv1 = ConvNormAct(c_in, (hidden,), act=act)
        self.pools = nn.ModuleList(max_pool(kernel) for kernel in (5, 9, 13))
        self.conv2 = ConvNormAct((hidden,) * 4, (out,), act=act)

    def transform(self, x: Tensor) -> Tensor:
        """(N, sum(c_in), H, W) -> (N, out, H, W)."""
        x = self.conv1(x)
        out: Tensor = self.conv2(torch.cat([x, *(pool(x) for pool in self.pools)], 1))
        return out


class SPPF(Block):
    """SPP as YOLOv5 6.0 made it fast: three max-pools of 5 one after the other, which reach as far as 5, 9 and 13
    side by side.

    YOLO26 adds its input to the result (``shortcut``) and leaves the first 1x1 without activation (``bare``).
    """

    family = "sppf"

    def __init__(
        self, c_in: Layout, *, out: int, shortcut: bool = False, bare: bool = False, act: str = "relu"
    ) -> None:
        super().__init__(c_in, out)
        hidden = sum(c_in) // 2
        self.conv1 = ConvNormAct(c_in, (hidden,), act="identity" if bare else act)
        self.pool = max_pool(5)
        self.conv2 = ConvNormAct((hidden,) * 4, (out,), act=act)
        self.shortcut = shortcut and c_in == (out,)

    def transform(self, x: Tensor) -> Tensor:
        """(N, sum(c_in), H, W) -> (N, out, H, W)."""
        parts = [self.conv1(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        out: Tensor = self.conv2(torch.cat(parts, 1))
        return out + x if self.shortcut else out


class SPPCSP(Block):
    """Pooling inside a CSP: three convs (1x1, 3x3, 1x1), the pools, two convs (1x1, 3x3), beside a 1x1;
    concatenation, 1x1 to ``out``.

    ``chained`` pools are 5 one after the other (YOLOv6's SimCSPSPPF, arXiv:2301.05586), else 5, 9 and 13 side by side
    (YOLOv7's SPPCSPC, arXiv:2207.02696). ``light`` has only the 1x1 of each group (YOLOv7-tiny).
    """

    family = "sppcsp"

    def __init__(
        self, c_in: Layout, *, out: int, hidden: int, chained: bool = False, light: bool = False, act: str = "relu"
    ) -> None:
        super().__init__(c_in, out)
        one = (hidden,)
        self.before = nn.Sequential(
            ConvNormAct(c_in, one, act=act),
            *(() if light else (ConvNormAct(one, one, 3, act=act), ConvNormAct(one, one, act=act))),
        )
        self.pools = nn.ModuleList(max_pool(kernel) for kernel in ((5, 5, 5) if chained else (5, 9, 13)))
        self.chained = chained
        self.after = nn.Sequential(
            ConvNormAct(one * 4, one, act=act), *(() if light else (ConvNormAct(one, one, 3, act=act),))
        )
        self.beside = ConvNormAct(c_in, one, act=act)
        self.merge = ConvNormAct(one * 2, (out,), act=act)

    def transform(self, x: Tensor) -> Tensor:
        """(N, sum(c_in), H, W) -> (N, out, H, W)."""
        parts = [self.before(x)]
        for pool in self.pools:
            parts.append(pool(parts[-1 if self.chained else 0]))
        out: Tensor = self.merge(torch.cat([self.after(torch.cat(parts, 1)), self.beside(x)], 1))
        return out
