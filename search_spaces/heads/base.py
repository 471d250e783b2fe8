"""What every head is: feature maps in, raw predictions per anchor out, and their decoding into boxes and scores."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from search_spaces.graph import Layout


class Predictions(NamedTuple):
    """Raw outputs of a head over A anchor points of N images, levels concatenated finest first.

    ``logits`` (N, A, classes); ``boxes`` (N, A, D), the head's own box parameters; ``points`` (A, 2), centres x, y, pixels; ``strides`` (A, 1), pixels.
    """

    logits: Tensor
    boxes: Tensor
    points: Tensor
    strides: Tensor


class Head(nn.Module):
    """Feature maps (finest first) -> :class:`Predictions`."""

    family: ClassVar[str]

    def __init__(self, c_in: Layout, num_classes: int) -> None:
        super().__init__()
        self.c_in = c_in
        self.num_classes = num_classes

    def forward(self, *features: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """(N, c_in[i], H_i, W_i) -> per level the class map (N, classes, H_i, W_i) and the box map (N, D, H_i, W_i)."""
        raise NotImplementedError

    def decode(self, predictions: Predictions) -> tuple[Tensor, Tensor]:
        """Boxes (N, A, 4), xyxy in pixels of the network's input, and scores (N, A, classes) in 0..1."""
        raise NotImplementedError


def flatten(levels: tuple[tuple[Tensor, Tensor], ...], image_size: tuple[int, int]) -> Predictions:
    """The level maps as one list of anchors, with the grid they stand on."""
    # Sizes as plain integers: traced into ONNX they are constants, and only the batch stays free.
    logits, boxes = (torch.cat([_rows(level[i]) for level in levels], 2).transpose(1, 2) for i in (0, 1))
    shapes = tuple((int(c.shape[2]), int(c.shape[3])) for c, _ in levels)
    points, strides = grid(shapes, image_size, str(logits.device))
    return Predictions(logits, boxes, points.to(logits.device), strides.to(logits.device))


def _rows(x: Tensor) -> Tensor:
    _, channels, height, width = (int(n) for n in x.shape)
    return x.reshape(-1, channels, height * width)


@lru_cache(64)
def grid(shapes: tuple[tuple[int, int], ...], image_size: tuple[int, int], device: str) -> tuple[Tensor, Tensor]:
    """Anchor centres (A, 2) and strides (A, 1) in pixels, cell centres at (i + 0.5) strides."""
    points, strides = [], []
    for height, width in shapes:
        stride = image_size[0] / height
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        points.append((torch.stack([x, y], 2).reshape(-1, 2) + 0.5) * stride)
        strides.append(torch.full((height * width, 1), stride))
    return torch.cat(points).to(device), torch.cat(strides).to(device)
