"""PAN with the C2 skip: the neck of YOLO-NAS."""

from __future__ import annotations

from search_spaces.graph import Layout, Node, node


def pan_c2(
    features: tuple[str, str, str, str], *, outs: Layout, hidden: Layout, depth: Layout, up: str = "qsp", down: str = "csp"
) -> tuple[Node, ...]:
    """Two up-stages, two down-stages on C2…C5 (names, finest first); the outputs are ``neck2_block``, ``neck3_block``, ``neck4_block`` (P3, P4, P5).

    ``outs``, ``hidden`` and ``depth`` give the four stages' output channels, CSP widths and numbers of bottlenecks. Each up-stage reduces its coarse
    input by a 1x1 that is also the lateral input of the matching down-stage.
    """
    c2, c3, c4, c5 = features

    def block(i: int, kind: str, inputs: str | tuple[str, ...]) -> Node:
        return node(f"neck{i}_block", kind, inputs, out=outs[i - 1], hidden=hidden[i - 1], depth=depth[i - 1])

    return (
        node("neck1_reduce", "conv", c5, out=outs[0]),
        node("neck1_join", "bifusion", ("neck1_reduce", c4, c3), out=outs[0]),
        block(1, up, "neck1_join"),
        node("neck2_reduce", "conv", "neck1_block", out=outs[1]),
        node("neck2_join", "bifusion", ("neck2_reduce", c3, c2), out=outs[1]),
        block(2, up, "neck2_join"),
        node("neck3_down", "conv", "neck2_block", out=outs[2] // 2, kernel=3, stride=2),
        block(3, down, ("neck3_down", "neck2_reduce")),
        node("neck4_down", "conv", "neck3_block", out=outs[3] // 2, kernel=3, stride=2),
        block(4, down, ("neck4_down", "neck1_reduce")),
    )
