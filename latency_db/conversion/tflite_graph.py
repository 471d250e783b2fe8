"""A TFLite graph under construction: tensors in either order of axes and in float32 or int8, and operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from latency_db.conversion.onnx_parts import replace
from latency_db.conversion.tflite_int8 import MOVING, PROBABILITIES, PROBABILITY, Scale, Scales, rounded
from search_spaces.errors import InputError

if TYPE_CHECKING:
    import onnx

    Array = npt.NDArray[np.generic]

TO_LAST = (0, 2, 3, 1)
"""Axes of NHWC in NCHW."""
TO_FIRST = (0, 3, 1, 2)
"""Axes of NCHW in NHWC: the place of each axis of ONNX where channels are last."""
SIGNATURE = "serving_default"
"""Name of the file's only signature."""

Write = Callable[["TfliteGraph", "onnx.NodeProto", dict[str, Any], str], None]
"""Writes a node: the graph, the node, its attributes, and the output of a ReLU that becomes a part of it."""


class TfliteGraph:
    """The TFLite graph under construction.

    Args:
        proto: The network, without quantizing nodes.
        inputs: Name -> shape as in ONNX, without free dimensions.
        scales: Of an int8 network; empty for a float one.
    """

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

    def content(self, writers: Mapping[str, Write]) -> bytes:
        """Translate all nodes and return the file; ``writers``: operator of ONNX -> its translation.

        Raises:
            InputError: An operator has no translation.
        """
        fused: set[str] = set()
        for node in self.graph.node:
            if node.output[0] in fused:
                continue
            write = writers.get(node.op_type)
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
