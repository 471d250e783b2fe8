"""ONNX files converted for LiteRT: a TFLite file with the same operators, written with the schema of its wheel.

LiteRT's own converter (``litert-torch``) starts from a torch module, needs jax and 700 MB of wheels, and takes about 7 s
for two convolutions; a search converts hundreds of ONNX files. The networks of the search spaces use two dozen
operators, so their translation is a table (:mod:`latency_db.conversion.tflite_operators`).

LiteRT's convolutions take images with the channels last (NHWC). Every 4-D result of a convolution, pooling or resizing is
held in that order, and so is what is computed from it element by element; axes are renumbered. Any other operator
gets the order of ONNX by a transposition. 4-D inputs of the file have channels last.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from latency_db.conversion.onnx_parts import check_operators, folded, input_shapes, named, parsed, read
from latency_db.conversion.tflite_graph import TfliteGraph
from latency_db.conversion.tflite_int8 import Scales, take_scales
from latency_db.conversion.tflite_operators import WRITERS
from search_spaces.image_size import AnySize

FOLDED = {"Constant", "ConstantOfShape", "Shape", "Gather", "Cast", "Range"}
"""Operators that compute shapes or constants: ONNX Runtime folds them, once the shapes are fixed."""


def convert(model: Path, batch: int = 1, image_size: AnySize | None = None) -> bytes:
    """Return an ONNX file as TFLite, with fixed shapes.

    A file with quantizing nodes becomes an int8 file; its inputs and outputs are float32.

    Args:
        model: The file.
        batch: Images per run of the target; a free batch dimension takes it.
        image_size: Size of the target's images; a free height or width takes it.

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
    return TfliteGraph(proto, inputs, scales).content(WRITERS)
