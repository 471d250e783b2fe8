"""The macro of YOLO-NAS with its inner choices free; YOLO-NAS S, M and L are points of it.

Shapes from super-gradients' published configuration files (Apache-2.0). Deci describes the
choices of its search in outline only: block type, number of blocks and channels per stage, about 10^14 architectures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from search_spaces.architecture import Architecture, Value
from search_spaces.graph import Cell, Graph, Layout, backbone, node
from search_spaces.necks import NECKS
from search_spaces.scaling import image_size
from search_spaces.space import Choice, SearchSpace

STAGES = NECK = (1, 2, 3, 4)


def macro(architecture: Architecture, *, stem: int, outs: Layout, neck_outs: Layout, head: Layout) -> Graph:
    """Return the YOLO-NAS skeleton: stem, four stages, SPP, PAN with C2, three heads.

    Args:
        architecture: block, depth and hidden width of each stage.
        stem: channels of the stem.
        outs: channels of the four stages.
        neck_outs: channels of the four stages of the neck.
        head: channels of the three heads before scaling by ``head_width``.
    """
    a = architecture

    def cell(kind: str, group: str, out: int) -> Cell:
        return kind, {"out": out, "hidden": a[f"{group}_hidden"], "depth": a[f"{group}_depth"]}

    stages = [
        (("qarepvgg", {"out": out}), cell(str(a[f"stage{i}_block"]), f"stage{i}", out))
        for i, out in zip(STAGES, outs, strict=True)
    ]
    nodes = backbone(("qarepvgg", {"out": stem}), stages)
    nodes.append(node("spp", "spp", nodes[-1].name, out=outs[-1]))
    kinds = ("qsp", "qsp", "csp", "csp")
    cells = tuple(cell(kind, f"neck{i}", out) for i, kind, out in zip(NECK, kinds, neck_outs, strict=True))
    neck = NECKS["pan-c2"](("stage1_block", "stage2_block", "stage3_block", "spp"), cells=cells)
    widths = tuple(multiple_of_8(base * float(a["head_width"])) for base in head)
    head_node = node("head", "dfl", ("neck2_block", "neck3_block", "neck4_block"), widths=widths)
    return Graph((*nodes, *neck), head_node, a.image_size)


def multiple_of_8(width: float) -> int:
    """Round up to a multiple of 8, as super-gradients rounds head widths."""
    return math.ceil(int(width) / 8) * 8


def inner_choices(
    block: tuple[str, ...], stages: Mapping[int, tuple[Layout, Layout]], necks: Mapping[int, tuple[Layout, Layout]]
) -> tuple[Choice, ...]:
    """Return the choices of block, depth and hidden width of each stage, and depth and hidden width of each neck stage.

    ``stages`` and ``necks``: number -> (depths, hidden widths).
    """
    choices: list[Choice] = []
    for i, (depths, widths) in stages.items():
        choices += [
            Choice(f"stage{i}_block", block, ordered=False),
            Choice(f"stage{i}_depth", depths),
            Choice(f"stage{i}_hidden", widths),
        ]
    for i, (depths, widths) in necks.items():
        choices += [Choice(f"neck{i}_depth", depths), Choice(f"neck{i}_hidden", widths)]
    return tuple(choices)


def _graph(architecture: Architecture) -> Graph:
    return macro(architecture, stem=48, outs=(96, 192, 384, 768), neck_outs=(192, 96, 192, 384), head=(128, 256, 512))


YOLO_NAS = SearchSpace(
    name="yolo-nas",
    version=1,
    choices=(
        *inner_choices(
            ("qsp", "qci", "c2f", "c3"),
            {
                1: ((1, 2, 3, 4, 5), (32, 48, 64, 96, 128)),
                2: ((1, 2, 3, 4, 5), (48, 64, 96, 128, 192)),
                3: ((1, 2, 3, 4, 5, 6), (64, 96, 128, 192, 256, 384)),
                4: ((1, 2, 3, 4), (96, 128, 192, 256, 384, 512)),
            },
            {
                1: ((1, 2, 3, 4), (48, 64, 96, 128, 192)),
                2: ((1, 2, 3, 4), (32, 48, 64, 96, 128)),
                3: ((1, 2, 3, 4), (48, 64, 96, 128, 192)),
                4: ((1, 2, 3, 4), (64, 96, 128, 192, 256)),
            },
        ),
        Choice("head_width", (0.5, 0.75, 1.0)),
        image_size((320, 384, 448, 512, 576, 640)),
    ),
    graph=_graph,
)


def _published(stages: tuple[tuple[str, int], ...], necks: tuple[tuple[int, int], ...], head: float) -> Architecture:
    values: dict[str, Value] = {"head_width": head, "image_size": 640}
    for i, (kind, hidden), depth in zip(STAGES, stages, (2, 3, 5, 2), strict=True):
        values |= {f"stage{i}_block": kind, f"stage{i}_depth": depth, f"stage{i}_hidden": hidden}
    for i, (depth, hidden) in zip(NECK, necks, strict=True):
        values |= {f"neck{i}_depth": depth, f"neck{i}_hidden": hidden}
    return YOLO_NAS.architecture(**values)


def yolo_nas(size: str) -> Architecture:
    """Return YOLO-NAS ``"s"``, ``"m"`` or ``"l"`` as a point of the space."""
    table = {
        "s": ((("qsp", 32), ("qsp", 64), ("qsp", 96), ("qsp", 192)), ((2, 64), (2, 48), (2, 64), (2, 64)), 0.5),
        "m": ((("qci", 64), ("qci", 128), ("qci", 256), ("qsp", 384)), ((2, 192), (3, 64), (2, 192), (3, 256)), 0.75),
        "l": ((("qci", 96), ("qci", 128), ("qci", 256), ("qci", 512)), ((4, 128), (4, 128), (4, 128), (4, 256)), 1.0),
    }
    return _published(*table[size])


REFERENCES = {f"yolo-nas-{size}": yolo_nas(size) for size in "sml"}
