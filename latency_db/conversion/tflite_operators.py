"""The operators of ONNX that are translated to TFLite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from latency_db.conversion.tflite_graph import TO_LAST, TfliteGraph, Write
from latency_db.conversion.tflite_int8 import PROBABILITY
from search_spaces.errors import InputError

if TYPE_CHECKING:
    import onnx

    Array = npt.NDArray[np.generic]

SAME, VALID = 0, 1
RELU = 1


def _padded(t: TfliteGraph, x: int, name: str, pads: Sequence[int], lowest: bool = False) -> int:
    """The input with explicit borders (top, left, bottom, right), of zeros or of the lowest number."""
    n, c, h, w = t.shapes[name]
    shape = (n, h + pads[0] + pads[2], w + pads[1] + pads[3], c)
    out = t.tensor(f"{name}/padded{len(t.tensors)}", shape, like=x)
    table = t.constant([[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]], np.int32)
    if lowest:
        least: Array = np.array(-128, np.int8) if t.int8 else np.array(np.finfo(np.float32).min)
        border = t.tensor(f"constant{len(t.tensors)}", (), least, like=x)
        t.operator("PADV2", [x, table, border], [out], "PadV2Options")
    else:
        t.operator("PAD", [x, table], [out], "PadOptions")
    return out


def _window(
    t: TfliteGraph, node: onnx.NodeProto, a: dict[str, Any], kernel: Sequence[int], lowest: bool = False
) -> tuple[int, int]:
    """(input, padding) of a convolution or pooling: LiteRT's SAME where it means these borders, else a PAD before."""
    name, x = node.input[0], t.get(node.input[0], last=True)
    strides, dilations = a.get("strides", [1, 1]), a.get("dilations", [1, 1])
    pads = list(a.get("pads", [0, 0, 0, 0]))
    if a.get("ceil_mode"):
        sizes, outs = t.shapes[name][2:], t.shapes[node.output[0]][2:]
        for i in (0, 1):
            pads[2 + i] = max(pads[2 + i], (outs[i] - 1) * strides[i] + kernel[i] - sizes[i] - pads[i])
    if not any(pads):
        return x, VALID
    same = []
    for i in (0, 1):
        size, out = t.shapes[name][2 + i], -(-t.shapes[name][2 + i] // strides[i])
        total = max(0, (out - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - size)
        same += [(total // 2, total - total // 2)]
    if same == [(pads[0], pads[2]), (pads[1], pads[3])]:
        return x, SAME
    return _padded(t, x, name, pads, lowest), VALID


def _conv(t: TfliteGraph, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    weight = np.asarray(t.constants[node.input[1]], np.float32)
    channels, group = t.shapes[node.input[0]][1], a.get("group", 1)
    x, padding = _window(t, node, a, weight.shape[2:])
    (sh, sw), (dh, dw) = a.get("strides", [1, 1]), a.get("dilations", [1, 1])
    fields = {"padding": padding, "strideH": sh, "strideW": sw, "dilationHFactor": dh, "dilationWFactor": dw}
    fields["fusedActivationFunction"] = RELU if follower else 0
    depthwise = group == channels and group > 1 and weight.shape[1] == 1
    inputs = [x, *(t.kernel(node, (1, 2, 3, 0), 3) if depthwise else t.kernel(node, (0, 2, 3, 1), 0))]
    out = t.result(follower or node.output[0], last=True)
    if depthwise:
        fields["depthMultiplier"] = len(weight) // channels
        t.operator("DEPTHWISE_CONV_2D", inputs, [out], "DepthwiseConv2DOptions", **fields)
    else:
        t.operator("CONV_2D", inputs, [out], "Conv2DOptions", **fields)


def _conv_transpose(t: TfliteGraph, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    (sh, sw), name = a.get("strides", [1, 1]), node.output[0]
    if any(a.get("pads", [])) or a.get("group", 1) != 1 or any(a.get("output_padding", [])):
        raise InputError(f"node {node.name!r}: a transposed convolution with pads or groups", "none")
    shape = t.order(t.shapes[name], last=True)
    kernel, bias = t.kernel(node, (1, 2, 3, 0), 0)
    inputs = [t.constant(shape, np.int32), kernel, t.get(node.input[0], last=True)]
    if t.int8:
        inputs.append(bias)
    biased = len(node.input) > 2 and not t.int8
    out = t.tensor(f"{name}/product", shape) if biased else t.result(name, last=True)
    t.operator("TRANSPOSE_CONV", inputs, [out], "TransposeConvOptions", padding=VALID, strideH=sh, strideW=sw)
    if biased:
        t.operator("ADD", [out, bias], [t.result(name, last=True)], "AddOptions")


def _max_pool(t: TfliteGraph, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    kernel, (sh, sw) = a["kernel_shape"], a.get("strides", [1, 1])
    x, padding = _window(t, node, a, kernel, lowest=True)
    fields = {"padding": padding, "strideH": sh, "strideW": sw, "filterHeight": kernel[0], "filterWidth": kernel[1]}
    t.operator("MAX_POOL_2D", [x], [t.result(node.output[0], last=True)], "Pool2DOptions", **fields)


def _average_pool(t: TfliteGraph, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    kernel, (sh, sw) = a["kernel_shape"], a.get("strides", [1, 1])
    if any(a.get("pads", [])) or a.get("ceil_mode", 0) or any(d != 1 for d in a.get("dilations", [])):
        raise InputError(f"node {node.name!r}: a mean with pads or dilations", "none")
    fields = {"padding": VALID, "strideH": sh, "strideW": sw, "filterHeight": kernel[0], "filterWidth": kernel[1]}
    x = t.get(node.input[0], last=True)
    t.operator("AVERAGE_POOL_2D", [x], [t.result(node.output[0], last=True)], "Pool2DOptions", **fields)


def _resize(t: TfliteGraph, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    if a.get("mode", b"nearest") != b"nearest":
        raise InputError(f"node {node.name!r}: resizing by {a['mode'].decode()}", "nearest")
    size = t.constant(t.shapes[node.output[0]][2:], np.int32)
    out = t.result(node.output[0], last=True)
    t.operator(
        "RESIZE_NEAREST_NEIGHBOR", [t.get(node.input[0], last=True), size], [out], "ResizeNearestNeighborOptions"
    )


def _unary(kind: str, options: str = "", **renamed: str) -> Write:
    def write(t: TfliteGraph, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
        last = t.last(node.input[0])
        x = t.get(node.input[0], last)
        fields = {field: a.get(name, 0.01) for name, field in renamed.items()}
        t.operator(kind, [x], [t.result(node.output[0], last)], options, **fields)

    return write


def _binary(kind: str, options: str) -> Write:
    def write(t: TfliteGraph, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
        rank = len(t.shapes[node.output[0]])
        values = [i for i in node.input if i not in t.constants]
        last = rank == 4 and any(map(t.last, values)) and all(len(t.shapes[i]) == 4 for i in values)
        inputs = [t.get(i, last, rank if last else None) for i in node.input]
        t.operator(kind, inputs, [t.result(node.output[0], last)], options)

    return write


def _axis(t: TfliteGraph, axis: int, rank: int, last: bool) -> int:
    """The place of an axis of ONNX."""
    axis %= rank
    return TO_LAST.index(axis) if last else axis


def _concat(t: TfliteGraph, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    rank = len(t.shapes[node.output[0]])
    last = rank == 4 and any(map(t.last, node.input))
    inputs = [t.get(i, last) for i in node.input]
    axis = _axis(t, a["axis"], rank, last)
    t.operator("CONCATENATION", inputs, [t.result(node.output[0], last)], "ConcatenationOptions", axis=axis)


def _split(t: TfliteGraph, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    name, last = node.input[0], t.last(node.input[0])
    axis = a.get("axis", 0) % len(t.shapes[name])
    sizes = [t.shapes[o][axis] for o in node.output]
    place = _axis(t, axis, len(t.shapes[name]), last)
    inputs = [t.get(name, last), t.constant(sizes, np.int32), t.constant(place, np.int32)]
    outputs = [t.result(o, last) for o in node.output]
    t.operator("SPLIT_V", inputs, outputs, "SplitVOptions", numSplits=len(sizes))


def _slice(t: TfliteGraph, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    name, last = node.input[0], t.last(node.input[0])
    shape = t.shapes[name]
    given = [[int(x) for x in t.constants[i].ravel()] for i in node.input[1:]]
    starts, ends = given[:2]
    axes = given[2] if len(given) > 2 else list(range(len(starts)))
    steps = given[3] if len(given) > 3 else [1] * len(starts)
    begin, end, stride = [0] * len(shape), list(shape), [1] * len(shape)
    for axis, low, high, step in zip(axes, starts, ends, steps, strict=True):
        place = axis % len(shape)
        length = shape[place]
        begin[place], stride[place] = low % length if low < 0 else min(low, length), step
        end[place] = high + length if high < 0 else min(high, length)
    bounds = [t.constant(t.order(b, last), np.int32) for b in (begin, end, stride)]
    out = t.result(node.output[0], last)
    t.operator("STRIDED_SLICE", [t.get(name, last), *bounds], [out], "StridedSliceOptions")


def _reshape(t: TfliteGraph, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    shape = list(t.shapes[node.output[0]])
    inputs = [t.get(node.input[0]), t.constant(shape, np.int32)]
    t.operator("RESHAPE", inputs, [t.result(node.output[0])], "ReshapeOptions", newShape=shape)


def _expand(t: TfliteGraph, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    shape = t.constant(t.shapes[node.output[0]], np.int32)
    inputs = [t.get(node.input[0]), shape]
    t.operator("BROADCAST_TO", inputs, [t.result(node.output[0])], "BroadcastToOptions")


def _transpose(t: TfliteGraph, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    name, last = node.input[0], t.last(node.input[0])
    perm = [TO_LAST.index(p) for p in a["perm"]] if last else list(a["perm"])
    inputs = [t.get(name, last), t.constant(perm, np.int32)]
    t.operator("TRANSPOSE", inputs, [t.result(node.output[0])], "TransposeOptions")


def _softmax(t: TfliteGraph, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    name, out = node.input[0], node.output[0]
    rank, last = len(t.shapes[name]), t.last(name)
    axis = _axis(t, a.get("axis", -1), rank, last)
    x, held = t.get(name, last), t.order(t.shapes[name], last)
    if axis == rank - 1:
        t.operator("SOFTMAX", [x], [t.result(out, last)], "SoftmaxOptions", beta=1.0)
        return
    perm = [i for i in range(rank) if i != axis] + [axis]
    shape, back = [held[i] for i in perm], [perm.index(i) for i in range(rank)]
    scale = PROBABILITY if t.int8 else None
    turned, soft = t.tensor(f"{out}/turned", shape, like=x), t.tensor(f"{out}/softmax", shape, scale=scale)
    t.operator("TRANSPOSE", [x, t.constant(perm, np.int32)], [turned], "TransposeOptions")
    t.operator("SOFTMAX", [turned], [soft], "SoftmaxOptions", beta=1.0)
    t.operator("TRANSPOSE", [soft, t.constant(back, np.int32)], [t.result(out, last)], "TransposeOptions")


def _reduce(kind: str) -> Write:
    def write(t: TfliteGraph, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
        name, keep = node.input[0], bool(a.get("keepdims", 1))
        rank = len(t.shapes[name])
        axes = [int(i) % rank for i in (a["axes"] if "axes" in a else t.constants[node.input[1]].ravel())]
        last = t.last(name) and keep
        places = t.constant([_axis(t, i, rank, last) for i in axes], np.int32)
        t.operator(kind, [t.get(name, last), places], [t.result(node.output[0], last)], "ReducerOptions", keepDims=keep)

    return write


def _matmul(t: TfliteGraph, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    left, right = node.input
    if len(t.shapes[right]) < 2 or len(t.shapes[left]) < 2:
        raise InputError(f"node {node.name!r}: a product with a vector", "a matrix")
    inputs = [t.get(left), t.get(right)]
    t.operator("BATCH_MATMUL", inputs, [t.result(node.output[0])], "BatchMatMulOptions")


def _identity(t: TfliteGraph, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    last = t.last(node.input[0])
    t.held[node.output[0], last] = t.get(node.input[0], last)  # never int8


WRITERS: dict[str, Write] = {
    "Add": _binary("ADD", "AddOptions"),
    "AveragePool": _average_pool,
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": _binary("DIV", "DivOptions"),
    "Exp": _unary("EXP", "ExpOptions"),
    "Expand": _expand,
    "Flatten": _reshape,
    "HardSwish": _unary("HARD_SWISH", "HardSwishOptions"),
    "Identity": _identity,
    "LeakyRelu": _unary("LEAKY_RELU", "LeakyReluOptions", alpha="alpha"),
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mul": _binary("MUL", "MulOptions"),
    "ReduceMean": _reduce("MEAN"),
    "ReduceSum": _reduce("SUM"),
    "Relu": _unary("RELU"),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": _unary("LOGISTIC"),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _reshape,
    "Sub": _binary("SUB", "SubOptions"),
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
"""Operator of ONNX -> its translation."""
