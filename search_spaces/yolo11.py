"""YOLO11 by its multiples; n, s, m, l and x are points of it. Repeats and widths as in Ultralytics' documentation of
the model."""

from __future__ import annotations

from search_spaces.architecture import Architecture
from search_spaces.graph import Cell, Graph, backbone, node
from search_spaces.necks import NECKS
from search_spaces.scaling import BRANCH_CLASSES, branch_classes, image_size, repeats, width
from search_spaces.space import Choice, SearchSpace

SHALLOW, DEEP, ATTENTIVE = "c3k2", "c3k2-deep", "c3k2-attention"


def network(a: Architecture, neck_kinds: tuple[str, str, str, str], head: str, **pooling: bool) -> Graph:
    """Return the graph of YOLO11 or, with other blocks in the neck, another head and pooling options, of YOLO26."""
    depth = repeats(2, float(a["depth"]))

    def w(channels: int) -> int:
        return width(channels, float(a["width"]), int(a["max_channels"]))

    def conv(channels: int) -> Cell:
        return "conv", {"out": w(channels), "kernel": 3, "stride": 2, "act": "silu"}

    def c3k2(channels: int, kind: str, share: float = 0.5) -> Cell:
        kind = DEEP if a["c3k"] == "everywhere" and kind == SHALLOW else kind
        number = 1 if kind == ATTENTIVE else depth
        return kind, {"out": w(channels), "hidden": int(w(channels) * share), "depth": number, "act": "silu"}

    stages = ((128, 256, SHALLOW, 0.25), (256, 512, SHALLOW, 0.25), (512, 512, DEEP, 0.5), (1024, 1024, DEEP, 0.5))
    nodes = backbone(conv(64), [(conv(down), c3k2(out, kind, share)) for down, out, kind, share in stages])
    top = w(1024)
    nodes.append(node("sppf", "sppf", nodes[-1].name, out=top, act="silu", **pooling))
    nodes.append(node("psa", "c2psa", "sppf", out=top, hidden=top // 2, depth=depth, act="silu"))
    cells = tuple(c3k2(c, kind) for c, kind in zip((512, 256, 512, 1024), neck_kinds, strict=True))
    neck = NECKS["pan"](("stage2_block", "stage3_block", "psa"), top=top, cells=cells)
    return Graph(
        (*nodes, *neck),
        node("head", head, ("pan2_block", "pan3_block", "pan4_block"), act="silu", **branch_classes(a)),
        a.image_size,
    )


def _graph(a: Architecture) -> Graph:
    return network(a, (SHALLOW, SHALLOW, SHALLOW, DEEP), "decoupled-light")


CHOICES = (
    Choice("c3k", ("deep", "everywhere"), ordered=False),  # n and s have C3k units in the deep stages only
    Choice("depth", (0.5, 1.0)),
    Choice("width", (0.125, 0.25, 0.5, 1.0, 1.5)),
    Choice("max_channels", (512, 1024)),
    image_size(),
)
YOLO11 = SearchSpace(name="yolo11", version=1, choices=CHOICES, graph=_graph, options=(BRANCH_CLASSES,))

SIZES = {
    "n": ("deep", 0.5, 0.25, 1024),
    "s": ("deep", 0.5, 0.5, 1024),
    "m": ("everywhere", 0.5, 1.0, 512),
    "l": ("everywhere", 1.0, 1.0, 512),
    "x": ("everywhere", 1.0, 1.5, 512),
}
REFERENCES = {
    f"yolo11{size}": YOLO11.architecture(c3k=c3k, depth=depth, width=wide, max_channels=most, image_size=640)
    for size, (c3k, depth, wide, most) in SIZES.items()
}
