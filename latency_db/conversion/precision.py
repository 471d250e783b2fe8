"""ONNX files in fp16, and in int8 as Q/DQ nodes.

The decode tail (what follows the heads' last convolutions: softmax over box sides, products, concatenations) is never
quantized. Quantizing it lowered the mAP of a small trained detector from 0.71 to 0.03.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from latency_db.conversion.half import half, is_half
from latency_db.conversion.int8 import int8
from latency_db.conversion.onnx_parts import decode_tail, parsed, read
from latency_db.core.profiler import Workload
from latency_db.core.quantization_scheme import QuantizationScheme
from search_spaces.errors import InputError


@contextmanager
def converted(workload: Workload, precision: str, scheme: QuantizationScheme | None = None) -> Iterator[Workload]:
    """Provide the workload with its file in a precision, while the context lasts.

    Only fp16 and int8 are in the file: fp32 is the file itself, and bf16 is a setting of the runtime. A file that is
    in the precision already is used as it is.

    Args:
        workload: Its file is written now.
        precision: The precision of the target.
        scheme: The quantization scheme, for int8.

    Raises:
        InputError: int8 without calibration images, or a model that cannot be converted.
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
            if scheme is None:
                raise InputError(f"int8 of {workload.key} as an ONNX file", "a runtime that reads int8 ONNX files")
            int8(model, out, scheme, workload.calibration())
        yield replace(workload, onnx=out)


def fp16(model: Path, out: Path) -> Path:
    """Write the model in float16 and return ``out``; inputs, outputs and the decode tail stay float32.

    Raises:
        InputError: The file is no ONNX file, or its opset is too old.
    """
    proto = read(model)
    out.write_bytes(half(proto, decode_tail(proto)).SerializeToString())
    return out


def _has(model: Path, precision: str) -> bool:
    """Return whether a file is in this precision already."""
    proto = parsed(model)
    if precision == "int8":
        return any(n.op_type in ("QuantizeLinear", "DequantizeLinear") for n in proto.graph.node)
    return is_half(proto)
