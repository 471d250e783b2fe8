"""Multiply-accumulates and memory traffic of the nodes of an ONNX file, from its shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FLOAT_BYTES = 4


@dataclass(frozen=True)
class NodeCost:
    """Cost of a node at the shapes of the file.

    Args:
        name: Name of the node.
        kind: Operator.
        macs: Multiply-accumulates of a convolution or a product of matrices, else 0.
        bytes: Bytes of inputs, weights and outputs in float32; a lower precision moves fewer.
        out_channels: Channels of the output of a convolution, else 0.
    """

    name: str
    kind: str
    macs: int
    bytes: int
    out_channels: int = 0


def costs_of(path: Path) -> dict[str, NodeCost]:
    """Return the cost of every node of an ONNX file by its name and by the names of its outputs.

    Free dimensions count as 1. A file whose shapes cannot be inferred gives what is in it.
    """
    import onnx
    from onnx import shape_inference

    model = shape_inference.infer_shapes(onnx.load(str(path)))
    graph = model.graph
    shapes = {v.name: _shape(v) for v in (*graph.input, *graph.value_info, *graph.output)}
    shapes |= {t.name: tuple(t.dims) for t in graph.initializer}
    found: dict[str, NodeCost] = {}
    for node in graph.node:
        cost = _cost(node, shapes)
        for name in filter(None, (node.name, *node.output)):
            found[name] = cost
    return found


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(d.dim_value or 1 for d in value.type.tensor_type.shape.dim)


def _cost(node: Any, shapes: Mapping[str, Sequence[int]]) -> NodeCost:
    inputs = [shapes[name] for name in node.input if name in shapes]
    outputs = [shapes[name] for name in node.output if name in shapes]
    elements = sum(math.prod(s) for s in (*inputs, *outputs))
    macs, channels = 0, 0
    if node.op_type in ("Conv", "ConvTranspose") and len(inputs) > 1 and outputs:
        image, weight, result = inputs[0], inputs[1], outputs[0]
        spatial = math.prod((result if node.op_type == "Conv" else image)[2:])
        macs, channels = math.prod(weight) * spatial * result[0], int(result[1])
    elif node.op_type in ("MatMul", "Gemm") and len(inputs) > 1 and outputs:
        macs = math.prod(outputs[0]) * int(inputs[0][-1])
    return NodeCost(node.name, node.op_type, int(macs), elements * FLOAT_BYTES, channels)
