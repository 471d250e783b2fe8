"""Attention among the positions of a feature map, as layers: what C2PSA, C3k2 and A2C2f are made of.

Heads are parts of the channel layout, [query, key, value] of one head after the other: a narrower network has fewer
heads, each whole.
"""

from __future__ import annotations

from torch import Tensor, nn

from search_spaces.errors import InputError
from search_spaces.layers import ConvNormAct


class Attention(nn.Module):
    """Multi-head self-attention (arXiv:1706.03762) of ``heads`` heads, with a depthwise conv of the values for the
    position (``kernel``), and a 1x1.

    Queries and keys have ``key`` channels per head. With ``area`` above 1 positions attend within so many strips of
    rows only (YOLO12's area attention, arXiv:2502.12524); the number of positions must be a multiple of it.
    """

    def __init__(self, channels: int, heads: int, key: int, kernel: int, area: int = 1) -> None:
        super().__init__()
        self.heads, self.key, self.value, self.area = heads, key, channels // heads, area
        self.qkv = ConvNormAct((channels,), (key, key, self.value) * heads, act="identity")
        self.position = ConvNormAct((channels,), (channels,), kernel, act="identity", depthwise=True)
        self.project = ConvNormAct((channels,), (channels,), act="identity")

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        _, channels, height, width = (int(n) for n in x.shape)
        query, key, value = self._strips(self.qkv(x), height * width).split([self.key, self.key, self.value], 1)
        weights = (query * self.key**-0.5).transpose(1, 2).bmm(key).softmax(-1)
        mixed = self._map(value.bmm(weights.transpose(1, 2)), channels, height, width)
        y: Tensor = self.project(mixed + self.position(self._map(value, channels, height, width)))
        return y

    def _strips(self, x: Tensor, positions: int) -> Tensor:
        """(N, heads * rows, H, W) -> (N * heads * area, rows, H * W / area)."""
        rows, long = 2 * self.key + self.value, positions // self.area
        if self.area == 1:
            return x.reshape(-1, rows, long)
        return x.reshape(-1, rows, self.area, long).transpose(1, 2).reshape(-1, rows, long)

    def _map(self, x: Tensor, channels: int, height: int, width: int) -> Tensor:
        """(N * heads * area, value, H * W / area) -> (N, channels, H, W)."""
        if self.area > 1:
            x = x.reshape(-1, self.area, self.value, height * width // self.area).transpose(1, 2)
        return x.reshape(-1, channels, height, width)


class Transformer(nn.Module):
    """``x + attention(x)``, then ``x + mlp(x)``: two 1x1 with ``inner`` channels between them."""

    def __init__(self, channels: int, attention: Attention, inner: int, act: str) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = nn.Sequential(
            ConvNormAct((channels,), (inner,), act=act), ConvNormAct((inner,), (channels,), act="identity")
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        x = x + self.attention(x)
        y: Tensor = x + self.mlp(x)
        return y


def psa(channels: int, act: str) -> Transformer:
    """Make YOLO11's attention block: heads of 64 channels with keys of 32, a 3x3 for the position, a doubling MLP.

    Fewer channels than 64 are one head. Raises InputError if the heads are not whole.
    """
    return Transformer(channels, Attention(channels, heads_of(channels, 64), 32, 3), 2 * channels, act)


def area(channels: int, strips: int, ratio: float, act: str) -> Transformer:
    """Make YOLO12's attention block: heads of 32 channels, keys as wide, a 7x7 for the position.

    ``strips``: parts of the image that attend to themselves. ``ratio``: width of the MLP over the channels. Raises
    InputError if the heads are not whole.
    """
    return Transformer(channels, Attention(channels, heads_of(channels, 32), 32, 7, strips), int(channels * ratio), act)


def heads_of(channels: int, wide: int) -> int:
    """Return the number of heads. Raises InputError if they cannot all be whole."""
    if channels > wide and channels % wide:
        raise InputError(
            f"attention over {channels} channels", f"at most {wide}, or a multiple of {wide}", "its heads are so wide"
        )
    return max(1, channels // wide)
