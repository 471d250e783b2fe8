"""ONNX graphs for conversion: read in a normal form, the decode tail found, cut off and joined again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latency_db.conversion.onnx_file import input_shape
from search_spaces.errors import InputError
from search_spaces.foreign_files import open_file
from search_spaces.image_size import AnySize

if TYPE_CHECKING:
    import onnx

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
OLDEST_OPSET = 13


MAX_BYTES = 2 << 30
"""Largest ONNX file: protobuf's own bound."""


def parsed(path: Path) -> onnx.ModelProto:
    """Parse an ONNX file with its weights.

    Raises:
        InputError: It is no regular file, larger than 2 GiB, or no ONNX file.
    """
    import onnx

    open_file(path, MAX_BYTES, "an ONNX file").close()
    try:
        return onnx.load(str(path))
    except Exception as error:  # noqa: BLE001 (a broken file raises classes of protobuf)
        raise InputError(f"cannot read {path.name}: {' '.join(str(error).split())}", "an ONNX file") from None


def read(path: Path) -> onnx.ModelProto:
    """Read a model: all nodes get names, BatchNorms are folded, weights are initializers.

    Raises:
        InputError: No ONNX file, or an opset without per-channel int8.
    """
    proto = parsed(path)
    opset = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST_OPSET:
        raise InputError(
            f"{path.name} has opset {opset}",
            f"{OLDEST_OPSET} or later, which can say per-channel int8",
            "export it again",
        )
    _own_weights(proto)
    weights = {t.name for t in proto.graph.initializer}
    if any(
        n.op_type == "BatchNormalization" or (n.op_type in LAYERS and n.input[1] not in weights)
        for n in proto.graph.node
    ):
        proto = folded(path)
    return named(proto)


def _own_weights(proto: onnx.ModelProto) -> None:
    """Replace an Identity of a weight by an initializer of its own; torch's exporter stores equal weights once."""
    weights = {t.name: t for t in proto.graph.initializer}
    shared = [n for n in proto.graph.node if n.op_type == "Identity" and n.input[0] in weights]
    for n in shared:
        proto.graph.initializer.add().CopyFrom(weights[n.input[0]])
        proto.graph.initializer[-1].name = n.output[0]
        proto.graph.node.remove(n)


def named(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with a name for every node."""
    for i, n in enumerate(proto.graph.node):
        n.name = n.name or f"{n.op_type}_{i}"
    return proto


def folded(path: Path) -> onnx.ModelProto:
    """Return a model after ONNX Runtime's basic optimisation: constants folded, BatchNorms merged."""
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def check_operators(proto: onnx.ModelProto) -> None:
    """Check that every operator is one of ONNX's: converters of other runtimes crash on any other.

    Raises:
        InputError: An operator is not; it is named with its node.
    """
    from onnx import defs

    for node in proto.graph.node:
        if node.domain not in ("", "ai.onnx") or not defs.has(node.op_type):
            raise InputError(f"operator {node.op_type} of node {node.name!r}", "an operator of ONNX")


def input_shapes(proto: onnx.ModelProto, batch: int, image_size: AnySize | None) -> dict[str, list[int]]:
    """Return the shape of every input by name: as in the file, a free batch or image size as in the target.

    Args:
        proto: The model.
        batch: Images per run of the target.
        image_size: Of the target; None if it sets none.

    Raises:
        InputError: A dimension is fixed to another number, or is free and nothing sets it
            (:func:`latency_db.conversion.onnx_file.input_shape`).
    """
    constants = {t.name for t in proto.graph.initializer}
    shapes = {}
    for item in proto.graph.input:
        if item.name not in constants:
            dims = item.type.tensor_type.shape.dim
            known = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in dims]
            shapes[item.name] = input_shape(item.name, known, batch, image_size)
    return shapes


def decode_tail(proto: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes after the last layers: the decode tail."""
    return {n.name for n, layer, leads in _walk(proto) if not layer and not leads}


def last_convs(proto: onnx.ModelProto) -> set[str]:
    """Return the names of the last layers, those that no layer follows."""
    return {n.name for n, layer, leads in _walk(proto) if layer and not leads}


def _walk(proto: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, bool, bool]]:
    """Yield, last node first, a node, whether it is a layer, and whether a layer follows it.

    A layer is a convolution or matrix product with weights, unless its weights are 0, 1, 2, …, which decode boxes.
    """
    from onnx import numpy_helper

    weights = {t.name: t for t in proto.graph.initializer if len(t.dims) > 1}
    weights |= {
        n.output[0]: weights[n.input[0]]
        for n in proto.graph.node
        if n.op_type == "DequantizeLinear" and n.input[0] in weights
    }

    def is_layer(n: onnx.NodeProto) -> bool:
        given = [weights[i] for i in n.input[1:] if i in weights] if n.op_type in LAYERS else []
        if not given:
            return False
        values = numpy_helper.to_array(given[0]).ravel()
        return not (len(values) > 1 and np.array_equal(values, np.arange(len(values))))

    leads: set[str] = set()  # tensors with a layer after them
    for n in reversed(proto.graph.node):
        layer, ahead = is_layer(n), any(o in leads for o in n.output)
        if layer or ahead:
            leads.update(n.input)
        yield n, layer, ahead


def cut(proto: onnx.ModelProto, names: set[str]) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Split a model into the part before the nodes ``names`` and the part of these nodes alone.

    The outputs of the first part are the tensors that the second reads.
    """
    import onnx

    head, tail = onnx.ModelProto(), onnx.ModelProto()
    for part, inside in ((head, False), (tail, True)):
        part.CopyFrom(proto)
        nodes = [n for n in proto.graph.node if (n.name in names) is inside]
        read = {i for n in nodes for i in n.input}
        replace(part.graph.node, nodes)
        replace(part.graph.initializer, [t for t in proto.graph.initializer if t.name in read])
    made = {o for n in head.graph.node for o in n.output}
    wanted = {i for n in tail.graph.node for i in n.input} | {o.name for o in proto.graph.output}
    replace(
        head.graph.output,
        [onnx.helper.make_tensor_value_info(o, onnx.TensorProto.FLOAT, None) for o in sorted(made & wanted)],
    )
    return head, tail


def join(head: onnx.ModelProto, tail: onnx.ModelProto) -> onnx.ModelProto:
    """Join two parts; the inverse of :func:`cut`, also after the first part was rewritten.

    An initializer that both have under one name is renamed.
    """
    from onnxruntime.quantization.onnx_model import ONNXModel

    taken = {t.name for t in head.graph.initializer}
    for t in tail.graph.initializer:
        name = t.name + "/tail" if t.name in taken else t.name
        head.graph.initializer.add().CopyFrom(t)
        head.graph.initializer[-1].name = name
        for n in tail.graph.node:
            replace(n.input, [name if i == t.name else i for i in n.input])
    head.graph.node.extend(tail.graph.node)
    replace(head.graph.output, tail.graph.output)
    joined = ONNXModel(head)
    joined.topological_sort()
    model: onnx.ModelProto = joined.model
    return model


def replace(field: Any, items: Iterable[Any]) -> None:
    """Replace the items of a repeated protobuf field."""
    kept = list(items)
    del field[:]
    field.extend(kept)
