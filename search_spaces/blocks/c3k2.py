"""C3k2, the layer of YOLO11 and YOLO26: C2f's shell around other units (shapes as in Ultralytics' documentation of
the models)."""

from __future__ import annotations

from torch import nn

from search_spaces.blocks.attention import psa
from search_spaces.blocks.c2f import C2f, Residual
from search_spaces.blocks.c3 import C3k


def narrow(hidden: int, shortcut: bool, act: str) -> Residual:
    """Make a bottleneck of two 3x3 convs with half the channels between."""
    return Residual(hidden, (3, 3), shortcut, act, inner=hidden // 2)


class C3k2(C2f):
    """C2f with narrow bottlenecks."""

    family = "c3k2"

    @staticmethod
    def unit(hidden: int, shortcut: bool, act: str) -> nn.Module:
        """Make a narrow bottleneck."""
        return narrow(hidden, shortcut, act)


class C3k2Deep(C2f):
    """C2f whose units are a C3k of two bottlenecks each (YOLO11: the deep stages, and all of m, l and x)."""

    family = "c3k2-deep"

    @staticmethod
    def unit(hidden: int, shortcut: bool, act: str) -> nn.Module:
        """Make a C3k with half the channels inside."""
        return C3k((hidden,), out=hidden, hidden=hidden // 2, depth=2, shortcut=shortcut, act=act)


class C3k2Attention(C2f):
    """C2f whose units are a narrow bottleneck and an attention block (YOLO26, before the coarsest level)."""

    family = "c3k2-attention"

    @staticmethod
    def unit(hidden: int, shortcut: bool, act: str) -> nn.Module:
        """Make a narrow bottleneck, then attention."""
        return nn.Sequential(narrow(hidden, shortcut, act), psa(hidden, act))
