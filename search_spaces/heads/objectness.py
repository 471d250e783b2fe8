"""The decoupled head of YOLOX (arXiv:2107.08430): without anchors, with an objectness beside the classes."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from search_spaces.graph import Layout
from search_spaces.heads.base import Head, Levels, Predictions, flatten
from search_spaces.heads.dfl import PRIOR, class_conv
from search_spaces.layers import ConvNormAct, conv2d


def _convs(width: int, light: bool, act: str) -> nn.Sequential:
    """Two 3x3; ``light``: each as a depthwise 3x3 and a 1x1."""
    layers: list[nn.Module] = []
    for _ in range(2):
        if light:
            layers += [
                ConvNormAct((width,), (width,), 3, act=act, depthwise=True),
                ConvNormAct((width,), (width,), act=act),
            ]
        else:
            layers.append(ConvNormAct((width,), (width,), 3, act=act))
    return nn.Sequential(*layers)


class Level(nn.Module):
    """One resolution: a 1x1 stem to ``width`` channels and two branches, of classes and of boxes with objectness."""

    def __init__(self, c_in: int, width: int, num_classes: int, light: bool, act: str) -> None:
        super().__init__()
        self.stem = ConvNormAct((c_in,), (width,), act=act)
        self.cls_convs = _convs(width, light, act)
        self.reg_convs = _convs(width, light, act)
        self.cls = class_conv(width, num_classes)
        self.reg = conv2d((width,), (5,), bias=True)
        assert self.cls.bias is not None and self.reg.bias is not None
        for bias in (self.cls.bias, self.reg.bias[4:].detach()):  # objectness times class begins at PRIOR
            nn.init.constant_(bias, math.log(PRIOR**0.5 / (1 - PRIOR**0.5)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, c_in, H, W) -> (N, classes, H, W), (N, 5, H, W): box parameters and objectness."""
        x = self.stem(x)
        return self.cls(self.cls_convs(x)), self.reg(self.reg_convs(x))


class ObjectnessHead(Head):
    """YOLOX's head, ``width`` channels in every level.

    The box parameters t of an anchor point are offset and size in strides s: the centre is ``point + (t_xy - 0.5) s``,
    the size ``exp(t_wh) s``. :meth:`flatten` converts them to the four sides, so that the loss and the decoding are those
    of other heads without anchors.
    """

    family: ClassVar[str] = "sides-objectness"
    light: ClassVar[bool] = False

    def __init__(self, c_in: Layout, *, num_classes: int, width: int, act: str = "silu") -> None:
        super().__init__(c_in, num_classes)
        self.levels = nn.ModuleList(Level(c, width, num_classes, self.light, act) for c in c_in)

    def forward(self, *features: Tensor) -> Levels:
        """Return per level (N, classes, H, W) and (N, 5, H, W): class logits; box parameters and objectness."""
        return tuple(level(x) for level, x in zip(self.levels, features, strict=True))

    def flatten(self, levels: Levels, image_size: tuple[int, int]) -> Predictions:
        """Join the levels to one list of anchor points, with sides in strides and objectness."""
        flat = flatten(levels, image_size)
        offset, size, objectness = flat.boxes.split([2, 2, 1], 2)
        half, shift = size.exp() / 2, offset - 0.5
        return flat._replace(boxes=torch.cat([half - shift, half + shift], 2), objectness=objectness)


class ObjectnessHeadLight(ObjectnessHead):
    """The head of YOLOX-Nano, with depthwise convs in both branches."""

    family, light = "sides-objectness-light", True
