"""Spatial pyramid pooling (He et al., arXiv:1406.4729) in the parallel form of YOLO-NAS."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces.blocks.base import Block
from search_spaces.graph import Layout
from search_spaces.layers import ConvNormAct


class SPP(Block):
    """1x1 to half the channels, max-pools of 5, 9 and 13 (stride 1) in parallel, concatenation of the four, 1x1 to ``out``."""

    family = "spp"

    def __init__(self, c_in: Layout, *, out: int, act: str = "relu") -> None:
        super().__init__(c_in, out)
        hidden = sum(c_in) // 2
        self.conv1 = ConvNormAct(c_in, (hidden,), act=act)
        self.pools = nn.ModuleList(nn.MaxPool2d(kernel, 1, kernel // 2) for kernel in (5, 9, 13))
        self.conv2 = ConvNormAct((hidden,) * 4, (out,), act=act)

    def transform(self, x: Tensor) -> Tensor:
        """(N, sum(c_in), H, W) -> (N, out, H, W)."""
        x = self.conv1(x)
        out: Tensor = self.conv2(torch.cat([x, *(pool(x) for pool in self.pools)], 1))
        return out
