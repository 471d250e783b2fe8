"""YOLO12 by its multiples; n, s, m, l and x are points of it (arXiv:2502.12524; repeats and widths as in Ultralytics'
documentation of the model)."""

from __future__ import annotations

from search_spaces.architecture import Architecture
from search_spaces.graph import Cell, Graph, Option, backbone, node
from search_spaces.necks import NECKS
from search_spaces.scaling import BRANCH_CLASSES, branch_classes, image_size, repeats, width
from search_spaces.space import Choice, SearchSpace


def _graph(a: Architecture) -> Graph:
    def w(channels: int) -> int:
        return width(channels, float(a["width"]), int(a["max_channels"]))

    def depth(number: int) -> int:
        return repeats(number, float(a["depth"]))

    def conv(channels: int) -> Cell:
        return "conv", {"out": w(channels), "kernel": 3, "stride": 2, "act": "silu"}

    def block(kind: str, channels: int, number: int, share: float = 0.5, **more: Option) -> Cell:
        return kind, {
            "out": w(channels),
            "hidden": int(w(channels) * share),
            "depth": depth(number),
            "act": "silu",
            **more,
        }

    def attention(channels: int, strips: int) -> Cell:
        return block("a2c2f-large" if a["stages"] == "large" else "a2c2f", channels, 4, strips=strips)

    shallow = "c3k2" if a["stages"] == "small" else "c3k2-deep"
    stages = [
        (conv(128), block(shallow, 256, 2, 0.25)),
        (conv(256), block(shallow, 512, 2, 0.25)),
        (conv(512), attention(512, 4)),
        (conv(1024), attention(1024, 1)),
    ]
    nodes = backbone(conv(64), stages)
    cells = (block("r2c2f", 512, 2), block("r2c2f", 256, 2), block("r2c2f", 512, 2), block("c3k2-deep", 1024, 2))
    neck = NECKS["pan"](("stage2_block", "stage3_block", "stage4_block"), top=w(1024), cells=cells)
    return Graph(
        (*nodes, *neck),
        node("head", "decoupled-light", ("pan2_block", "pan3_block", "pan4_block"), act="silu", **branch_classes(a)),
        a.image_size,
    )


YOLO12 = SearchSpace(
    name="yolo12",
    version=1,
    choices=(
        # small (n, s): bottlenecks in the first stages; medium: C3k there; large (l, x): an outer residual and a
        # narrower MLP around the attention too
        Choice("stages", ("small", "medium", "large"), ordered=False),
        Choice("depth", (0.5, 1.0)),
        Choice("width", (0.125, 0.25, 0.5, 1.0, 1.5)),
        Choice("max_channels", (512, 1024)),
        image_size(),
    ),
    graph=_graph,
    options=(BRANCH_CLASSES,),
)

SIZES = {
    "n": ("small", 0.5, 0.25, 1024),
    "s": ("small", 0.5, 0.5, 1024),
    "m": ("medium", 0.5, 1.0, 512),
    "l": ("large", 1.0, 1.0, 512),
    "x": ("large", 1.0, 1.5, 512),
}
REFERENCES = {
    f"yolo12{size}": YOLO12.architecture(stages=stages, depth=depth, width=wide, max_channels=most, image_size=640)
    for size, (stages, depth, wide, most) in SIZES.items()
}
