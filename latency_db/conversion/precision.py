"""Lower precisions of an ONNX file: fp16, and int8 as Q/DQ nodes in the form that a runtime computes fast. Needs no
torch.

The decode tail, all that comes after the heads' last convolutions (the softmax over box sides, products,
concatenations), is never quantized: with it quantized, a small trained detector fell from mAP 0.71 to 0.03.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from latency_db.conversion.int8 import int8
from latency_db.conversion.onnx_parts import cut, decode_tail, join, parsed, read
from latency_db.core.profiler import Workload
from latency_db.core.quantization_scheme import QuantizationScheme
from search_spaces.errors import InputError


@contextmanager
def converted(workload: Workload, precision: str, form: QuantizationScheme | None = None) -> Iterator[Workload]:
    """The workload with its file in this precision, for as long as the context lasts; a file that is in it already
    stays as it is.

    Of the precisions only fp16 and int8 are in the file; fp32 is the file itself, bf16 a setting of the runtime.
    ``form`` is needed for int8.
    """
    if workload.converted or precision not in ("fp16", "int8"):
        yield workload
        return
    model = workload.path()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / model.name
        if _has(model, precision):
            out = model
        elif precision == "fp16":
            fp16(model, out)
        elif workload.calibration is None:
            hint = "give a data set: --data digits, a COCO or YOLO folder, or a yaml"
            raise InputError(
                f"int8 of {workload.key} without images", "some to calibrate the ranges of activations with", hint
            )
        else:
            assert form is not None
            int8(model, out, form, workload.calibration())
        yield replace(workload, onnx=out)


def fp16(model: Path, out: Path) -> Path:
    """The file computed in float16. Inputs and outputs stay float32, and so does the decode tail: box sides are
    pixels, of which float16 knows few.

    The library converts the part before the tail alone: told to spare the tail's nodes, it would round to float16
    between any two of them.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    proto = read(model)
    body, tail = cut(proto, decode_tail(proto))
    out.write_bytes(join(convert_float_to_float16(body, keep_io_types=True), tail).SerializeToString())
    return out


def _has(model: Path, precision: str) -> bool:
    """Whether a file computes in this precision already."""
    import onnx

    graph = parsed(model).graph
    if precision == "int8":
        return any(n.op_type in ("QuantizeLinear", "DequantizeLinear") for n in graph.node)
    return any(t.data_type == onnx.TensorProto.FLOAT16 for t in graph.initializer)
