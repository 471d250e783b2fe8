"""Torch's operators as ONNX nodes: a module is run once, and what is dispatched is written down
(:mod:`search_spaces.onnx` puts networks together)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from search_spaces.errors import InputError
from search_spaces.op import Shape
from search_spaces.operator_mode import OperatorMode, result_of

Array = NDArray[Any]
Attributes = tuple[tuple[str, Any], ...]


class UnknownOperator(InputError):
    """A block uses an operator that this file does not know; torch's exporter may."""


@dataclass(frozen=True)
class Emitted:
    """An ONNX node with names local to its fragment."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes = ()


@dataclass(frozen=True)
class Fragment:
    """A cell as ONNX: nodes, the shapes of its parameters by name, constants, the names of its outputs and their
    shapes without the batch.

    Inputs are named ``in0``, ``in1``, …
    """

    nodes: tuple[Emitted, ...]
    parameters: Mapping[str, Shape]
    constants: Mapping[str, Array]
    outputs: tuple[str, ...]
    shapes: tuple[Shape, ...]


@dataclass
class Writer:
    """Nodes as they come, and the name each tensor goes by."""

    parameters: Mapping[int, str]
    names: dict[int, str] = field(default_factory=dict)
    nodes: list[Emitted] = field(default_factory=list)
    used: dict[str, Shape] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    alive: list[Tensor] = field(default_factory=list)  # an id must not be given to a second tensor

    def name(self, tensor: Tensor) -> str:
        """Return the name of a tensor of any shape: an input, a result, a parameter, or a constant with these values.

        Raises UnknownOperator if a constant was computed on the meta device.
        """
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
        """Add a constant of any shape and return its name."""
        name = f"constant{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(values)
        return name

    def emit(self, kind: str, inputs: Sequence[str], **attributes: Any) -> list[str]:
        """Add one node with one output and return its name."""
        return self.emit_many(kind, inputs, 1, **attributes)

    def emit_many(self, kind: str, inputs: Sequence[str], number: int, **attributes: Any) -> list[str]:
        """Add one node with ``number`` outputs and return their names."""
        outputs = [f"value{len(self.nodes)}" + (f"_{i}" if number > 1 else "") for i in range(number)]
        self.nodes.append(Emitted(kind, tuple(inputs), tuple(outputs), tuple(attributes.items())))
        return outputs

    def bind(self, tensor: Tensor, name: str) -> None:
        """Give a tensor of any shape a name."""
        self.alive.append(tensor)
        self.names[id(tensor)] = name


class _Recorder(OperatorMode):
    """Writes each dispatched operator that depends on an input of the fragment; what depends on none is a constant."""

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self.writer = writer

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        read = any(id(t) in self.writer.names for t in given)
        source = self.writer.names.get(id(given[0])) if given else None
        out = result_of(func, args, kwargs)
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
            raise UnknownOperator(
                f"operator aten.{operator}",
                f"one of {', '.join(sorted(WRITERS))}",
                "add it to search_spaces/onnx_nodes.py",
            )
        for tensor, name in zip(results, names, strict=False):
            self.writer.bind(tensor, name)
        return out


Write = Callable[[Writer, tuple[Any, ...], Mapping[str, Any], list[Tensor]], list[str]]
SAME = {"detach", "alias", "clone", "contiguous", "lift_fresh"}


def _unary(kind: str) -> Write:
    return lambda w, args, kwargs, out: w.emit(kind, [w.name(args[0])])


def _binary(kind: str) -> Write:
    def write(w: Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
        if kwargs.get("alpha", 1) != 1:
            raise UnknownOperator(f"{kind} with alpha {kwargs['alpha']}", "1")
        operands = (w.name(a) if isinstance(a, Tensor) else w.constant(np.array(a, np.float32)) for a in args[:2])
        return w.emit(kind, list(operands))

    return write


def _silu(w: Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    x = w.name(args[0])
    return w.emit("Mul", [x, *w.emit("Sigmoid", [x])])


def _leaky_relu(w: Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    slope = args[1] if len(args) > 1 else kwargs.get("negative_slope", 0.01)
    return w.emit("LeakyRelu", [w.name(args[0])], alpha=float(slope))


def _convolution(w: Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    x, weight, bias, stride, padding, dilation, transposed, output_padding, groups = args
    inputs = [w.name(t) for t in (x, weight, bias) if t is not None]
    geometry: dict[str, Any] = {"output_padding": list(output_padding)} if transposed and any(output_padding) else {}
    geometry |= {
        "kernel_shape": list(weight.shape[2:]),
        "strides": list(stride),
        "pads": list(padding) * 2,
        "dilations": list(dilation),
    }
    return w.emit("ConvTranspose" if transposed else "Conv", inputs, group=int(groups), **geometry)


def _defaulted(args: Sequence[Any], *defaults: Any) -> list[Any]:
    """Positional arguments, those left out by their defaults."""
    return [*args, *defaults[len(args) :]]


def _max_pool(w: Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    x, kernel, stride, padding, dilation, ceil = _defaulted(args, None, None, [], [0, 0], [1, 1], False)
    if any(d != 1 for d in dilation):
        raise UnknownOperator(f"max-pooling with dilation {dilation}", "1")
    pads = list(padding) * 2
    return w.emit(
        "MaxPool",
        [w.name(x)],
        kernel_shape=list(kernel),
        strides=list(stride or kernel),
        pads=pads,
        ceil_mode=int(ceil),
    )


def _avg_pool(w: Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    x, kernel, stride, padding, ceil, padded = _defaulted(args, None, None, [], [0, 0], False, True)[:6]
    pads = list(padding) * 2
    how = {"ceil_mode": int(ceil), "count_include_pad": int(padded)}
    return w.emit(
        "AveragePool", [w.name(x)], kernel_shape=list(kernel), strides=list(stride or kernel), pads=pads, **how
    )


def _cat(w: Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    axis = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out[0].dim()
    return w.emit("Concat", [w.name(t) for t in args[0]], axis=axis)


def _reshape(w: Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    return w.emit("Reshape", [w.name(args[0]), w.constant(np.array(out[0].shape, np.int64))])


def _expand(w: Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    return w.emit("Expand", [w.name(args[0]), w.constant(np.array(out[0].shape, np.int64))])


def _permute(w: Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    return w.emit("Transpose", [w.name(args[0])], perm=[d % args[0].dim() for d in args[1]])


def _transpose(w: Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    order = list(range(args[0].dim()))
    a, b = (args[1], args[2]) if len(args) > 2 else (0, 1)
    order[a], order[b] = order[b], order[a]
    return w.emit("Transpose", [w.name(args[0])], perm=order)


def _split(w: Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    axis = (args[2] if len(args) > 2 else kwargs.get("dim", 0)) % args[0].dim()
    sizes = np.array([t.shape[axis] for t in out], np.int64)
    return w.emit_many("Split", [w.name(args[0]), w.constant(sizes)], len(out), axis=axis)


def _slice(w: Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    x, axis, start, end, step = _defaulted(args, None, 0, None, None, 1)
    if out[0].shape == x.shape:
        return [w.name(x)]
    length = int(x.shape[axis])
    bounds = (start or 0, length if end is None else min(end, length), axis % x.dim(), step)
    return w.emit("Slice", [w.name(x), *(w.constant(np.array([b], np.int64)) for b in bounds)])


def _softmax(w: Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    return w.emit("Softmax", [w.name(args[0])], axis=args[1] % args[0].dim())


def _reduce(kind: str) -> Write:
    def write(w: Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
        axes = [d % args[0].dim() for d in args[1]]
        keep = int(bool(args[2])) if len(args) > 2 else 0
        if kind == "ReduceSum":  # axes became an input here in opset 13, for the mean only in 18
            return w.emit(kind, [w.name(args[0]), w.constant(np.array(axes, np.int64))], keepdims=keep)
        return w.emit(kind, [w.name(args[0])], axes=axes, keepdims=keep)

    return write


def _upsample(w: Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    scales = np.array([o / i for o, i in zip(out[0].shape, args[0].shape, strict=True)], np.float32)
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return w.emit("Resize", [w.name(args[0]), "", w.constant(scales)], mode="nearest", **how)


def _matmul(w: Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    return w.emit("MatMul", [w.name(args[0]), w.name(args[1])])


def _addmm(w: Writer, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: list[Tensor]) -> list[str]:
    bias, a, b = args[:3]
    return w.emit("Add", [*w.emit("MatMul", [w.name(a), w.name(b)]), w.name(bias)])


WRITERS: dict[str, Write] = {
    "convolution": _convolution,
    "relu": _unary("Relu"),
    "sigmoid": _unary("Sigmoid"),
    "hardswish": _unary("HardSwish"),
    "exp": _unary("Exp"),
    "silu": _silu,
    "leaky_relu": _leaky_relu,
    "add": _binary("Add"),
    "sub": _binary("Sub"),
    "mul": _binary("Mul"),
    "div": _binary("Div"),
    "cat": _cat,
    "avg_pool2d": _avg_pool,
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


def record(module: nn.Module, images: Sequence[Tensor], call: Callable[..., Any]) -> Fragment:
    """Record the ONNX nodes of a call of ``module`` on images of one shape.

    Raises UnknownOperator for an operator that is not in :data:`WRITERS`.
    """
    writer = Writer({id(p): name for name, p in module.named_parameters()})
    for i, image in enumerate(images):
        writer.bind(image, f"in{i}")
    with torch.no_grad(), _Recorder(writer):
        out = call(*images)
    outputs = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
    names = tuple(writer.names[id(t)] for t in outputs)
    return Fragment(
        tuple(writer.nodes),
        writer.used,
        writer.constants,
        names,
        tuple(tuple(int(n) for n in t.shape[1:]) for t in outputs),
    )
