"""Single convolutions as cells: stems, downsampling, channel reduction."""

from __future__ import annotations

from torch import Tensor

from search_spaces.blocks.base import Block
from search_spaces.graph import Layout
from search_spaces.layers import ConvNormAct, QARepVGG


class Conv(Block):
    """Conv, BatchNorm, activation."""

    family = "conv"

    def __init__(self, c_in: Layout, *, out: int, kernel: int = 1, stride: int = 1, act: str = "relu") -> None:
        super().__init__(c_in, out)
        self.conv = ConvNormAct(c_in, (out,), kernel, stride, act)

    def transform(self, x: Tensor) -> Tensor:
        """(N, sum(c_in), H, W) -> (N, out, H/stride, W/stride)."""
        y: Tensor = self.conv(x)
        return y


class QARepVGGConv(Block):
    """One QARepVGG block without identity branch, the stem and the downsampling of YOLO-NAS."""

    family = "qarepvgg"

    def __init__(self, c_in: Layout, *, out: int, stride: int = 2, act: str = "relu") -> None:
        super().__init__(c_in, out)
        self.conv = QARepVGG(c_in, (out,), stride, identity=False, act=act)

    def transform(self, x: Tensor) -> Tensor:
        """(N, sum(c_in), H, W) -> (N, out, H/stride, W/stride)."""
        y: Tensor = self.conv(x)
        return y
