"""ONNX files converted for LiteRT: a TFLite file with the same operators, written with the schema of its wheel.

LiteRT's own converter (``litert-torch``) starts from a torch module, needs jax and 700 MB of wheels, and takes about 7 s
for two convolutions; a search converts hundreds of ONNX files. The networks of the search spaces use two dozen
operators, so their translation is a table.

LiteRT's convolutions take images with the channels last (NHWC). Every 4-D result of a convolution, pooling or resizing is
held in that order, and so is what is computed from it element by element; axes are renumbered. Any other operator
gets the order of ONNX by a transposition. 4-D inputs of the file have channels last.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from latency_db.conversion.onnx_parts import (
    check_operators,
    folded,
    input_shapes,
    named,
    parsed,
    read,
    replace,
)
from latency_db.conversion.tflite_int8 import MOVING, PROBABILITIES, PROBABILITY, Scale, Scales, rounded, take_scales
from search_spaces.errors import InputError
from search_spaces.image_size import AnySize

if TYPE_CHECKING:
    import onnx

    Array = npt.NDArray[np.generic]

TO_LAST = (0, 2, 3, 1)
"""Axes of NHWC in NCHW."""
TO_FIRST = (0, 3, 1, 2)
"""Axes of NCHW in NHWC: the place of each axis of ONNX where channels are last."""
SAME, VALID = 0, 1
RELU = 1


FOLDED = {"Constant", "ConstantOfShape", "Shape", "Gather", "Cast", "Range"}
"""Operators that compute shapes or constants: ONNX Runtime folds them, once the shapes are fixed."""
SIGNATURE = "serving_default"
"""Name of the file's only signature."""


@dataclass(frozen=True)
class TfliteFile:
    """A translated network.

    Attributes:
        content: The file.
        inputs: Name -> shape in the file, channels last.
    """

    content: bytes
    inputs: dict[str, list[int]]


def convert(model: Path, batch: int = 1, image_size: AnySize | None = None) -> bytes:
    """Return an ONNX file as TFLite, with fixed shapes.

    Args:
        model: The file.
        batch: Images per run of the target; a free batch dimension takes it.
        image_size: Size of the target's images; a free height or width takes it.

    Raises:
        InputError: As :func:`translate`.
    """
    return translate(model, batch, image_size).content


def translate(model: Path, batch: int = 1, image_size: AnySize | None = None) -> TfliteFile:
    """Translate an ONNX file, with fixed shapes; ``batch`` and ``image_size`` as for :func:`convert`.

    A file with quantizing nodes becomes an int8 file; its inputs and outputs are float32.

    Raises:
        InputError: The file cannot be read, its shape is not the target's, or an operator has no translation.
    """
    proto = parsed(model)
    quantized = any(n.op_type == "QuantizeLinear" for n in proto.graph.node)
    proto = named(proto) if quantized else read(model)
    check_operators(proto)
    scales = take_scales(proto) if quantized else Scales()
    inputs = input_shapes(proto, batch, image_size)
    for item in proto.graph.input:
        for dim, size in zip(item.type.tensor_type.shape.dim, inputs.get(item.name, ()), strict=False):
            dim.dim_value = size
    for item in proto.graph.output:
        item.type.tensor_type.ClearField("shape")
    unknown = {n.op_type for n in proto.graph.node if n.op_type not in WRITERS}
    if unknown and unknown <= FOLDED:
        with tempfile.TemporaryDirectory() as scratch:  # what computes shapes, and constants of torch's exporter
            (path := Path(scratch) / model.name).write_bytes(proto.SerializeToString())
            proto = named(folded(path))
    translation = _Translation(proto, inputs, scales)
    shapes = {name: list(translation.order(shape, len(shape) == 4)) for name, shape in inputs.items()}
    return TfliteFile(translation.content(), shapes)


class _Translation:
    """The TFLite graph under construction."""

    def __init__(self, proto: onnx.ModelProto, inputs: dict[str, list[int]], scales: Scales) -> None:
        import onnx
        from ai_edge_litert import schema_py_generated as schema
        from onnx import numpy_helper

        self.schema: Any = schema
        replace(proto.graph.value_info, [])
        graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
        self.constants: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.shapes = {name: tuple(array.shape) for name, array in self.constants.items()}
        for value in (*graph.input, *graph.value_info, *graph.output):
            self.shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        self.graph = graph
        self.uses = Counter(i for n in graph.node for i in n.input)
        self.uses.update(o.name for o in graph.output)
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]
        self.operators: list[Any] = []
        self.codes: list[int] = []
        self.scales = scales
        self.scale_of = dict(scales.values)
        """Value -> scale of its int8 tensor."""
        self.int8 = False
        """Whether the operator that is written is computed in int8."""
        self.held: dict[tuple[str, bool], int] = {}
        """(name, channels last) -> index of the tensor; int8 tensors have names of their own (:meth:`key`)."""
        self.inputs = [self.tensor(name, self.order(shape, len(shape) == 4)) for name, shape in inputs.items()]
        self.held |= {(name, len(shape) == 4): i for (name, shape), i in zip(inputs.items(), self.inputs, strict=True)}
        self.names = list(inputs)

    # tensors

    @staticmethod
    def order(shape: Sequence[int], last: bool) -> tuple[int, ...]:
        """The shape with the channels last, or as it is."""
        return tuple(shape[i] for i in TO_LAST) if last else tuple(shape)

    def tensor(
        self, name: str, shape: Sequence[int], values: Array | None = None, scale: Scale | None = None, like: int = -1
    ) -> int:
        """Add a tensor.

        Args:
            name: Its name.
            shape: Its shape.
            values: Of a constant: float32, or int32 or int8 if they are.
            scale: Of an int8 tensor.
            like: Index of another tensor, whose type and scale it takes.
        """
        s = self.schema
        t = s.TensorT()
        t.name, t.shape, t.buffer, t.hasRank = name, list(shape), 0, True
        kinds = {"int32": s.TensorType.INT32, "int8": s.TensorType.INT8}
        kind = str(values.dtype) if values is not None else "int8" if scale else "float32"
        t.type = kinds.get(kind, s.TensorType.FLOAT32)
        if scale:
            t.quantization = self._quantization([scale[0]], [scale[1]])
        if like >= 0:
            t.type, t.quantization = self.tensors[like].type, self.tensors[like].quantization
        if values is not None:
            buffer = s.BufferT()
            data = np.ascontiguousarray(values, kind if kind in kinds else np.float32)
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            self.buffers.append(buffer)
            t.buffer = len(self.buffers) - 1
        self.tensors.append(t)
        return len(self.tensors) - 1

    def _quantization(self, scale: Sequence[float], zero: Sequence[int], axis: int = 0) -> Any:
        q = self.schema.QuantizationParametersT()
        q.scale, q.zeroPoint, q.quantizedDimension = list(scale), list(zero), axis
        return q

    def constant(self, values: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> int:
        """Add a constant tensor."""
        array = np.asarray(values, dtype)
        return self.tensor(f"constant{len(self.tensors)}", array.shape, array)

    def kernel(self, node: onnx.NodeProto, perm: Sequence[int], axis: int) -> list[int]:
        """Add weight and bias of a convolution: float32, or int8 and int32.

        Args:
            node: The convolution.
            perm: Axes of ONNX in the order of TFLite.
            axis: Axis of the output channels in TFLite.
        """
        weight = np.asarray(self.constants[node.input[1]], np.float32).transpose(perm)
        given = len(node.input) > 2 and node.input[2]
        bias = np.asarray(self.constants[node.input[2]] if given else np.zeros(weight.shape[axis]), np.float32)
        if not self.int8:
            return [self.constant(weight), self.constant(bias)]
        scales = np.asarray(self.scales.weights[node.input[1]], np.float64)
        shape = [-1 if i == axis and scales.size > 1 else 1 for i in range(weight.ndim)]
        whole = np.clip(np.rint(weight / scales.reshape(shape)), -127, 127).astype(np.int8)
        steps = scales * self.scale_of[node.input[0]][0]
        limit = np.iinfo(np.int32).max
        sums = np.clip(np.rint(bias.astype(np.float64) / steps), -limit, limit).astype(np.int32)
        indices = [self.constant(whole, np.int8), self.constant(sums, np.int32)]
        for index, of, place in zip(indices, (scales, steps), (axis, 0), strict=True):
            self.tensors[index].quantization = self._quantization(of.tolist(), [0] * of.size, place)
        return indices

    def key(self, name: str) -> str:
        """The name of a value's tensor in the precision of the present operator."""
        return f"{name}/int8" if self.int8 else name

    def last(self, name: str) -> bool:
        """Whether a value is held with the channels last only."""
        places = [place for held, place in self.held if held in (name, f"{name}/int8")]
        return bool(places) and all(places)

    def get(self, name: str, last: bool = False, rank: int | None = None) -> int:
        """The tensor of a value in an order and in the precision of the operator; a constant gets ``rank`` axes."""
        key = self.key(name)
        if name in self.constants and (key, last) not in self.held:
            values = np.asarray(self.constants[name], np.float32)
            values = values.reshape((1,) * ((rank or values.ndim) - values.ndim) + values.shape)
            values = values.transpose(TO_LAST) if last else values
            if not self.int8:
                return self.constant(values)
            scale = self.scale_of[name]
            return self.tensor(f"constant{len(self.tensors)}", values.shape, rounded(values, scale), scale)
        if (key, last) not in self.held:
            self.held[key, last] = self._moved(name, last) if (key, not last) in self.held else self._cast(name, last)
        return self.held[key, last]

    def _moved(self, name: str, last: bool) -> int:
        """The tensor of a value in the other order."""
        key = self.key(name)
        source = self.held[key, not last]
        perm = TO_LAST if last else TO_FIRST
        out = self.tensor(f"{key}/{'last' if last else 'first'}", self.order(self.shapes[name], last), like=source)
        self.operator("TRANSPOSE", [source, self.constant(perm, np.int32)], [out])
        return out

    def _cast(self, name: str, last: bool) -> int:
        """The tensor of a value in the other precision."""
        wanted, key = self.int8, self.key(name)
        self.int8 = not wanted
        source = self.get(name, last)
        self.int8 = wanted
        out = self.tensor(key, self.order(self.shapes[name], last), scale=self.scale_of[name] if wanted else None)
        kind = "QUANTIZE" if wanted else "DEQUANTIZE"
        self.operator(kind, [source], [out], f"{kind.title()}Options")
        return out

    def result(self, name: str, last: bool = False) -> int:
        """Add the tensor of a node's output."""
        scale = self.scale_of[name] if self.int8 else None
        index = self.tensor(self.key(name), self.order(self.shapes[name], last), scale=scale)
        self.held[self.key(name), last] = index
        return index

    def operator(
        self, kind: str, inputs: Sequence[int], outputs: Sequence[int], options: str = "", **fields: Any
    ) -> None:
        """Add an operator; ``options`` is the name of its options in the schema, ``fields`` their values."""
        s = self.schema
        code = getattr(s.BuiltinOperator, kind)
        if code not in self.codes:
            self.codes.append(code)
        op = s.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = self.codes.index(code), list(inputs), list(outputs)
        if options:
            op.builtinOptionsType = getattr(s.BuiltinOptions, options)
            op.builtinOptions = getattr(s, f"{options}T")()
            for name, value in fields.items():
                setattr(op.builtinOptions, name, value)
        self.operators.append(op)

    # the whole

    def content(self) -> bytes:
        """Translate all nodes and return the file."""
        fused: set[str] = set()
        for node in self.graph.node:
            if node.output[0] in fused:
                continue
            write = WRITERS.get(node.op_type)
            if write is None:
                raise InputError(f"operator {node.op_type} of node {node.name!r}", "one that is translated for LiteRT")
            follower = self._only_relu(node)
            self.int8 = self.scales.computed(node, self.constants, follower or node.output[0])
            attributes = {a.name: _attribute(a) for a in node.attribute}
            if self.int8 and node.op_type in MOVING:
                self._with_one_scale(node, write, attributes)
            elif self.int8 and node.op_type in PROBABILITIES:
                self._as_probability(node, write, attributes)
            else:
                write(self, node, attributes, follower)
            self.int8 = False
            if follower:
                fused.add(follower)
        outputs = {o.name: self.get(o.name) for o in self.graph.output}
        return self._file(outputs)

    def _with_one_scale(self, node: onnx.NodeProto, write: Write, attributes: dict[str, Any]) -> None:
        """Write an operator that needs one scale; inputs with another one are rescaled before."""
        wanted = self.scale_of[node.output[0]]
        others = [i for i in dict.fromkeys(node.input) if self.scale_of.get(i, wanted) != wanted]
        kept_scales, kept = dict(self.scale_of), dict(self.held)
        for name in others:
            last = self.last(name)
            if name not in self.constants:
                source, shape = self.get(name, last), self.order(self.shapes[name], last)
                self.held.pop((self.key(name), not last), None)
                out = self.tensor(f"{self.key(name)}/{node.name}", shape, scale=wanted)
                self.operator("QUANTIZE", [source], [out], "QuantizeOptions")
                self.held[self.key(name), last] = out
            self.scale_of[name] = wanted
        write(self, node, attributes, "")
        for name in others:
            self.scale_of[name] = kept_scales[name]
            for place in ((self.key(name), True), (self.key(name), False)):
                self.held.pop(place, None)
                if place in kept:
                    self.held[place] = kept[place]

    def _as_probability(self, node: onnx.NodeProto, write: Write, attributes: dict[str, Any]) -> None:
        """Write a sigmoid or softmax, whose scale LiteRT fixes; another one is reached by rescaling."""
        name = node.output[0]
        wanted, self.scale_of[name] = self.scale_of[name], PROBABILITY
        write(self, node, attributes, "")
        self.scale_of[name] = wanted
        if not np.allclose(wanted, PROBABILITY, rtol=1e-6):
            last = self.last(name)
            source = self.held[self.key(name), last]
            self.operator("QUANTIZE", [source], [self.result(name, last)], "QuantizeOptions")

    def _only_relu(self, node: onnx.NodeProto) -> str:
        """The output of a ReLU that alone reads a convolution, so that it becomes a part of it; empty if none does."""
        if node.op_type != "Conv" or self.uses[node.output[0]] != 1:
            return ""
        readers = [n for n in self.graph.node if node.output[0] in n.input]
        return str(readers[0].output[0]) if readers and readers[0].op_type == "Relu" else ""

    def _file(self, outputs: dict[str, int]) -> bytes:
        import flatbuffers

        s = self.schema
        sub, model, signature = s.SubGraphT(), s.ModelT(), s.SignatureDefT()
        sub.tensors, sub.operators, sub.name = self.tensors, self.operators, "main"
        sub.inputs, sub.outputs = self.inputs, list(outputs.values())
        signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
        signature.inputs = [self._mapped(n, i) for n, i in zip(self.names, self.inputs, strict=True)]
        signature.outputs = [self._mapped(n, i) for n, i in outputs.items()]
        model.version, model.description, model.subgraphs = 3, "hw-nas-yolo", [sub]
        model.buffers, model.signatureDefs = self.buffers, [signature]
        model.operatorCodes = []
        for code in self.codes:
            entry = s.OperatorCodeT()
            entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, min(code, 127), 1
            model.operatorCodes.append(entry)
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _mapped(self, name: str, index: int) -> Any:
        entry = self.schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        return entry


def _attribute(attribute: onnx.AttributeProto) -> Any:
    from onnx import helper

    return helper.get_attribute_value(attribute)


Write = Callable[[_Translation, "onnx.NodeProto", dict[str, Any], str], None]


def _padded(t: _Translation, x: int, name: str, pads: Sequence[int], lowest: bool = False) -> int:
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
    t: _Translation, node: onnx.NodeProto, a: dict[str, Any], kernel: Sequence[int], lowest: bool = False
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


def _conv(t: _Translation, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
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


def _conv_transpose(t: _Translation, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
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


def _max_pool(t: _Translation, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    kernel, (sh, sw) = a["kernel_shape"], a.get("strides", [1, 1])
    x, padding = _window(t, node, a, kernel, lowest=True)
    fields = {"padding": padding, "strideH": sh, "strideW": sw, "filterHeight": kernel[0], "filterWidth": kernel[1]}
    t.operator("MAX_POOL_2D", [x], [t.result(node.output[0], last=True)], "Pool2DOptions", **fields)


def _average_pool(t: _Translation, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    kernel, (sh, sw) = a["kernel_shape"], a.get("strides", [1, 1])
    if any(a.get("pads", [])) or a.get("ceil_mode", 0) or any(d != 1 for d in a.get("dilations", [])):
        raise InputError(f"node {node.name!r}: a mean with pads or dilations", "none")
    fields = {"padding": VALID, "strideH": sh, "strideW": sw, "filterHeight": kernel[0], "filterWidth": kernel[1]}
    x = t.get(node.input[0], last=True)
    t.operator("AVERAGE_POOL_2D", [x], [t.result(node.output[0], last=True)], "Pool2DOptions", **fields)


def _resize(t: _Translation, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    if a.get("mode", b"nearest") != b"nearest":
        raise InputError(f"node {node.name!r}: resizing by {a['mode'].decode()}", "nearest")
    size = t.constant(t.shapes[node.output[0]][2:], np.int32)
    out = t.result(node.output[0], last=True)
    t.operator(
        "RESIZE_NEAREST_NEIGHBOR", [t.get(node.input[0], last=True), size], [out], "ResizeNearestNeighborOptions"
    )


def _unary(kind: str, options: str = "", **renamed: str) -> Write:
    def write(t: _Translation, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
        last = t.last(node.input[0])
        x = t.get(node.input[0], last)
        fields = {field: a.get(name, 0.01) for name, field in renamed.items()}
        t.operator(kind, [x], [t.result(node.output[0], last)], options, **fields)

    return write


def _binary(kind: str, options: str) -> Write:
    def write(t: _Translation, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
        rank = len(t.shapes[node.output[0]])
        values = [i for i in node.input if i not in t.constants]
        last = rank == 4 and any(map(t.last, values)) and all(len(t.shapes[i]) == 4 for i in values)
        inputs = [t.get(i, last, rank if last else None) for i in node.input]
        t.operator(kind, inputs, [t.result(node.output[0], last)], options)

    return write


def _axis(t: _Translation, axis: int, rank: int, last: bool) -> int:
    """The place of an axis of ONNX."""
    axis %= rank
    return TO_LAST.index(axis) if last else axis


def _concat(t: _Translation, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    rank = len(t.shapes[node.output[0]])
    last = rank == 4 and any(map(t.last, node.input))
    inputs = [t.get(i, last) for i in node.input]
    axis = _axis(t, a["axis"], rank, last)
    t.operator("CONCATENATION", inputs, [t.result(node.output[0], last)], "ConcatenationOptions", axis=axis)


def _split(t: _Translation, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    name, last = node.input[0], t.last(node.input[0])
    axis = a.get("axis", 0) % len(t.shapes[name])
    sizes = [t.shapes[o][axis] for o in node.output]
    place = _axis(t, axis, len(t.shapes[name]), last)
    inputs = [t.get(name, last), t.constant(sizes, np.int32), t.constant(place, np.int32)]
    outputs = [t.result(o, last) for o in node.output]
    t.operator("SPLIT_V", inputs, outputs, "SplitVOptions", numSplits=len(sizes))


def _slice(t: _Translation, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
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


def _reshape(t: _Translation, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    shape = list(t.shapes[node.output[0]])
    inputs = [t.get(node.input[0]), t.constant(shape, np.int32)]
    t.operator("RESHAPE", inputs, [t.result(node.output[0])], "ReshapeOptions", newShape=shape)


def _expand(t: _Translation, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    shape = t.constant(t.shapes[node.output[0]], np.int32)
    inputs = [t.get(node.input[0]), shape]
    t.operator("BROADCAST_TO", inputs, [t.result(node.output[0])], "BroadcastToOptions")


def _transpose(t: _Translation, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    name, last = node.input[0], t.last(node.input[0])
    perm = [TO_LAST.index(p) for p in a["perm"]] if last else list(a["perm"])
    inputs = [t.get(name, last), t.constant(perm, np.int32)]
    t.operator("TRANSPOSE", inputs, [t.result(node.output[0])], "TransposeOptions")


def _softmax(t: _Translation, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
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
    def write(t: _Translation, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
        name, keep = node.input[0], bool(a.get("keepdims", 1))
        rank = len(t.shapes[name])
        axes = [int(i) % rank for i in (a["axes"] if "axes" in a else t.constants[node.input[1]].ravel())]
        last = t.last(name) and keep
        places = t.constant([_axis(t, i, rank, last) for i in axes], np.int32)
        t.operator(kind, [t.get(name, last), places], [t.result(node.output[0], last)], "ReducerOptions", keepDims=keep)

    return write


def _matmul(t: _Translation, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
    left, right = node.input
    if len(t.shapes[right]) < 2 or len(t.shapes[left]) < 2:
        raise InputError(f"node {node.name!r}: a product with a vector", "a matrix")
    inputs = [t.get(left), t.get(right)]
    t.operator("BATCH_MATMUL", inputs, [t.result(node.output[0])], "BatchMatMulOptions")


def _identity(t: _Translation, node: onnx.NodeProto, a: dict[str, Any], follower: str) -> None:
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
