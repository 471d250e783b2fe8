"""The neck of YOLOv7 (arXiv:2207.02696): PAN with a 1x1 on both inputs of each join, and halving by a pool beside a
strided conv."""

from __future__ import annotations

from collections.abc import Callable

from search_spaces.graph import Cell, Node, node, place


def halve(name: str, x: str, out: int, channels: int, act: str) -> tuple[Node, ...]:
    """Return the nodes of YOLOv7's halving: a 2x2 max-pool and 1x1 beside a 1x1 and strided 3x3.

    Args:
        name: prefix of the nodes; the outputs are ``<name>_a`` and ``<name>_b``.
        x: the input node.
        out: channels of each of the two outputs.
        channels: of the input.
        act: name of the activation.
    """
    return (
        node(f"{name}_pool", "pool", x, out=channels),
        node(f"{name}_a", "conv", f"{name}_pool", out=out, act=act),
        node(f"{name}_1x1", "conv", x, out=out, act=act),
        node(f"{name}_b", "conv", f"{name}_1x1", out=out, kernel=3, stride=2, act=act),
    )


def strided(name: str, x: str, out: int, channels: int, act: str) -> tuple[Node, ...]:
    """Return the strided 3x3 (``<name>_b``) by which YOLOv7-tiny halves, with 2 ``out`` channels."""
    return (node(f"{name}_b", "conv", x, out=2 * out, kernel=3, stride=2, act=act),)


def elan_pan(
    features: tuple[str, str, str], *, cells: tuple[Cell, Cell, Cell, Cell], pooled: bool, act: str = "silu"
) -> tuple[Node, ...]:
    """Return the nodes of YOLOv7's neck; the outputs are ``elan2_block``, ``elan3_block``, ``elan4_block`` (P3, P4,
    P5).

    Args:
        features: names of C3, C4 and the pyramid's top, finest first.
        cells: blocks of the two up-stages and the two down-stages.
        pooled: whether down-stages halve by a pool beside a conv (YOLOv7), else by a conv (tiny).
        act: name of the activation.
    """
    c3, c4, top = features
    outs = [int(options["out"]) for _, options in cells]  # type: ignore[arg-type]
    down: Callable[..., tuple[Node, ...]] = halve if pooled else strided
    nodes: list[Node] = []
    low = top
    for i, finer in enumerate((c4, c3)):
        name = f"elan{i + 1}"
        nodes += [
            node(f"{name}_reduce", "conv", low, out=outs[i], act=act),
            node(f"{name}_up", "upsample", f"{name}_reduce", out=outs[i]),
            node(f"{name}_side", "conv", finer, out=outs[i], act=act),
            place(f"{name}_block", cells[i], (f"{name}_side", f"{name}_up")),
        ]
        low = f"{name}_block"
    for i, skip in ((2, "elan1_block"), (3, top)):
        name = f"elan{i + 1}"
        halved = down(f"{name}_down", low, outs[i] // 2, outs[i - 1], act)
        nodes += halved
        ends = tuple(n.name for n in halved if n.name.endswith(("_a", "_b")))
        nodes.append(place(f"{name}_block", cells[i], (*ends, skip)))
        low = f"{name}_block"
    return tuple(nodes)
