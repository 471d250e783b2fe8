"""YOLOv8 by its multiples; n, s, m, l and x are points of it. Repeats and widths as in Ultralytics' documentation of
the model."""

from __future__ import annotations

from search_spaces.architecture import Architecture
from search_spaces.graph import Cell, Graph, backbone, node
from search_spaces.necks import NECKS
from search_spaces.scaling import BRANCH_CLASSES, branch_classes, image_size, repeats, width
from search_spaces.space import Choice, SearchSpace


def _graph(a: Architecture) -> Graph:
    def w(channels: int) -> int:
        return width(channels, float(a["width"]), int(a["max_channels"]))

    def conv(channels: int) -> Cell:
        return "conv", {"out": w(channels), "kernel": 3, "stride": 2, "act": "silu"}

    def c2f(channels: int, number: int, shortcut: bool) -> Cell:
        out = w(channels)
        return "c2f", {
            "out": out,
            "hidden": out // 2,
            "depth": repeats(number, float(a["depth"])),
            "shortcut": shortcut,
            "act": "silu",
        }

    nodes = backbone(conv(64), [(conv(c), c2f(c, n, True)) for c, n in ((128, 3), (256, 6), (512, 6), (1024, 3))])
    nodes.append(node("sppf", "sppf", nodes[-1].name, out=w(1024), act="silu"))
    cells = tuple(c2f(c, 3, False) for c in (512, 256, 512, 1024))
    neck = NECKS["pan"](("stage2_block", "stage3_block", "sppf"), top=w(1024), cells=cells)
    return Graph(
        (*nodes, *neck),
        node("head", "decoupled", ("pan2_block", "pan3_block", "pan4_block"), act="silu", **branch_classes(a)),
        a.image_size,
    )


YOLOV8 = SearchSpace(
    name="yolov8",
    version=1,
    choices=(
        Choice("depth", (0.33, 0.67, 1.0)),
        Choice("width", (0.125, 0.25, 0.5, 0.75, 1.0, 1.25)),
        Choice("max_channels", (512, 768, 1024)),
        image_size(),
    ),
    graph=_graph,
    options=(BRANCH_CLASSES,),
)

SIZES = {
    "n": (0.33, 0.25, 1024),
    "s": (0.33, 0.5, 1024),
    "m": (0.67, 0.75, 768),
    "l": (1.0, 1.0, 512),
    "x": (1.0, 1.25, 512),
}
REFERENCES = {
    f"yolov8{size}": YOLOV8.architecture(depth=depth, width=wide, max_channels=most, image_size=640)
    for size, (depth, wide, most) in SIZES.items()
}
