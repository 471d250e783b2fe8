"""The cross-stage partial layers of YOLO-NAS: QARepVGG bottlenecks with (QCI) and without (QSP) intermediate
concatenation, and plain ones.

Those of YOLOv6 3.0 M and L (BepC3, arXiv:2301.05586) are the same with RepVGG bottlenecks and with plain ones. Deci's
names QSP and QCI stand nowhere in its code; a plain and an intermediate-concatenating CSP of QARepVGG blocks is what
its networks consist of.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from search_spaces.blocks.base import Block
from search_spaces.graph import Layout
from search_spaces.layers import ConvNormAct, QARepVGG, RepVGG


class Bottleneck(nn.Module):
    """Two 3x3 units and a shortcut scaled by one learnable scalar (on the skip, initially 1): ``alpha * x +
    unit(unit(x))``."""

    def __init__(self, hidden: int, rep: type[QARepVGG] | type[RepVGG] | None, act: str) -> None:
        super().__init__()
        self.unit1, self.unit2 = (
            rep((hidden,), (hidden,), act=act) if rep else ConvNormAct((hidden,), (hidden,), 3, act=act) for _ in "12"
        )
        self.alpha = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, hidden, H, W) -> the same shape."""
        y: Tensor = self.alpha * x + self.unit2(self.unit1(x))
        return y


class CSP(Block):
    """Two 1x1 branches of ``hidden`` channels, ``depth`` bottlenecks on the first, concatenation, 1x1 to ``out``.

    The concatenation is ordered [branch 2, branch 1, bottleneck 1, …, bottleneck n] so that what every depth has
    comes first; without intermediate concatenation only branch 2 and the last bottleneck are there and the parts
    between have width 0. Both forms are thus slices of one weight.
    """

    family: ClassVar[str] = "csp"
    rep: ClassVar[type[QARepVGG] | type[RepVGG] | None] = None
    concat: ClassVar[bool] = False

    def __init__(self, c_in: Layout, *, out: int, hidden: int, depth: int, act: str = "relu") -> None:
        super().__init__(c_in, out)
        self.conv1 = ConvNormAct(c_in, (hidden,), act=act)
        self.conv2 = ConvNormAct(c_in, (hidden,), act=act)
        self.bottlenecks = nn.ModuleList(Bottleneck(hidden, self.rep, act) for _ in range(depth))
        parts = (hidden,) * (2 + depth) if self.concat else (hidden, *(0,) * depth, hidden)
        self.conv3 = ConvNormAct(parts, (out,), act=act)

    def transform(self, x: Tensor) -> Tensor:
        """(N, sum(c_in), H, W) -> (N, out, H, W)."""
        y = [self.conv1(x)]
        for bottleneck in self.bottlenecks:
            y.append(bottleneck(y[-1]))
        out: Tensor = self.conv3(torch.cat([self.conv2(x), *(y if self.concat else y[-1:])], 1))
        return out


class QSP(CSP):
    """CSP of QARepVGG bottlenecks."""

    family, rep = "qcsp", QARepVGG


class QCI(CSP):
    """CSP of QARepVGG bottlenecks that concatenates every intermediate result."""

    family, rep, concat = "qcsp", QARepVGG, True


class BepC3(CSP):
    """CSP of RepVGG bottlenecks, YOLOv6-M's; YOLOv6-L's is a plain :class:`CSP`."""

    family, rep = "bepc3", RepVGG
