"""PAN with the C2 skip: the neck of YOLO-NAS, and of YOLOv6 3.0 as RepBiFPAN (arXiv:2301.05586)."""

from __future__ import annotations

from search_spaces.graph import Cell, Node, node, place


def pan_c2(
    features: tuple[str, str, str, str], *, cells: tuple[Cell, Cell, Cell, Cell], act: str = "relu"
) -> tuple[Node, ...]:
    """Return the nodes of a PAN with C2: two up-stages, two down-stages.

    The outputs are ``neck2_block``, ``neck3_block``, ``neck4_block`` (P3, P4, P5). Each up-stage reduces its coarse
    input by a 1x1 that is also the lateral input of the matching down-stage. A down-stage halves with half of its
    block's channels.

    Args:
        features: names of C2 to C5, finest first.
        cells: blocks of the four stages.
        act: name of the activation.
    """
    c2, c3, c4, c5 = features
    outs = [int(options["out"]) for _, options in cells]  # type: ignore[arg-type]

    def conv(name: str, x: str, out: int, **geometry: int) -> Node:
        return node(name, "conv", x, out=out, act=act, **geometry)

    return (
        conv("neck1_reduce", c5, outs[0]),
        node("neck1_join", "bifusion", ("neck1_reduce", c4, c3), out=outs[0], act=act),
        place("neck1_block", cells[0], "neck1_join"),
        conv("neck2_reduce", "neck1_block", outs[1]),
        node("neck2_join", "bifusion", ("neck2_reduce", c3, c2), out=outs[1], act=act),
        place("neck2_block", cells[1], "neck2_join"),
        conv("neck3_down", "neck2_block", outs[2] // 2, kernel=3, stride=2),
        place("neck3_block", cells[2], ("neck3_down", "neck2_reduce")),
        conv("neck4_down", "neck3_block", outs[3] // 2, kernel=3, stride=2),
        place("neck4_block", cells[3], ("neck4_down", "neck1_reduce")),
    )
