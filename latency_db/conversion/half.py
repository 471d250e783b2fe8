"""ONNX graphs in float16 with a float32 decode tail, and how they compute on a machine without float16.

TensorRT and CUDA compute such a graph in float16. ONNX Runtime on a CPU casts around each operator and then removes
casts that follow each other, so that a number beyond 65,504 survives there and becomes infinite on a GPU.
:func:`rounded` makes every rounding explicit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latency_db.conversion.onnx_parts import cut, join, replace

if TYPE_CHECKING:
    import onnx

QDQ = ("QuantizeLinear", "DequantizeLinear")
OPSET = 19
"""Smallest opset in which scales of Q/DQ nodes may be float16."""


def half(proto: onnx.ModelProto, tail_nodes: set[str]) -> onnx.ModelProto:
    """Return a model in float16 but for its inputs, its outputs and the nodes ``tail_nodes``.

    Box sides are pixels, which float16 represents coarsely. The part before the tail is converted alone: with the
    tail's nodes excluded instead, the library would round to float16 between any two of them. Scales of Q/DQ nodes
    become float16 too, so that what is between them is float16.
    """
    import onnx
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    if any(n.op_type in QDQ for n in proto.graph.node):
        proto = onnx.version_converter.convert_version(proto, OPSET)
        replace(proto.graph.value_info, [])
    body, tail = cut(proto, tail_nodes)
    blocked = [kind for kind in DEFAULT_OP_BLOCK_LIST if kind not in QDQ]
    return join(convert_float_to_float16(body, keep_io_types=True, op_block_list=blocked), tail)


def is_half(proto: onnx.ModelProto) -> bool:
    """Return whether a model has float16 weights."""
    return any(t.data_type == _float16() for t in proto.graph.initializer)


def rounded(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 model that rounds to float16 wherever ``proto`` has a float16 tensor.

    A value beyond the range of float16 becomes infinite. Each operator itself is computed in float32, as tensor cores
    accumulate.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    made = onnx.ModelProto()
    made.CopyFrom(proto)
    replace(made.graph.value_info, [])
    kinds = _kinds(proto)
    for tensor in made.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    nodes = []
    for n in made.graph.node:
        nodes.append(n)
        for i, name in enumerate(n.output):
            if kinds.get(name) != TensorProto.FLOAT16 or n.op_type == "Constant":
                continue
            exact, small = f"{name}/exact", f"{name}/float16"
            n.output[i] = exact
            nodes.append(helper.make_node("Cast", [exact], [small], f"{name}/round", to=TensorProto.FLOAT16))
            nodes.append(helper.make_node("Cast", [small], [name], f"{name}/back", to=TensorProto.FLOAT))
        for a in n.attribute:
            if n.op_type == "Cast" and a.name == "to" and a.i == TensorProto.FLOAT16:
                a.i = TensorProto.FLOAT
            if a.HasField("t") and a.t.data_type == TensorProto.FLOAT16:
                a.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(a.t).astype(np.float32), a.t.name))
    replace(made.graph.node, nodes)
    return made


def _kinds(proto: onnx.ModelProto) -> dict[str, int]:
    """Return the type of every tensor by name."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(proto).graph
    values = (*graph.value_info, *graph.output, *graph.input)
    return {v.name: v.type.tensor_type.elem_type for v in values}


def _float16() -> int:
    import onnx

    return int(onnx.TensorProto.FLOAT16)
