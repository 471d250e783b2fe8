"""Linter of int8 ONNX files: compares the graph with what the file records about itself. Needs no torch and no runtime.

Every finding names its rule and its place. The rules follow from the runtimes: TensorRT's parser accepts symmetric
signed activations and no int32 biases, OpenVINO computes wrong numbers for signed activations behind a split and a
concatenation, and a quantized decode tail destroys the accuracy of every network (docs/quantization.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from latency_db.conversion.onnx_parts import LAYERS, decode_tail, named, parsed
from latency_db.core.quantization_scheme import LATER, QuantizationScheme
from search_spaces.errors import InputError
from search_spaces.json_checks import JsonObject, check_fields, parse_json
from search_spaces.text import printable

if TYPE_CHECKING:
    import onnx

METADATA, ERROR, WARNING = "int8", "error", "warning"
UNDERFLOW = 6e-8
"""Scales below it are zero in float16, whose smallest number is 2**-24."""
MANY = 12
"""Up to so many float layers are listed by name."""
MAX_METADATA = 1 << 20
"""Largest metadata entry, bytes."""
PASSING = (
    "Concat",
    "Split",
    "Slice",
    "MaxPool",
    "Resize",
    "Reshape",
    "Transpose",
    "Identity",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
)
"""Operators that pass values on unchanged: their output is quantized where their input is."""
ZERO_POINTS = {"s8": 0, "u8": 128}


@dataclass(frozen=True)
class Finding:
    """One finding: an ``error``, or a ``warning`` that costs accuracy or time; its rule and its place."""

    level: str
    rule: str
    where: str

    def __str__(self) -> str:
        return f"{self.level}: {self.rule}: {self.where}"


@dataclass(frozen=True)
class LintedLayer:
    """A convolution or matrix product with weights.

    Its precision is ``int8``, ``float``, or ``half`` where only one of its two inputs is quantized.
    """

    name: str
    kind: str
    precision: str
    per_channel: bool = False
    activation: str = ""
    activation_scale: float | None = None


@dataclass(frozen=True)
class Int8Record:
    """What a quantized file records about itself: target, quantization scheme, nodes kept in floating point."""

    target: str
    scheme: QuantizationScheme
    kept_float: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the value of the file's metadata entry :data:`METADATA`."""
        return json.dumps({"target": self.target, "form": self.scheme.to_dict(), "left_float": list(self.kept_float)})

    @classmethod
    def of(cls, proto: onnx.ModelProto) -> Int8Record | None:
        """Read a file's record; None where it has none.

        Raises:
            InputError: if the record is damaged.
        """
        text = next((entry.value for entry in proto.metadata_props if entry.key == METADATA), None)
        if text is None:
            return None
        where = f"metadata {METADATA!r} of the model"
        record = JsonObject.of(parse_json(text, where, max_bytes=MAX_METADATA), where)
        return cls(record.text("target"), _scheme_of(record.object("form")), record.texts("left_float"))


def _scheme_of(record: JsonObject) -> QuantizationScheme:
    """Read a quantization scheme; InputError for unknown, missing or wrongly typed entries."""
    names = tuple(f.name for f in fields(QuantizationScheme) if f.name not in LATER)
    check_fields(record.entries, names, record.where, tuple(LATER))
    return QuantizationScheme(
        activation=record.text("activation"),
        weight=record.text("weight"),
        per_channel=record.boolean("per_channel"),
        symmetric=record.boolean("symmetric"),
        op_types=record.texts("op_types"),
        bias=record.boolean("bias"),
        outputs=record.boolean("outputs"),
        last_convs=record.boolean("last_convs"),
        weight_bits=record.integer("weight_bits"),
        rest=record.text("rest") if record.has("rest") else "fp32",
        shared_scales=record.boolean("shared_scales") if record.has("shared_scales") else False,
    )


@dataclass(frozen=True)
class LintReport:
    """The layers of a graph with their precision, and all findings."""

    layers: tuple[LintedLayer, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> list[Finding]:
        """The findings that are errors."""
        return [f for f in self.findings if f.level == ERROR]

    def count(self, precision: str) -> int:
        """Count the layers of a precision: int8, float or half."""
        return sum(layer.precision == precision for layer in self.layers)

    def lines(self) -> list[str]:
        """Return lines for a person to read: a summary, then one line per finding."""
        counts = ", ".join(f"{n} {p}" for p in ("int8", "float", "half") if (n := self.count(p)))
        floats = [layer.name for layer in self.layers if layer.precision == "float"]
        named = [f"float: {', '.join(floats)}"] if 0 < len(floats) <= MANY else []
        return [f"{len(self.layers)} layers: {counts or 'none'}", *named, *map(str, self.findings)]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"layers": [asdict(layer) for layer in self.layers], "findings": [asdict(f) for f in self.findings]}


def lint(model: Path, record: Int8Record | None = None) -> LintReport:
    """Lint a file against ``record``, by default its own; without any, against the rules that hold for every runtime.

    Raises:
        InputError: if the file cannot be read, or is no valid ONNX model.
    """
    proto = named(parsed(model))
    record = record or Int8Record.of(proto)
    try:
        return _lint(proto, record)
    except (ValueError, TypeError, IndexError, KeyError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        reason = printable(f"{type(error).__name__}: {error}")[:200]
        raise InputError(
            f"{model.name} is no valid ONNX model ({reason})", "an ONNX file that a runtime loads"
        ) from None


def _lint(proto: onnx.ModelProto, record: Int8Record | None) -> LintReport:
    graph = _Graph(proto)
    scheme, kept = (record.scheme, {*record.kept_float}) if record else (None, set())
    layers = tuple(_layers(graph, kept))
    findings = (
        *_coverage(layers, graph, record),
        *_pairs(graph),
        *_scales(graph),
        *_kinds(graph, layers, scheme),
        *_places(graph, layers, record),
    )
    return LintReport(layers, findings)


def require_clean(model: Path, record: Int8Record | None = None) -> LintReport:
    """Lint a file and return the report.

    Raises:
        InputError: if the linter finds an error.
    """
    report = lint(model, record)
    if report.errors:
        more = f" (and {len(report.errors) - 1} more)" if len(report.errors) > 1 else ""
        raise InputError(f"{model.name} is not the int8 model it should be: {report.errors[0]}{more}")
    return report


@dataclass
class _Graph:
    """A model with what makes and what reads each tensor."""

    proto: onnx.ModelProto
    made: dict[str, onnx.NodeProto] = field(init=False)
    readers: dict[str, list[onnx.NodeProto]] = field(init=False)
    constants: Mapping[str, npt.NDArray[Any]] = field(init=False)

    def __post_init__(self) -> None:
        from onnx import numpy_helper

        nodes = self.proto.graph.node
        self.made = {o: n for n in nodes for o in n.output}
        self.readers = {}
        for n in nodes:
            for i in n.input:
                self.readers.setdefault(i, []).append(n)
        self.constants = {t.name: numpy_helper.to_array(t) for t in self.proto.graph.initializer}
        self.constants |= {
            n.output[0]: numpy_helper.to_array(n.attribute[0].t)
            for n in nodes
            if n.op_type == "Constant" and n.attribute[0].HasField("t")
        }

    def of_type(self, *kinds: str) -> Iterator[onnx.NodeProto]:
        return (n for n in self.proto.graph.node if n.op_type in kinds)

    def dequantized(self, tensor: str) -> onnx.NodeProto | None:
        """Find the DequantizeLinear that a tensor comes from, through operators of :data:`PASSING`; None for a float one."""
        n = self.made.get(tensor)
        if n is None or n.op_type == "DequantizeLinear":
            return n
        if n.op_type not in PASSING:
            return None
        given = [self.dequantized(i) for i in (n.input if n.op_type == "Concat" else n.input[:1])]
        return given[0] if all(given) else None

    def zero_point(self, n: onnx.NodeProto) -> npt.NDArray[Any] | None:
        """Return the zero point of a Q or DQ node; None where it has none, which means uint8 zero."""
        return self.constants.get(n.input[2]) if len(n.input) > 2 else None

    def kind(self, n: onnx.NodeProto) -> str:
        """Return the integer type of a Q or DQ node: ``u8``, ``s8``, or another type's name."""
        zero = self.zero_point(n)
        return {"uint8": "u8", "int8": "s8"}.get(str(zero.dtype), str(zero.dtype)) if zero is not None else "u8"


def _layers(graph: _Graph, kept_float: set[str]) -> Iterator[LintedLayer]:
    tail = decode_tail(graph.proto)
    for n in graph.of_type(*LAYERS):
        weight = graph.dequantized(n.input[1])
        stored = graph.constants.get(weight.input[0] if weight is not None else n.input[1])
        if n.name in tail or stored is None:
            continue  # a product of two activations, or a box decoding
        given = graph.dequantized(n.input[0])
        quantized = given is not None, weight is not None
        precision = "int8" if all(quantized) else "half" if any(quantized) else "float"
        if weight is None and n.name in kept_float:
            precision = "float"  # on purpose; what it reads may have been int8 before
        scales = graph.constants.get(weight.input[1]) if weight is not None else None
        scale = graph.constants.get(given.input[1]) if given is not None else None
        single = float(scale) if scale is not None and scale.size == 1 else None
        per_channel = scales is not None and scales.size > 1
        yield LintedLayer(
            n.name, n.op_type, precision, per_channel, graph.kind(given) if given is not None else "", single
        )


def _coverage(layers: tuple[LintedLayer, ...], graph: _Graph, record: Int8Record | None) -> Iterator[Finding]:
    """Is every layer int8 that should be?"""
    convs = [layer for layer in layers if layer.kind == "Conv"]
    if not any(layer.precision == "int8" for layer in convs):
        yield Finding(ERROR, "a float model", f"none of {len(convs)} convolutions is int8")
        return
    left = record.kept_float if record else ()
    for layer in convs:
        if layer.precision == "half":
            yield Finding(ERROR, "half quantized: only one of activation and weights", layer.name)
        elif layer.precision == "float" and layer.name not in left:
            yield Finding(ERROR if record else WARNING, "float convolution", layer.name)
        elif layer.precision == "int8" and layer.name in left:
            yield Finding(ERROR, "int8 convolution that should be float", layer.name)
    for n in graph.of_type("BatchNormalization"):
        yield Finding(WARNING, "BatchNorm not folded", n.name)


def _pairs(graph: _Graph) -> Iterator[Finding]:
    """Does every quantizing node have its dequantizing ones, with the same scale?"""
    outputs = {o.name for o in graph.proto.graph.output}
    for q in graph.of_type("QuantizeLinear"):
        readers = graph.readers.get(q.output[0], [])
        if not readers or q.output[0] in outputs or any(r.op_type != "DequantizeLinear" for r in readers):
            yield Finding(ERROR, "orphan QuantizeLinear: not read by a DequantizeLinear alone", q.name)
        for dq in readers:
            if dq.op_type == "DequantizeLinear" and not _same(graph, q, dq):
                yield Finding(ERROR, "QuantizeLinear and DequantizeLinear with different scales", dq.name)
    for dq in graph.of_type("DequantizeLinear"):
        source = graph.made.get(dq.input[0])
        if dq.input[0] not in graph.constants and (source is None or source.op_type != "QuantizeLinear"):
            yield Finding(ERROR, "orphan DequantizeLinear: reads neither a constant nor a QuantizeLinear", dq.name)
        if not graph.readers.get(dq.output[0]) and dq.output[0] not in outputs:
            yield Finding(ERROR, "orphan DequantizeLinear: read by nothing", dq.name)


def _same(graph: _Graph, q: onnx.NodeProto, dq: onnx.NodeProto) -> bool:
    scales = [graph.constants.get(n.input[1]) for n in (q, dq)]
    zeros = [graph.zero_point(n) for n in (q, dq)]
    return all(a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in (scales, zeros))


def _scales(graph: _Graph) -> Iterator[Finding]:
    """Is every scale a number that can be divided by, in float16 too?"""
    for n in graph.of_type("QuantizeLinear", "DequantizeLinear"):
        scale = graph.constants.get(n.input[1])
        if scale is None:
            yield Finding(ERROR, "scale that is not constant", n.name)
        elif not np.isfinite(scale).all():
            yield Finding(ERROR, "scale that is NaN or infinite", n.name)
        elif (scale <= 0).any():
            yield Finding(ERROR, "scale that is zero or negative", n.name)
        elif (small := float(scale.min())) < UNDERFLOW:
            yield Finding(WARNING, f"scale {small:.1e} is zero in float16", n.name)


def _kinds(graph: _Graph, layers: tuple[LintedLayer, ...], scheme: QuantizationScheme | None) -> Iterator[Finding]:
    """Are activations, weights and biases quantized in the way that the scheme says?"""
    strict = ERROR if scheme else WARNING
    for n in graph.of_type("QuantizeLinear"):
        kind, zero, scale = graph.kind(n), graph.zero_point(n), graph.constants.get(n.input[1])
        if scale is not None and scale.size > 1:
            yield Finding(ERROR, "activation with a scale per channel", n.name)
        if scheme and kind != scheme.activation:
            yield Finding(ERROR, f"activation {kind}, where the runtime wants {scheme.activation}", n.name)
        elif (
            (not scheme or scheme.symmetric)
            and kind in ZERO_POINTS
            and (0 if zero is None else int(zero.ravel()[0])) != ZERO_POINTS[kind]
        ):
            yield Finding(strict, "asymmetric activation", n.name)
    for n in graph.of_type("DequantizeLinear"):
        stored = graph.constants.get(n.input[0])
        if stored is not None and stored.dtype == np.int32 and not (scheme and scheme.bias):
            yield Finding(strict, "quantized bias", n.name)
    for layer in layers:
        if (
            layer.precision == "int8"
            and layer.kind == "Conv"
            and not layer.per_channel
            and not (scheme and not scheme.per_channel)
        ):
            yield Finding(strict, "weights with one scale for all channels", layer.name)


def _places(graph: _Graph, layers: tuple[LintedLayer, ...], record: Int8Record | None) -> Iterator[Finding]:
    """Is the decode tail float, and nothing else between what is int8?"""
    tail = decode_tail(graph.proto)
    for n in graph.of_type("QuantizeLinear", "DequantizeLinear"):
        if n.name in tail:
            yield Finding(ERROR, "decode tail quantized", n.name)
    meant = {*record.kept_float} if record else set()
    precision = {layer.name: layer.precision for layer in layers}
    for layer in layers:
        if layer.precision == "float" and layer.name not in meant and layer.kind == "Conv":
            around = [precision[n] for n in _neighbours(graph, layer.name, {*precision})]
            if around and all(p == "int8" for p in around):
                yield Finding(WARNING, "float island: int8 before and behind it", layer.name)


def _neighbours(graph: _Graph, name: str, layers: set[str]) -> set[str]:
    """The layers next to one, before and behind it."""
    start = next(n for n in graph.proto.graph.node if n.name == name)
    found: set[str] = set()
    for back in (True, False):
        seen, todo = {name}, [start]
        while todo:
            n = todo.pop()
            nexts = (
                [graph.made[i] for i in n.input if i in graph.made]
                if back
                else [r for o in n.output for r in graph.readers.get(o, [])]
            )
            for other in nexts:
                if other.name in layers and other.name != name:
                    found.add(other.name)
                elif other.name not in seen:
                    seen.add(other.name)
                    todo.append(other)
    return found
