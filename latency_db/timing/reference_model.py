"""The anchor: one fixed network, timed between the candidates, so that a change of the machine shows as a change of
it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latency_db.core.cpu import cache_dir
from latency_db.core.profiler import file_hash

VERSION = 1  # part of the name: numbers of two anchors are not comparable


@dataclass(frozen=True)
class Anchor:
    """Its 3x3 convolutions with ReLU: how many, of how many channels, on maps of which side."""

    name: str
    channels: int
    size: int
    layers: int


CPU_REFERENCE = Anchor(f"{VERSION}", 48, 32, 4)
"""85 MMACs, about 1-2 ms."""
GPU_REFERENCE = Anchor(f"gpu-{VERSION}", 256, 64, 8)
"""19 GMACs: events resolve half a microsecond, and a network of microseconds says more of launches than of clocks."""


def reference_model_file(anchor: Anchor = CPU_REFERENCE) -> Path:
    """ONNX file of an anchor, built once per user.

    The name carries the content's hash; a file that does not match it was damaged and is built again.
    """
    folder = cache_dir()
    for path in sorted(folder.glob(f"anchor-{anchor.name}-*.onnx")):
        if path.stem.endswith(file_hash(path)):
            return path
    draft = folder / f"draft-{anchor.name}-{os.getpid()}.onnx"
    draft.write_bytes(_build(anchor))
    path = folder / f"anchor-{anchor.name}-{file_hash(draft)}.onnx"
    os.replace(draft, path)
    return path


def _build(anchor: Anchor) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(VERSION)
    channels = anchor.channels
    scale = np.sqrt(2 / (9 * channels))  # He: activations keep their size, so there are no denormals
    nodes, weights = [], []
    for i in range(anchor.layers):
        kernel = (rng.standard_normal((channels, channels, 3, 3)) * scale).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{i}"))
        nodes += [
            helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"y{i}"], pads=[1] * 4),
            helper.make_node("Relu", [f"y{i}"], [f"x{i + 1}"]),
        ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, anchor.size, anchor.size])
        for name in ("x0", f"x{anchor.layers}")
    ]
    graph = helper.make_graph(nodes, "anchor", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())
