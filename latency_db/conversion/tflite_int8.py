"""int8 ONNX files for LiteRT: the scales of quantizing nodes, as TFLite keeps them with its tensors.

An int8 ONNX file has pairs of QuantizeLinear and DequantizeLinear (Q/DQ) around floating-point operators. TFLite has no
such nodes: a tensor is int8 and has a scale and a zero point. :func:`take_scales` removes the nodes and returns what they
say; the translation (:mod:`latency_db.conversion.tflite_file`) computes an operator in int8 where all that it reads and
writes has scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from latency_db.conversion.onnx_parts import replace

if TYPE_CHECKING:
    import onnx

Scale = tuple[float, int]
"""Scale s and zero point z of an int8 tensor q: its values are s (q − z)."""
PROBABILITY: Scale = (1 / 256, -128)
"""What LiteRT's int8 sigmoid and softmax write."""

MOVING = {
    "AveragePool",
    "Concat",
    "Flatten",
    "MaxPool",
    "Reshape",
    "Resize",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}
"""Operators that LiteRT computes with one scale for inputs and outputs."""
PROBABILITIES = {"Sigmoid", "Softmax"}
LAYERS = {"Conv", "ConvTranspose"}
BINARY = {"Add", "MatMul", "Mul", "Sub"}
KINDS = MOVING | PROBABILITIES | LAYERS | BINARY | {"LeakyRelu", "ReduceMean", "Relu"}
"""Operators that are computed in int8."""


@dataclass(frozen=True)
class Scales:
    """Scales of a network.

    Attributes:
        values: Activation, or constant that is read as one -> scale and zero point.
        weights: Weight of a convolution -> its scales, one or one per output channel.
    """

    values: Mapping[str, Scale] = field(default_factory=dict)
    weights: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def computed(self, node: onnx.NodeProto, constants: Mapping[str, object], output: str) -> bool:
        """Return whether a node is computed in int8; ``output``: the value that it writes, or that of a fused ReLU."""
        if node.op_type not in KINDS:
            return False
        read = node.input if node.op_type in BINARY | {"Concat"} else node.input[:1]
        written = node.output if node.op_type == "Split" else [output]
        if node.op_type in LAYERS and node.input[1] not in self.weights:
            return False
        if all(i in constants for i in read) or any(name not in self.values for name in (*read, *written)):
            return False
        return len({self.values[name] for name in written}) == 1


def take_scales(proto: onnx.ModelProto) -> Scales:
    """Remove the Q/DQ nodes of a file, in place, and return their scales; weights are floating point afterwards."""
    from onnx import numpy_helper

    constants = {t.name: t for t in proto.graph.initializer}
    values: dict[str, Scale] = {}
    weights: dict[str, npt.NDArray[np.float32]] = {}
    source: dict[str, str] = {}
    as_weight = {n.input[1] for n in proto.graph.node if n.op_type in LAYERS}
    kept = []
    for n in proto.graph.node:
        if n.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            kept.append(n)
            continue
        scale = numpy_helper.to_array(constants[n.input[1]]).astype(np.float32)
        zero = numpy_helper.to_array(constants[n.input[2]]) if len(n.input) > 2 else np.zeros((), np.uint8)
        shift = 128 if zero.dtype == np.uint8 else 0
        if n.op_type == "QuantizeLinear":
            source[n.output[0]] = source.get(n.input[0], n.input[0])
            values[source[n.output[0]]] = float(scale), int(zero) - shift
        elif n.input[0] not in constants:
            source[n.output[0]] = source[n.input[0]]
        else:
            axis = next((a.i for a in n.attribute if a.name == "axis"), 1)
            stored = numpy_helper.to_array(constants[n.input[0]])
            real = _real(stored, scale, zero, axis)
            proto.graph.initializer.append(numpy_helper.from_array(real, n.output[0]))
            if n.output[0] in as_weight and stored.dtype == np.int8 and not zero.any():
                weights[n.output[0]] = scale.ravel()
            elif scale.size == 1 and stored.dtype in (np.int8, np.uint8):
                values[n.output[0]] = float(scale.ravel()[0]), int(zero.ravel()[0]) - shift
    for n in kept:
        replace(n.input, [source.get(i, i) for i in n.input])
    replace(proto.graph.node, kept)
    read = {i for n in kept for i in n.input}
    replace(proto.graph.initializer, [t for t in proto.graph.initializer if t.name in read])
    return Scales(values, weights)


def _real(
    stored: npt.NDArray[np.generic], scale: npt.NDArray[np.float32], zero: npt.NDArray[np.generic], axis: int
) -> npt.NDArray[np.float32]:
    """The numbers of a quantized constant."""
    shape = [1] * stored.ndim
    if scale.size > 1:
        shape[axis] = -1
    whole = stored.astype(np.int64) - zero.astype(np.int64).reshape(shape)
    return (whole * scale.astype(np.float64).reshape(shape)).astype(np.float32)


def rounded(values: npt.NDArray[np.generic], scale: Scale) -> npt.NDArray[np.int8]:
    """Quantize numbers of any shape to int8 of the same shape, rounded half to even."""
    step, zero = scale
    return np.clip(np.rint(np.asarray(values, np.float64) / step) + zero, -128, 127).astype(np.int8)
