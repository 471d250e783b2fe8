"""YOLOv6 3.0 (arXiv:2301.05586) by its multiples; N, S, M and L are points of it.

``stages`` is what the sizes differ by besides: stacks of RepVGG blocks (N, S), CSP of RepVGG bottlenecks with 2/3 of
the channels (M), CSP of plain bottlenecks with half of them (L). With ``head=decoupled`` it has YOLOv8's head, as
YOLOBench (arXiv:2307.13901) compares it.
"""

from __future__ import annotations

from functools import partial

from search_spaces.architecture import Architecture
from search_spaces.graph import Cell, Graph, backbone, node
from search_spaces.necks import NECKS
from search_spaces.scaling import image_size, repeats, width
from search_spaces.space import Choice, SearchSpace

SHARE = {"bepc3": 2 / 3, "csp": 1 / 2}


def _graph(a: Architecture, joined: bool = True) -> Graph:
    stages = str(a["stages"])
    act = "silu" if stages == "csp" else "relu"

    def w(channels: int) -> int:
        return width(channels, float(a["width"]))

    def down(channels: int) -> Cell:
        if stages == "csp":
            return "conv", {"out": w(channels), "kernel": 3, "stride": 2, "act": act}
        return "repvgg", {"out": w(channels)}

    def block(channels: int, number: int) -> Cell:
        out, depth = w(channels), repeats(number, float(a["depth"]))
        if stages == "rep":
            return "rep", {"out": out, "depth": depth, **({"joined": True} if joined else {})}
        return stages, {
            "out": out,
            "hidden": int(out * SHARE[stages]),
            "depth": max(depth // 2, 1),
            "act": act,
        }  # two convs to a bottleneck

    nodes = backbone(down(64), [(down(c), block(c, n)) for c, n in ((128, 6), (256, 12), (512, 18), (1024, 6))])
    if stages == "rep":
        nodes.append(node("spp", "sppcsp", nodes[-1].name, out=w(1024), hidden=w(1024) // 2, chained=True))
    else:
        nodes.append(node("spp", "sppf", nodes[-1].name, out=w(1024), act=act))
    cells = tuple(block(c, 12) for c in (256, 128, 256, 512))
    neck = NECKS["pan-c2"](("stage1_block", "stage2_block", "stage3_block", "spp"), cells=cells)
    levels = ("neck2_block", "neck3_block", "neck4_block")
    if a["head"] == "decoupled":
        head = node("head", "decoupled", levels, act="silu")
    else:
        head = node("head", "sides" if stages == "rep" else "dfl", levels, widths=(w(128), w(256), w(512)), act="silu")
    return Graph((*nodes, *neck), head, a.image_size)


CHOICES = (
    Choice("stages", ("rep", "bepc3", "csp"), ordered=False),
    Choice("depth", (0.33, 0.6, 1.0)),
    Choice("width", (0.125, 0.25, 0.5, 0.75, 1.0)),
    Choice("head", ("own", "decoupled"), ordered=False),
    image_size(),
)
YOLOV6_1 = SearchSpace(name="yolov6", version=1, choices=CHOICES, graph=partial(_graph, joined=False))
"""The first RepVGG blocks of neck3 and neck4 had no identity branch."""
YOLOV6 = SearchSpace(name="yolov6", version=2, choices=CHOICES, graph=_graph, earlier=(YOLOV6_1,))

SIZES = {"n": ("rep", 0.33, 0.25), "s": ("rep", 0.33, 0.5), "m": ("bepc3", 0.6, 0.75), "l": ("csp", 1.0, 1.0)}
REFERENCES = {
    f"yolov6{size}": YOLOV6.architecture(stages=stages, depth=depth, width=wide, head="own", image_size=640)
    for size, (stages, depth, wide) in SIZES.items()
}
