"""PAN as YOLOv5 and YOLOv8 to YOLO26 have it (arXiv:1803.01534): nearest-neighbour upsampling, concatenation, a
block; then down again."""

from __future__ import annotations

from collections.abc import Callable

from search_spaces.graph import Cell, Node, node, place


def pan(
    features: tuple[str, str, str],
    *,
    top: int,
    cells: tuple[Cell, Cell, Cell, Cell],
    reduce: bool = False,
    light: bool = False,
    halve: Callable[[str, str, int], tuple[Node, ...]] | None = None,
    act: str = "silu",
) -> tuple[Node, ...]:
    """Return the nodes of a PAN: two up-stages, two down-stages.

    The outputs are ``pan2_block``, ``pan3_block``, ``pan4_block`` (P3, P4, P5).

    Args:
        features: names of C3 to C5, finest first.
        top: channels of C5.
        cells: blocks of the four stages.
        reduce: whether a 1x1 to the channels of the stage's block comes before each upsampling and is the lateral input
            of the matching down-stage (YOLOv5).
        light: whether down-stages halve by a depthwise 3x3 and a 1x1 (YOLOX-Nano), else by a 3x3.
        halve: nodes that halve in down-stages in another way, all read by the block (YOLOv9), from the name of the
            first one, that of the input, and the input's channels.
        act: name of the activation.
    """
    c3, c4, low = features
    outs = [int(options["out"]) for _, options in cells]  # type: ignore[arg-type]
    nodes: list[Node] = []
    lateral: list[str] = []
    wide = top
    for i, finer in enumerate((c4, c3)):
        if reduce:
            nodes.append(node(f"pan{i + 1}_reduce", "conv", low, out=outs[i], act=act))
            low, wide = nodes[-1].name, outs[i]
        lateral.append(low)
        nodes.append(node(f"pan{i + 1}_up", "upsample", low, out=wide))
        nodes.append(place(f"pan{i + 1}_block", cells[i], (nodes[-1].name, finer)))
        low, wide = nodes[-1].name, outs[i]
    for i, skip in ((2, lateral[1]), (3, lateral[0])):
        kind, kernel = ("dwconv", {}) if light else ("conv", {"kernel": 3})
        down = (node(f"pan{i + 1}_down", kind, low, out=outs[i - 1], **kernel, stride=2, act=act),)
        halved = halve(f"pan{i + 1}_down", low, outs[i - 1]) if halve else down
        nodes += halved
        nodes.append(place(f"pan{i + 1}_block", cells[i], (*(n.name for n in halved), skip)))
        low = nodes[-1].name
    return tuple(nodes)
