"""The join of three resolutions in the up path of YOLO-NAS (the topology of YOLOv6-3.0's BiFusion,
arXiv:2301.05586)."""

from __future__ import annotations

import torch
from torch import Tensor

from search_spaces.blocks.base import Block
from search_spaces.graph import Layout
from search_spaces.layers import ConvNormAct, conv_transpose2d


class BiFusion(Block):
    """Coarse map upsampled by a 2x2 transposed conv, skip of the same size by a 1x1, finer skip by a 1x1 and a
    strided 3x3; concatenation, 1x1.

    All three come to ``out`` channels; the coarse input must have ``out`` channels already (the stage's own 1x1
    reduction, which the down path uses too).
    """

    family = "bifusion"

    def __init__(self, c_in: Layout, *, out: int, act: str = "relu") -> None:
        super().__init__(c_in, out)
        coarse, same, fine = c_in
        self.up = conv_transpose2d((coarse,), (out,), 2, 2)
        self.same = ConvNormAct((same,), (out,), act=act)
        self.fine = ConvNormAct((fine,), (out,), act=act)
        self.down = ConvNormAct((out,), (out,), 3, 2, act=act)
        self.merge = ConvNormAct((out, out, out), (out,), act=act)

    def forward(self, *inputs: Tensor) -> Tensor:
        """(N, c0, H/2, W/2), (N, c1, H, W), (N, c2, 2H, 2W) -> (N, out, H, W)."""
        coarse, same, fine = inputs
        out: Tensor = self.merge(torch.cat([self.up(coarse), self.same(same), self.down(self.fine(fine))], 1))
        return out
