"""ELAN, the layer of YOLOv7 (arXiv:2207.02696): a chain of convolutions, results along it concatenated."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from search_spaces.blocks.base import Block
from search_spaces.graph import Layout
from search_spaces.layers import ConvNormAct


class ELAN(Block):
    """Two 1x1 to ``hidden``; on the second ``depth`` groups of ``convs`` 3x3 with ``inner`` channels; 2 + depth
    results concatenated, 1x1 to ``out``."""

    family = "elan"

    def __init__(
        self, c_in: Layout, *, out: int, hidden: int, inner: int, depth: int, convs: int = 2, act: str = "relu"
    ) -> None:
        super().__init__(c_in, out)
        self.conv1 = ConvNormAct(c_in, (hidden,), act=act)
        self.conv2 = ConvNormAct(c_in, (hidden,), act=act)
        widths = [hidden] + [inner] * (depth * convs)
        chain = [ConvNormAct((a,), (b,), 3, act=act) for a, b in pairwise(widths)]
        self.groups = nn.ModuleList(nn.Sequential(*chain[i * convs : (i + 1) * convs]) for i in range(depth))
        self.merge = ConvNormAct((hidden, hidden, *(inner,) * depth), (out,), act=act)

    def transform(self, x: Tensor) -> Tensor:
        """(N, sum(c_in), H, W) -> (N, out, H, W)."""
        y = [self.conv1(x), self.conv2(x)]
        for group in self.groups:
            y.append(group(y[-1]))
        out: Tensor = self.merge(torch.cat(y, 1))
        return out
