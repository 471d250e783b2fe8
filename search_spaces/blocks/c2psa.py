"""C2PSA, the attention of YOLO11 and YOLO26 after the backbone: on half of the channels (shapes as in Ultralytics'
documentation of the models)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces.blocks.attention import psa
from search_spaces.blocks.base import Block
from search_spaces.graph import Layout
from search_spaces.layers import ConvNormAct


class C2PSA(Block):
    """1x1 to two parts of ``hidden``, ``depth`` attention blocks on the second, concatenation, 1x1 to ``out``."""

    family = "c2psa"

    def __init__(self, c_in: Layout, *, out: int, hidden: int, depth: int, act: str = "relu") -> None:
        super().__init__(c_in, out)
        self.hidden = hidden
        self.conv1 = ConvNormAct(c_in, (hidden, hidden), act=act)
        self.attention = nn.Sequential(*(psa(hidden, act) for _ in range(depth)))
        self.conv2 = ConvNormAct((hidden, hidden), (out,), act=act)

    def transform(self, x: Tensor) -> Tensor:
        """(N, sum(c_in), H, W) -> (N, out, H, W)."""
        kept, mixed = self.conv1(x).split(self.hidden, 1)
        out: Tensor = self.conv2(torch.cat([kept, self.attention(mixed)], 1))
        return out
