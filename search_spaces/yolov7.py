"""YOLOv7 (arXiv:2207.02696) and YOLOv7-tiny with a free width; the published ones are at width 1. Shapes as in the
paper and the project's documentation.

With ``head=decoupled`` they have YOLOv8's head, as YOLOBench (arXiv:2307.13901) compares them. In deployed form:
implicit knowledge, which the authors fold into the last convs, and the auxiliary heads of larger sizes are left out.
"""

from __future__ import annotations

from functools import partial

from search_spaces.architecture import Architecture
from search_spaces.graph import Cell, Graph, Node, backbone, node, place
from search_spaces.necks import NECKS
from search_spaces.necks.elan_pan import halve
from search_spaces.scaling import image_size, width
from search_spaces.space import Choice, SearchSpace

LEVELS = ("elan2_block", "elan3_block", "elan4_block")


def _width(a: Architecture, channels: int) -> int:
    return width(channels, float(a["width"]))


def _conv(out: int, stride: int = 1, act: str = "silu") -> Cell:
    return "conv", {"out": out, "kernel": 3, "stride": stride, "act": act}


def _elan(out: int, hidden: int, inner: int, depth: int, convs: int, act: str = "silu") -> Cell:
    return "elan", {"out": out, "hidden": hidden, "inner": inner, "depth": depth, "convs": convs, "act": act}


def _graph(nodes: list[Node], ends: list[Node], a: Architecture, priors: str, scaled: bool) -> Graph:
    levels = tuple(n.name for n in ends)
    head = node("head", "anchors", levels, priors=priors, **({"scaled": True} if scaled else {}))
    if a["head"] == "decoupled":
        head = node("head", "decoupled", levels, act="silu")
    return Graph((*nodes, *ends), head, a.image_size)


def _base(a: Architecture, scaled: bool = False) -> Graph:
    w = partial(_width, a)
    nodes = [place("stem", _conv(w(32)), "image")]
    for name, cell in (("stem_down", _conv(w(64), 2)), ("stem_conv", _conv(w(64))), ("stage1_down", _conv(w(128), 2))):
        nodes.append(place(name, cell, nodes[-1].name))
    nodes.append(place("stage1_block", _elan(w(256), w(64), w(64), 2, 2), "stage1_down"))
    before = 256
    for i, (hidden, out) in enumerate(((128, 512), (256, 1024), (256, 1024)), 2):
        down = halve(f"stage{i}_down", nodes[-1].name, w(before) // 2, w(before), "silu")
        nodes += [
            *down,
            place(
                f"stage{i}_block", _elan(w(out), w(hidden), w(hidden), 2, 2), (f"stage{i}_down_a", f"stage{i}_down_b")
            ),
        ]
        before = out
    nodes.append(node("spp", "sppcsp", "stage4_block", out=w(512), hidden=w(512), act="silu"))
    cells = tuple(_elan(w(c), w(c), w(c) // 2, 4, 1) for c in (256, 128, 256, 512))
    nodes += NECKS["elan-pan"](("stage2_block", "stage3_block", "spp"), cells=cells, pooled=True)
    rep = [
        node(f"rep{i}", "repvgg", level, out=w(c), stride=1, act="silu")
        for i, (level, c) in enumerate(zip(LEVELS, (256, 512, 1024), strict=True), 3)
    ]
    return _graph(nodes, rep, a, "yolov7", scaled)


def _tiny(a: Architecture, act: str, priors: str, scaled: bool = False) -> Graph:
    w = partial(_width, a)
    conv, elan = partial(_conv, act=act), partial(_elan, act=act)
    first = elan(w(64), w(32), w(32), 2, 1)
    nodes = backbone(conv(w(32), 2), [(conv(w(64), 2), first)])
    before = 64
    for i, out in enumerate((128, 256, 512), 2):
        nodes.append(node(f"stage{i}_down", "pool", nodes[-1].name, out=w(before)))
        nodes.append(place(f"stage{i}_block", elan(w(out), w(out) // 2, w(out) // 2, 2, 1), f"stage{i}_down"))
        before = out
    nodes.append(node("spp", "sppcsp", "stage4_block", out=w(256), hidden=w(256), light=True, act=act))
    cells = tuple(elan(w(c), w(c) // 2, w(c) // 2, 2, 1) for c in (128, 64, 128, 256))
    nodes += NECKS["elan-pan"](("stage2_block", "stage3_block", "spp"), cells=cells, pooled=False, act=act)
    ends = [
        place(f"end{i}", conv(w(c)), level) for i, (level, c) in enumerate(zip(LEVELS, (128, 256, 512), strict=True), 3)
    ]
    return _graph(nodes, ends, a, priors, scaled)


def _tiny_1(a: Architecture) -> Graph:
    return _tiny(a, "silu", "yolov7", scaled=True)


def _tiny_2(a: Architecture) -> Graph:
    return _tiny(a, str(a["act"]), "yolov5")


HEADS = Choice("head", ("anchors", "decoupled"), ordered=False)
WIDTHS = Choice("width", (0.125, 0.25, 0.5, 0.75, 1.0))
TINY_WIDTHS = Choice("width", (0.25, 0.5, 0.75, 1.0))
ACTS = Choice("act", ("leaky", "silu"), ordered=False)

YOLOV7_1 = SearchSpace("yolov7", 1, (WIDTHS, HEADS, image_size()), partial(_base, scaled=True))
"""Anchors grew with the image."""
YOLOV7 = SearchSpace("yolov7", 2, (WIDTHS, HEADS, image_size()), _base, (YOLOV7_1,))
YOLOV7_TINY_1 = SearchSpace("yolov7-tiny", 1, (TINY_WIDTHS, HEADS, image_size()), _tiny_1)
"""SiLU only; anchors were those of YOLOv7 and grew with the image."""
YOLOV7_TINY = SearchSpace("yolov7-tiny", 2, (TINY_WIDTHS, HEADS, ACTS, image_size()), _tiny_2, (YOLOV7_TINY_1,))
REFERENCES = {
    "yolov7-tiny": YOLOV7_TINY.architecture(width=1.0, head="anchors", act="leaky", image_size=640),
    "yolov7-tiny-silu": YOLOV7_TINY.architecture(width=1.0, head="anchors", act="silu", image_size=640),
    "yolov7": YOLOV7.architecture(width=1.0, head="anchors", image_size=640),
}
