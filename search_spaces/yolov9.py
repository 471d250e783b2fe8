"""YOLOv9 (arXiv:2402.13616) by its multiples: T and S are points of ``yolov9``, M of ``yolov9-m``, C of ``yolov9-c``,
whose widths are no multiples of each other. Widths as in the paper and in the MIT-licensed implementation of its
authors (MultimediaTechLab/YOLO).

In deployed form: the auxiliary branch of programmable gradient information, which is there in training only, is left
out. E, whose backbone has two columns, is none of the points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from search_spaces.architecture import Architecture
from search_spaces.graph import Cell, Graph, Node, backbone, node, place
from search_spaces.necks import NECKS
from search_spaces.scaling import image_size, width
from search_spaces.space import Choice, SearchSpace


@dataclass(frozen=True)
class _Widths:
    """Channels at width 1.

    Args:
        stem: of the first two convs.
        blocks: (out, hidden) of the blocks of the backbone.
        neck: (out, hidden) of the blocks of the neck.
        downs: of the two halvings in the neck.
        plain: whether the first block is an ELAN of plain convs.
    """

    stem: tuple[int, int]
    blocks: tuple[tuple[int, int], ...]
    neck: tuple[tuple[int, int], ...]
    downs: tuple[int, int]
    plain: bool = False


SMALL = _Widths(
    (32, 64),
    ((64, 32), (128, 64), (192, 96), (256, 128)),
    ((192, 96), (128, 64), (192, 96), (256, 128)),
    (96, 128),
    plain=True,
)
"""S; T is half as wide."""
MEDIUM = _Widths(
    (32, 64),
    ((128, 64), (240, 120), (360, 180), (480, 240)),
    ((360, 180), (240, 120), (360, 180), (480, 240)),
    (184, 240),
)
LARGE = _Widths(
    (64, 128),
    ((256, 64), (512, 128), (512, 256), (512, 256)),
    ((512, 256), (256, 128), (512, 256), (512, 256)),
    (256, 512),
)
"""C."""

Halve = Callable[[str, str, int], tuple[Node, ...]]


def _aconv(name: str, x: str, out: int) -> tuple[Node, ...]:
    return (node(name, "aconv", x, out=out, act="silu"),)


def _adown(name: str, x: str, out: int) -> tuple[Node, ...]:
    """Halve in two nodes, each of half of the channels."""
    return (
        node(f"{name}_a", "adown", x, out=out // 2, act="silu"),
        node(f"{name}_b", "adown", x, out=out // 2, pooled=True, act="silu"),
    )


def _graph(a: Architecture, widths: _Widths, halve: Halve) -> Graph:
    def w(channels: int) -> int:
        return width(channels, float(a["width"]))

    def hidden(channels: int) -> int:
        """Half of a block's two parts: a multiple of 4, so that its own halves are even."""
        return w(2 * channels) // 2

    def conv(channels: int) -> Cell:
        return "conv", {"out": w(channels), "kernel": 3, "stride": 2, "act": "silu"}

    def block(out: int, inner: int) -> Cell:
        return "gelan", {"out": w(out), "hidden": hidden(inner), "depth": int(a["depth"]), "act": "silu"}

    first, *later = widths.blocks
    plain: Cell = (
        "elan",
        {
            "out": w(first[0]),
            "hidden": hidden(first[1]),
            "inner": hidden(first[1]),
            "depth": 2,
            "convs": 1,
            "act": "silu",
        },
    )
    nodes = backbone(conv(widths.stem[0]), [(conv(widths.stem[1]), plain if widths.plain else block(*first))])
    for i, (out, inner) in enumerate(later, 2):
        wide = widths.blocks[i - 1][0] if halve is _aconv else widths.blocks[i - 2][0]
        halved = halve(f"stage{i}_down", nodes[-1].name, w(wide))
        nodes += [*halved, place(f"stage{i}_block", block(out, inner), tuple(n.name for n in halved))]
    top = widths.blocks[-1][0]
    nodes.append(node("spp", "sppf", "stage4_block", out=w(top), act="silu"))
    downs = iter(widths.downs)
    neck = NECKS["pan"](
        ("stage2_block", "stage3_block", "spp"),
        top=w(top),
        cells=tuple(block(*pair) for pair in widths.neck),
        halve=lambda name, x, _: halve(name, x, w(next(downs))),
    )
    narrow = {"narrow": True} if dict(a.choices).get("branches") == "narrow" else {}
    head = node("head", "decoupled-grouped", ("pan2_block", "pan3_block", "pan4_block"), act="silu", **narrow)
    return Graph((*nodes, *neck), head, a.image_size)


YOLOV9 = SearchSpace(
    name="yolov9",
    version=1,
    choices=(
        # of the classes: T has narrow ones
        Choice("branches", ("narrow", "wide"), ordered=False),
        Choice("depth", (1, 2, 3)),
        Choice("width", (0.25, 0.5, 0.75, 1.0)),
        image_size(),
    ),
    graph=partial(_graph, widths=SMALL, halve=_aconv),
)
YOLOV9_M = SearchSpace(
    name="yolov9-m",
    version=1,
    choices=(Choice("depth", (1, 2, 3)), Choice("width", (0.25, 0.5, 0.75, 1.0)), image_size()),
    graph=partial(_graph, widths=MEDIUM, halve=_aconv),
)
YOLOV9_C = SearchSpace(
    name="yolov9-c",
    version=1,
    choices=(Choice("depth", (1, 2, 3)), Choice("width", (0.25, 0.5, 0.75, 1.0)), image_size()),
    graph=partial(_graph, widths=LARGE, halve=_adown),
)
REFERENCES = {
    "yolov9t": YOLOV9.architecture(branches="narrow", depth=3, width=0.5, image_size=640),
    "yolov9s": YOLOV9.architecture(branches="wide", depth=3, width=1.0, image_size=640),
    "yolov9m": YOLOV9_M.architecture(depth=1, width=1.0, image_size=640),
    "yolov9c": YOLOV9_C.architecture(depth=1, width=1.0, image_size=640),
}
