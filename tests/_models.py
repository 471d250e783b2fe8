"""ONNX files of chosen size, and a protocol that only a test would call a measurement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from latency_db.core.profiler import Protocol

QUICK = Protocol(warmup_runs=3, warmup_s=0.02, min_rounds=3, max_rounds=4, max_s=2.0)


def write_model(
    path: Path, layers: int, batch: int | str = "batch", size: int | str = 32, kind: str = "Conv", first: float = 0.08
) -> Path:
    """``layers`` 3x3 convolutions of 16 channels, input [batch, 16, size, size]; the first one's weights have the
    scale ``first``."""
    rng = np.random.default_rng(0)
    scales = [first] + [0.08] * (layers - 1)
    weights = [
        numpy_helper.from_array((rng.standard_normal((16, 16, 3, 3)) * s).astype(np.float32), f"w{i}")
        for i, s in enumerate(scales)
    ]
    nodes = [
        helper.make_node(kind, [f"x{i}", f"w{i}"], [f"x{i + 1}"], name=f"layer{i}", pads=[1] * 4) for i in range(layers)
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 16, size, size]) for name in ("x0", f"x{layers}")
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], weights),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    path.write_bytes(model.SerializeToString())
    return path
