"""YOLOv5 6.0 and later by its multiples; n, s, m, l and x are points of it. Repeats and widths as in the project's
documentation of the model.

With ``head=decoupled`` it has YOLOv8's head, as YOLOBench (arXiv:2307.13901) compares it.
"""

from __future__ import annotations

from functools import partial

from search_spaces.architecture import Architecture
from search_spaces.graph import Cell, Graph, backbone, node
from search_spaces.necks import NECKS
from search_spaces.scaling import BRANCH_CLASSES, branch_classes, image_size, repeats, width
from search_spaces.space import Choice, SearchSpace


def _graph(a: Architecture, scaled: bool = False) -> Graph:
    def w(channels: int) -> int:
        return width(channels, float(a["width"]))

    def conv(channels: int, kernel: int = 3) -> Cell:
        return "conv", {"out": w(channels), "kernel": kernel, "stride": 2, "act": "silu"}

    def c3(channels: int, number: int, shortcut: bool) -> Cell:
        out = w(channels)
        return "c3", {
            "out": out,
            "hidden": out // 2,
            "depth": repeats(number, float(a["depth"])),
            "shortcut": shortcut,
            "act": "silu",
        }

    nodes = backbone(conv(64, 6), [(conv(c), c3(c, n, True)) for c, n in ((128, 3), (256, 6), (512, 9), (1024, 3))])
    nodes.append(node("sppf", "sppf", nodes[-1].name, out=w(1024), act="silu"))
    cells = tuple(c3(c, 3, False) for c in (512, 256, 512, 1024))
    neck = NECKS["pan"](("stage2_block", "stage3_block", "sppf"), top=w(1024), cells=cells, reduce=True)
    levels = ("pan2_block", "pan3_block", "pan4_block")
    anchors = node("head", "anchors", levels, **({"scaled": True} if scaled else {}))
    head = anchors if a["head"] == "anchors" else node("head", "decoupled", levels, act="silu", **branch_classes(a))
    return Graph((*nodes, *neck), head, a.image_size)


CHOICES = (
    Choice("depth", (0.33, 0.67, 1.0, 1.33)),
    Choice("width", (0.125, 0.25, 0.5, 0.75, 1.0, 1.25)),
    Choice("head", ("anchors", "decoupled"), ordered=False),
    image_size(),
)
YOLOV5_1 = SearchSpace(name="yolov5", version=1, choices=CHOICES, graph=partial(_graph, scaled=True))
"""Anchors grew with the image."""
YOLOV5 = SearchSpace(
    name="yolov5", version=2, choices=CHOICES, graph=_graph, earlier=(YOLOV5_1,), options=(BRANCH_CLASSES,)
)

SIZES = {"n": (0.33, 0.25), "s": (0.33, 0.5), "m": (0.67, 0.75), "l": (1.0, 1.0), "x": (1.33, 1.25)}
REFERENCES = {
    f"yolov5{size}": YOLOV5.architecture(depth=depth, width=wide, head="anchors", image_size=640)
    for size, (depth, wide) in SIZES.items()
}
REFERENCES_U = {
    f"yolov5{size}u": YOLOV5.architecture(depth=depth, width=wide, head="decoupled", image_size=640)
    for size, (depth, wide) in SIZES.items()
}
"""YOLOv5u: with YOLOv8's head, as Ultralytics publishes it since 2023."""
