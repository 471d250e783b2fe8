"""YOLOX (arXiv:2107.08430) by its multiples; Nano, Tiny, S, M, L and X are points of it. Repeats and widths as in the
paper and in its Apache-2.0 implementation (Megvii-BaseDetection/YOLOX).

``convs=light`` replaces the 3x3 convs of bottlenecks, halvings and head by a depthwise 3x3 and a 1x1 (Nano). The stem
of the original rearranges 2x2 pixels into channels before a 3x3 conv, which is the same as the 6x6 conv of stride 2
here. Nano and Tiny are published at 416 px.
"""

from __future__ import annotations

from search_spaces.architecture import Architecture
from search_spaces.graph import Cell, Graph, Option, backbone, node, place
from search_spaces.necks import NECKS
from search_spaces.scaling import image_size, repeats, width
from search_spaces.space import Choice, SearchSpace


def _graph(a: Architecture) -> Graph:
    light = a["convs"] == "light"
    depth = repeats(3, float(a["depth"]))

    def w(channels: int) -> int:
        return width(channels, float(a["width"]))

    def halve(channels: int) -> Cell:
        options: dict[str, Option] = {"out": w(channels), "stride": 2, "act": "silu"}
        return ("dwconv", options) if light else ("conv", {**options, "kernel": 3})

    def c3(channels: int, number: int, shortcut: bool) -> Cell:
        out = w(channels)
        options: dict[str, Option] = {
            "out": out,
            "hidden": out // 2,
            "depth": number,
            "shortcut": shortcut,
            "act": "silu",
        }
        return "c3-light" if light else "c3", options

    stem: Cell = "conv", {"out": w(64), "kernel": 6, "stride": 2, "act": "silu"}
    stages = [(halve(c), c3(c, n, True)) for c, n in ((128, depth), (256, 3 * depth), (512, 3 * depth))]
    nodes = backbone(stem, stages)
    nodes.append(place("stage4_down", halve(1024), nodes[-1].name))
    nodes.append(node("stage4_spp", "spp", "stage4_down", out=w(1024), act="silu"))
    nodes.append(place("stage4_block", c3(1024, depth, False), "stage4_spp"))
    cells = tuple(c3(c, depth, False) for c in (512, 256, 512, 1024))
    features = ("stage2_block", "stage3_block", "stage4_block")
    neck = NECKS["pan"](features, top=w(1024), cells=cells, reduce=True, light=light)
    kind = "sides-objectness-light" if light else "sides-objectness"
    head = node("head", kind, ("pan2_block", "pan3_block", "pan4_block"), width=w(256), act="silu")
    return Graph((*nodes, *neck), head, a.image_size)


YOLOX = SearchSpace(
    name="yolox",
    version=1,
    choices=(
        Choice("convs", ("plain", "light"), ordered=False),
        Choice("depth", (0.33, 0.67, 1.0, 1.33)),
        Choice("width", (0.25, 0.375, 0.5, 0.75, 1.0, 1.25)),
        image_size(),
    ),
    graph=_graph,
)

SIZES = {
    "nano": ("light", 0.33, 0.25, 416),
    "tiny": ("plain", 0.33, 0.375, 416),
    "s": ("plain", 0.33, 0.5, 640),
    "m": ("plain", 0.67, 0.75, 640),
    "l": ("plain", 1.0, 1.0, 640),
    "x": ("plain", 1.33, 1.25, 640),
}
REFERENCES = {
    f"yolox-{size}": YOLOX.architecture(convs=convs, depth=depth, width=wide, image_size=side)
    for size, (convs, depth, wide, side) in SIZES.items()
}
