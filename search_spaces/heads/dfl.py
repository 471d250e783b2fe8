"""The decoupled head of YOLO-NAS: per level a shared stem, one conv per branch, box sides as distributions (DFL, arXiv:2006.04388)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from search_spaces.graph import Layout
from search_spaces.heads.base import Head, Predictions
from search_spaces.layers import ConvNormAct, conv2d

PRIOR = 0.01  # initial class probability, Lin et al., arXiv:1708.02002


class Level(nn.Module):
    """One resolution: 1x1 stem to ``width``, a 3x3 and a 1x1 per branch."""

    def __init__(self, c_in: int, width: int, num_classes: int, bins: int, act: str) -> None:
        super().__init__()
        self.stem = ConvNormAct((c_in,), (width,), act=act)
        self.cls_conv = ConvNormAct((width,), (width,), 3, act=act)
        self.reg_conv = ConvNormAct((width,), (width,), 3, act=act)
        self.cls = conv2d((width,), (num_classes,), bias=True)
        self.reg = conv2d((width,), (4 * bins,), bias=True)
        assert self.cls.bias is not None
        nn.init.constant_(self.cls.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, c_in, H, W) -> (N, classes, H, W), (N, 4 * bins, H, W)."""
        x = self.stem(x)
        return self.cls(self.cls_conv(x)), self.reg(self.reg_conv(x))


class DFLHead(Head):
    """``widths`` channels per level; each side l, t, r, b in strides is the mean of a distribution over 0..``reg_max``."""

    family = "dfl"

    def __init__(self, c_in: Layout, *, num_classes: int, widths: Layout, reg_max: int = 16, act: str = "relu") -> None:
        super().__init__(c_in, num_classes)
        self.reg_max = reg_max
        self.levels = nn.ModuleList(Level(c, w, num_classes, reg_max + 1, act) for c, w in zip(c_in, widths, strict=True))

    def forward(self, *features: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """Per level (N, classes, H, W) and (N, 4 * (reg_max + 1), H, W)."""
        return tuple(level(x) for level, x in zip(self.levels, features, strict=True))

    def decode(self, predictions: Predictions) -> tuple[Tensor, Tensor]:
        """Boxes (N, A, 4) xyxy in pixels, scores (N, A, classes)."""
        return decode_boxes(predictions), predictions.logits.sigmoid()


def decode_boxes(predictions: Predictions) -> Tensor:
    """(N, A, 4) xyxy in pixels from side distributions (N, A, 4 * bins).

    The expectation is a product and a sum, not a conv: OpenVINO has miscompiled the conv form (super-gradients' own note).
    """
    anchors, bins = int(predictions.boxes.shape[1]), int(predictions.boxes.shape[2]) // 4
    distribution = predictions.boxes.reshape(-1, anchors, 4, bins).softmax(-1)
    sides = (distribution * torch.arange(bins, dtype=distribution.dtype, device=distribution.device)).sum(-1) * predictions.strides
    return torch.cat([predictions.points - sides[..., :2], predictions.points + sides[..., 2:]], -1)
