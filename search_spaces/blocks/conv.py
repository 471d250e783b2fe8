"""Single layers as cells: stems, downsampling, channel reduction, resampling without weights."""

from __future__ import annotations

from torch import Tensor, nn

from search_spaces.blocks.base import Block
from search_spaces.graph import Layout
from search_spaces.layers import ConvNormAct, QARepVGG, RepVGG


class Conv(Block):
    """Conv, BatchNorm, activation."""

    family = "conv"

    def __init__(self, c_in: Layout, *, out: int, kernel: int = 1, stride: int = 1, act: str = "relu") -> None:
        super().__init__(c_in, out)
        self.conv = ConvNormAct(c_in, (out,), kernel, stride, act)

    def transform(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, out, H/stride, W/stride)."""
        y: Tensor = self.conv(x)
        return y


class DepthwiseConv(Block):
    """A depthwise 3x3 and a 1x1 to ``out`` channels, each with BatchNorm and activation: the halving of YOLOX-Nano."""

    family = "dwconv"

    def __init__(self, c_in: Layout, *, out: int, stride: int = 1, act: str = "relu") -> None:
        super().__init__(c_in, out)
        self.depthwise = ConvNormAct(c_in, c_in, 3, stride, act, depthwise=True)
        self.pointwise = ConvNormAct(c_in, (out,), act=act)

    def transform(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, out, H/stride, W/stride)."""
        y: Tensor = self.pointwise(self.depthwise(x))
        return y


class QARepVGGConv(Block):
    """One QARepVGG block without identity branch, the stem and the downsampling of YOLO-NAS."""

    family = "qarepvgg"

    def __init__(self, c_in: Layout, *, out: int, stride: int = 2, act: str = "relu") -> None:
        super().__init__(c_in, out)
        self.conv = QARepVGG(c_in, (out,), stride, identity=False, act=act)

    def transform(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, out, H/stride, W/stride)."""
        y: Tensor = self.conv(x)
        return y


class RepVGGConv(Block):
    """One RepVGG block, the stem and the downsampling of YOLOv6; at stride 1, RepConv of YOLOv7."""

    family = "repvgg"

    def __init__(self, c_in: Layout, *, out: int, stride: int = 2, act: str = "relu") -> None:
        super().__init__(c_in, out)
        self.conv = RepVGG(c_in, (out,), stride, identity=False, act=act)

    def transform(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, out, H/stride, W/stride)."""
        y: Tensor = self.conv(x)
        return y


class RepStack(Block):
    """``depth`` RepVGG blocks one after the other, the first to ``out`` channels: YOLOv6's RepBlock
    (arXiv:2301.05586).

    ``joined``: the first block has an identity branch also where ``out`` channels come in as several equal parts.
    """

    family = "rep"

    def __init__(self, c_in: Layout, *, out: int, depth: int, act: str = "relu", joined: bool = False) -> None:
        super().__init__(c_in, out)
        self.first = RepVGG(c_in, (out,), act=act, joined=joined)
        self.more = nn.Sequential(*(RepVGG((out,), (out,), act=act) for _ in range(depth - 1)))

    def transform(self, x: Tensor) -> Tensor:
        """(N, sum(c_in), H, W) -> (N, out, H, W)."""
        y: Tensor = self.more(self.first(x))
        return y


class Upsample(Block):
    """Nearest neighbour, twice the size; ``out`` is the channels that come in."""

    family = "upsample"

    def __init__(self, c_in: Layout, *, out: int) -> None:
        super().__init__(c_in, out)
        self.resize = nn.Upsample(scale_factor=2.0, mode="nearest")

    def transform(self, x: Tensor) -> Tensor:
        """(N, out, H, W) -> (N, out, 2H, 2W)."""
        y: Tensor = self.resize(x)
        return y


class MaxPool(Block):
    """2x2 max-pooling of stride 2; ``out`` is the channels that come in."""

    family = "pool"

    def __init__(self, c_in: Layout, *, out: int) -> None:
        super().__init__(c_in, out)
        self.pool = nn.MaxPool2d(2, 2)

    def transform(self, x: Tensor) -> Tensor:
        """(N, out, H, W) -> (N, out, H/2, W/2)."""
        y: Tensor = self.pool(x)
        return y
