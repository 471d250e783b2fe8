"""The blocks of YOLOv9 (arXiv:2402.13616, section 4): GELAN with CSP layers of RepConv, and its two ways to halve.

Shapes as in the paper and in the MIT-licensed implementation of its authors (MultimediaTechLab/YOLO).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces.blocks.base import Block
from search_spaces.graph import Layout
from search_spaces.layers import ConvNormAct, RepVGG


class RepBottleneck(nn.Module):
    """``x + conv(rep(x))``: a 3x3 beside a 1x1 without identity branch (RepConv), then a 3x3."""

    def __init__(self, channels: int, act: str) -> None:
        super().__init__()
        self.rep = RepVGG((channels,), (channels,), identity=False, act=act)
        self.conv = ConvNormAct((channels,), (channels,), 3, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        y: Tensor = self.conv(self.rep(x))
        return x + y


class RepCSP(nn.Module):
    """Two 1x1 to half of ``out`` channels, ``depth`` bottlenecks on the first; concatenation, 1x1 to ``out``."""

    def __init__(self, c_in: Layout, out: int, depth: int, act: str) -> None:
        super().__init__()
        half = out // 2
        self.conv1 = ConvNormAct(c_in, (half,), act=act)
        self.conv2 = ConvNormAct(c_in, (half,), act=act)
        self.bottlenecks = nn.Sequential(*(RepBottleneck(half, act) for _ in range(depth)))
        self.conv3 = ConvNormAct((half, half), (out,), act=act)

    def forward(self, x: Tensor) -> Tensor:
        """(N, sum(c_in), H, W) -> (N, out, H, W)."""
        y: Tensor = self.conv3(torch.cat([self.bottlenecks(self.conv1(x)), self.conv2(x)], 1))
        return y


class GELAN(Block):
    """1x1 to two parts of ``hidden``; two stages of a CSP layer and a 3x3, chained on the second part; all four
    concatenated, 1x1 to ``out``. The authors call it RepNCSPELAN4.

    ``depth``: bottlenecks in each of the two CSP layers.
    """

    family = "gelan"

    def __init__(self, c_in: Layout, *, out: int, hidden: int, depth: int, act: str = "relu") -> None:
        super().__init__(c_in, out)
        self.hidden = hidden
        self.conv1 = ConvNormAct(c_in, (hidden, hidden), act=act)
        self.csps = nn.ModuleList(RepCSP((hidden,), hidden, depth, act) for _ in range(2))
        self.convs = nn.ModuleList(ConvNormAct((hidden,), (hidden,), 3, act=act) for _ in range(2))
        self.merge = ConvNormAct((hidden,) * 4, (out,), act=act)

    def transform(self, x: Tensor) -> Tensor:
        """(N, sum(c_in), H, W) -> (N, out, H, W)."""
        y = list(self.conv1(x).split(self.hidden, 1))
        for csp, conv in zip(self.csps, self.convs, strict=True):
            y.append(conv(csp(y[-1])))
        out: Tensor = self.merge(torch.cat(y, 1))
        return out


class AConv(Block):
    """2x2 mean of stride 1 and a 3x3 of stride 2: the halving of YOLOv9 T, S and M."""

    family = "aconv"

    def __init__(self, c_in: Layout, *, out: int, act: str = "relu") -> None:
        super().__init__(c_in, out)
        self.pool = nn.AvgPool2d(2, 1)
        self.conv = ConvNormAct(c_in, (out,), 3, 2, act)

    def transform(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, out, H/2, W/2), H and W even."""
        y: Tensor = self.conv(self.pool(x))
        return y


class ADown(Block):
    """One half of the halving of YOLOv9-C: 2x2 mean of stride 1 on every second channel, then a 3x3 of stride 2, or
    (``pooled``) a 3x3 max-pool of stride 2 and a 1x1.

    A cell without ``pooled`` reads the even channels, one with it the odd ones; whatever follows reads both. The
    original reads the first and the last half of the channels, which is the same network with its channels in another
    order. In this order the leading channels of the input are the leading channels of both halves, so that a narrower
    network is a slice of a wider one.
    """

    family = "adown"

    def __init__(self, c_in: Layout, *, out: int, pooled: bool = False, act: str = "relu") -> None:
        super().__init__(c_in, out)
        self.first = int(pooled)
        self.mean = nn.AvgPool2d(2, 1)
        self.pool = nn.MaxPool2d(3, 2, 1) if pooled else None
        half = (sum(c_in) // 2,)
        self.conv = ConvNormAct(half, (out,), act=act) if pooled else ConvNormAct(half, (out,), 3, 2, act)

    def transform(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, out, H/2, W/2), all three even."""
        y = self.mean(x[:, self.first :: 2])
        out: Tensor = self.conv(y if self.pool is None else self.pool(y))
        return out
