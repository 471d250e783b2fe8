"""An architecture as an ONNX file in milliseconds, straight from the one network definition: for timing, where weights do not matter.

Every cell is run once on the meta device, in deployed form, while the operators that torch dispatches are written down as ONNX nodes. These fragments are
memoised per (cell, input shapes), as traces are, and a network's file is its fragments put together with drawn weights. The export of what was trained goes
through torch's exporter (``nas.export``); ``tests/test_onnx_graph.py`` holds the two equal, with the same weights, for every block and head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from search_spaces.detector import Detector, cell, channels
from search_spaces.errors import InputError
from search_spaces.graph import IMAGE, Graph, Layout, Node
from search_spaces.heads.base import Head
from search_spaces.layers import fuse
from search_spaces.op import Shape

OPSET, IR_VERSION = 17, 8
DECODE = "decode"

Array = NDArray[Any]
Attributes = tuple[tuple[str, Any], ...]


class UnknownOperator(InputError):
    """A block uses an operator that this file does not know; torch's exporter may."""


@dataclass(frozen=True)
class _Emitted:
    """An ONNX node with names local to its fragment."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes = ()


@dataclass(frozen=True)
class _Fragment:
    """A cell as ONNX: nodes, the shapes of its parameters by name, constants, the names of its outputs and their shapes without the batch.

    Inputs are named ``in0``, ``in1``, …
    """

    nodes: tuple[_Emitted, ...]
    parameters: Mapping[str, Shape]
    constants: Mapping[str, Array]
    outputs: tuple[str, ...]
    shapes: tuple[Shape, ...]


@dataclass
class _Writer:
    """Nodes as they come, and the name each tensor goes by."""

    parameters: Mapping[int, str]
    names: dict[int, str] = field(default_factory=dict)
    nodes: list[_Emitted] = field(default_factory=list)
    used: dict[str, Shape] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    alive: list[Tensor] = field(default_factory=list)  # an id must not be given to a second tensor

    def name(self, tensor: Tensor) -> str:
        """Of an input, a result, a parameter, or a constant with its values."""
        if id(tensor) in self.names:
            return self.names[id(tensor)]
        self.alive.append(tensor)
        if (parameter := self.parameters.get(id(tensor))) is not None:
            self.used[parameter] = tuple(tensor.shape)
            return parameter
        if tensor.is_meta:
            raise UnknownOperator("a constant computed on the meta device", "constants only in a head's decoding")
        return self.constant(tensor.detach().numpy())

    def constant(self, values: Array) -> str:
        name = f"constant{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(values)
        return name

    def emit(self, kind: str, inputs: Sequence[str], **attributes: Any) -> list[str]:
        """One node with one output."""
        return self.emit_many(kind, inputs, 1, **attributes)

    def emit_many(self, kind: str, inputs: Sequence[str], number: int, **attributes: Any) -> list[str]:
        outputs = [f"value{len(self.nodes)}" + (f"_{i}" if number > 1 else "") for i in range(number)]
        self.nodes.append(_Emitted(kind, tuple(inputs), tuple(outputs), tuple(attributes.items())))
        return outputs

    def bind(self, tensor: Tensor, name: str) -> None:
        self.alive.append(tensor)
        self.names[id(tensor)] = name


class _Recorder(TorchDispatchMode):
    """Writes each dispatched operator that depends on an input of the fragment; what depends on none is a constant."""

    def __init__(self, writer: _Writer) -> None:
        super().__init__()
        self.writer = writer

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        read = any(id(t) in self.writer.names for t in given)
        source = self.writer.names.get(id(given[0])) if given else None
        out = func(*args, **kwargs)
        results = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        self.writer.alive += [*given, *results]
        if not read:
            return out
        operator = func.overloadpacket.__name__.rstrip("_")
        if operator in SAME:
            assert source is not None
            names = [source]
        elif operator in WRITERS:
            names = WRITERS[operator](self.writer, args, kwargs, results)
        else:
            raise UnknownOperator(f"operator aten.{operator}", f"one of {', '.join(sorted(WRITERS))}", "add it to search_spaces/onnx.py")
        for tensor, name in zip(results, names, strict=False):
            self.writer.bind(tensor, name)
        return out


Write = Callable[[_Writer, tuple[Any, ...], Mapping[str, Any], list[Tensor]], list[str]]
SAME = {"detach", "alias", "clone", "contiguous", "lift_fresh"}


def _unary(kind: str) -> Write:
    return lambda w, args, kwargs, out: w.emit(kind, [w.name(args[0])])


def _binary(kind: str) -> Write:
    def write(w: _Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
        if kwargs.get("alpha", 1) != 1:
            raise UnknownOperator(f"{kind} with alpha {kwargs['alpha']}", "1")
        operands = (w.name(a) if isinstance(a, Tensor) else w.constant(np.array(a, np.float32)) for a in args[:2])
        return w.emit(kind, list(operands))

    return write


def _silu(w: _Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    x = w.name(args[0])
    return w.emit("Mul", [x, *w.emit("Sigmoid", [x])])


def _convolution(w: _Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    x, weight, bias, stride, padding, dilation, transposed, output_padding, groups = args
    inputs = [w.name(t) for t in (x, weight, bias) if t is not None]
    geometry: dict[str, Any] = {"output_padding": list(output_padding)} if transposed and any(output_padding) else {}
    geometry |= {"kernel_shape": list(weight.shape[2:]), "strides": list(stride), "pads": list(padding) * 2, "dilations": list(dilation)}
    return w.emit("ConvTranspose" if transposed else "Conv", inputs, group=int(groups), **geometry)


def _defaulted(args: Sequence[Any], *defaults: Any) -> list[Any]:
    """Positional arguments, those left out by their defaults."""
    return [*args, *defaults[len(args) :]]


def _max_pool(w: _Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    x, kernel, stride, padding, dilation, ceil = _defaulted(args, None, None, [], [0, 0], [1, 1], False)
    if any(d != 1 for d in dilation):
        raise UnknownOperator(f"max-pooling with dilation {dilation}", "1")
    pads = list(padding) * 2
    return w.emit("MaxPool", [w.name(x)], kernel_shape=list(kernel), strides=list(stride or kernel), pads=pads, ceil_mode=int(ceil))


def _cat(w: _Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    axis = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out[0].dim()
    return w.emit("Concat", [w.name(t) for t in args[0]], axis=axis)


def _reshape(w: _Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    return w.emit("Reshape", [w.name(args[0]), w.constant(np.array(out[0].shape, np.int64))])


def _expand(w: _Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    return w.emit("Expand", [w.name(args[0]), w.constant(np.array(out[0].shape, np.int64))])


def _permute(w: _Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    return w.emit("Transpose", [w.name(args[0])], perm=[d % args[0].dim() for d in args[1]])


def _transpose(w: _Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    order = list(range(args[0].dim()))
    a, b = (args[1], args[2]) if len(args) > 2 else (0, 1)
    order[a], order[b] = order[b], order[a]
    return w.emit("Transpose", [w.name(args[0])], perm=order)


def _split(w: _Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    axis = (args[2] if len(args) > 2 else kwargs.get("dim", 0)) % args[0].dim()
    sizes = np.array([t.shape[axis] for t in out], np.int64)
    return w.emit_many("Split", [w.name(args[0]), w.constant(sizes)], len(out), axis=axis)


def _slice(w: _Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    x, axis, start, end, step = _defaulted(args, None, 0, None, None, 1)
    if out[0].shape == x.shape:
        return [w.name(x)]
    length = int(x.shape[axis])
    bounds = (start or 0, length if end is None else min(end, length), axis % x.dim(), step)
    return w.emit("Slice", [w.name(x), *(w.constant(np.array([b], np.int64)) for b in bounds)])


def _softmax(w: _Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    return w.emit("Softmax", [w.name(args[0])], axis=args[1] % args[0].dim())


def _reduce(kind: str) -> Write:
    def write(w: _Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
        axes = [d % args[0].dim() for d in args[1]]
        keep = int(bool(args[2])) if len(args) > 2 else 0
        if kind == "ReduceSum":  # axes became an input here in opset 13, for the mean only in 18
            return w.emit(kind, [w.name(args[0]), w.constant(np.array(axes, np.int64))], keepdims=keep)
        return w.emit(kind, [w.name(args[0])], axes=axes, keepdims=keep)

    return write


def _upsample(w: _Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    scales = np.array([o / i for o, i in zip(out[0].shape, args[0].shape, strict=True)], np.float32)
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return w.emit("Resize", [w.name(args[0]), "", w.constant(scales)], mode="nearest", **how)


def _matmul(w: _Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    return w.emit("MatMul", [w.name(args[0]), w.name(args[1])])


def _addmm(w: _Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    bias, a, b = args[:3]
    return w.emit("Add", [*w.emit("MatMul", [w.name(a), w.name(b)]), w.name(bias)])


WRITERS: dict[str, Write] = {
    "convolution": _convolution,
    "relu": _unary("Relu"),
    "sigmoid": _unary("Sigmoid"),
    "hardswish": _unary("HardSwish"),
    "exp": _unary("Exp"),
    "silu": _silu,
    "add": _binary("Add"),
    "sub": _binary("Sub"),
    "mul": _binary("Mul"),
    "div": _binary("Div"),
    "cat": _cat,
    "max_pool2d": _max_pool,
    "max_pool2d_with_indices": _max_pool,
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_copy", "squeeze", "unsqueeze"), _reshape),
    "expand": _expand,
    "permute": _permute,
    "transpose": _transpose,
    "t": _transpose,
    "split": _split,
    "split_with_sizes": _split,
    "slice": _slice,
    "_softmax": _softmax,
    "sum": _reduce("ReduceSum"),
    "mean": _reduce("ReduceMean"),
    "upsample_nearest2d": _upsample,
    "mm": _matmul,
    "bmm": _matmul,
    "addmm": _addmm,
}
"""What each operator of torch is in ONNX (names without the underscore of in-place forms)."""


def _record(module: nn.Module, images: Sequence[Tensor], call: Callable[..., Any]) -> _Fragment:
    writer = _Writer({id(p): name for name, p in module.named_parameters()})
    for i, image in enumerate(images):
        writer.bind(image, f"in{i}")
    with torch.no_grad(), _Recorder(writer):
        out = call(*images)
    outputs = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
    names = tuple(writer.names[id(t)] for t in outputs)
    return _Fragment(tuple(writer.nodes), writer.used, writer.constants, names, tuple(tuple(int(n) for n in t.shape[1:]) for t in outputs))


@lru_cache(50_000)
def _cell(node: Node, c_in: Layout, inputs: tuple[Shape, ...], batch: int, num_classes: int | None) -> _Fragment:
    """A cell at these input shapes (channels, height, width), deployed."""
    with torch.device("meta"):
        module = fuse(cell(node, c_in, num_classes).eval(), full=True)
        images = [torch.empty((batch, *shape)) for shape in inputs]
    return _record(module, images, module)


@lru_cache(1_000)
def _decode(head: Node, c_in: Layout, levels: tuple[Shape, ...], batch: int, num_classes: int, image_size: int) -> _Fragment:
    """From a head's maps (per level classes, boxes) to boxes and scores; on the CPU, because the grid's values are part of the file."""
    with torch.random.fork_rng(devices=[]):  # first weights are drawn, and no one may notice
        module = cell(head, c_in, num_classes).eval()
    assert isinstance(module, Head)
    maps = [torch.zeros((batch, *shape)) for shape in levels]

    def call(*flat: Tensor) -> tuple[Tensor, Tensor]:
        pairs = tuple(zip(flat[0::2], flat[1::2], strict=True))
        return module.decode(module.flatten(pairs, (image_size, image_size)))

    return _record(module, maps, call)


def build_onnx(graph: Graph, num_classes: int, image_size: int | None = None, batch: int = 1, detector: Detector | None = None) -> bytes:
    """The deployed network as ONNX: ``images`` (batch, 3, S, S) to ``boxes`` (batch, A, 4), xyxy in pixels, and ``scores`` (batch, A, classes).

    S is ``image_size`` pixels (the graph's own by default). Weights are drawn so that activations keep their size (He et al., arXiv:1502.01852), the same
    ones at each call, or are those of a deployed ``detector``. Raises :class:`UnknownOperator` for a block that uses what this file does not know.
    """
    size = image_size or graph.image_size
    c_in = channels(graph)
    parts = _Parts()
    cells = {} if detector is None else {n.name: detector.cell(n) for n in (*graph.nodes, graph.head)}
    values: dict[str, tuple[str, Shape]] = {IMAGE: ("images", (3, size, size))}
    for n in graph.nodes:
        fragment = _cell(_anonymous(n), c_in[n.name], tuple(values[i][1] for i in n.inputs), batch, None)
        (name,) = parts.add(n.name, fragment, [values[i][0] for i in n.inputs], cells.get(n.name))
        values[n.name] = (name, fragment.shapes[0])
    head = graph.head
    shapes = tuple(values[i][1] for i in head.inputs)
    maps = _cell(_anonymous(head), c_in[head.name], shapes, batch, num_classes)
    names = parts.add(head.name, maps, [values[i][0] for i in head.inputs], cells.get(head.name))
    decode = _decode(_anonymous(head), c_in[head.name], maps.shapes, batch, num_classes, size)
    parts.add(DECODE, decode, names, cells.get(head.name), ("boxes", "scores"))
    boxes, scores = decode.shapes
    return parts.model(batch, {"images": (3, size, size)}, {"boxes": boxes, "scores": scores})


def _anonymous(n: Node) -> Node:
    """The memo must not depend on names."""
    return Node("", n.kind, tuple("" for _ in n.inputs), n.options)


class _Parts:
    """Fragments put together under the names of their cells. Written into the file's message at once: weights are large, and every copy takes time."""

    def __init__(self) -> None:
        import onnx

        self._model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="hw-nas-yolo")
        self._model.opset_import.add(version=OPSET)
        self._model.graph.name = "detector"

    def add(self, prefix: str, fragment: _Fragment, inputs: Sequence[str], module: nn.Module | None = None, outputs: Sequence[str] = ()) -> list[str]:
        """The global names of the fragment's outputs: those given, else its own under ``prefix``. Weights are the module's, or drawn."""
        from onnx import helper

        graph = self._model.graph
        names = {f"in{i}": name for i, name in enumerate(inputs)} | {"": ""} | dict(zip(fragment.outputs, outputs, strict=False))

        def of(name: str) -> str:
            return names.get(name, f"{prefix}/{name}")

        for i, n in enumerate(fragment.nodes):
            attributes = dict(n.attributes)
            graph.node.append(helper.make_node(n.kind, [of(x) for x in n.inputs], [of(x) for x in n.outputs], f"{prefix}/{n.kind}_{i}", **attributes))
        for name, values in fragment.constants.items():
            self._tensor(of(name), values)
        own = None if module is None else {name: p.detach().cpu().numpy() for name, p in module.named_parameters()}
        for name, shape in fragment.parameters.items():
            self._tensor(of(name), drawn(shape, len(graph.initializer)) if own is None else own[name])
        return [of(name) for name in fragment.outputs]

    def _tensor(self, name: str, values: Array) -> None:
        from onnx import helper

        self._model.graph.initializer.add(
            name=name, dims=values.shape, data_type=helper.np_dtype_to_tensor_dtype(values.dtype), raw_data=values.tobytes()
        )

    def model(self, batch: int, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> bytes:
        """The file, float32 in and out; shapes are without the batch."""
        from onnx import TensorProto, helper

        for ends, side in ((self._model.graph.input, inputs), (self._model.graph.output, outputs)):
            ends.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape]) for name, shape in side.items())
        return bytes(self._model.SerializeToString())


POOL = 1_000_003


@lru_cache(1)
def _normals() -> NDArray[np.float32]:
    once = np.random.default_rng(0).standard_normal(POOL, np.float32)
    return np.concatenate((once, once))


def drawn(shape: Shape, number: int = 0) -> NDArray[np.float32]:
    """The weight of this shape and number: normal with the variance that keeps activations' size; a bias small; a single scale 1.

    Repeats one million numbers: drawing 40 million takes longer than all the rest, and a runtime's time does not depend on them. Each number begins
    elsewhere among them: TensorRT keeps equal weights once, and a network of equal weights has less memory to read than a real one.
    """
    if shape in ((), (1,)):
        return np.ones(shape, np.float32)
    scale = np.float32(0.1 if len(shape) == 1 else np.sqrt(2 / math.prod(shape[1:])))
    start, count = number * 7919 % POOL, math.prod(shape)
    normals = _normals()[start : start + min(count, POOL)]
    return np.multiply(normals if count <= POOL else np.resize(normals, count), scale).reshape(shape)
