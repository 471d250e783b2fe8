"""The reference model: one fixed network that is timed beside every candidate.

Its latency shows how fast the machine is at that moment. The ratio of its latency now to its nominal latency (the
median over many measurements) brings measurements taken at different speeds of the machine to one speed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latency_db.core.cpu import cache_dir
from latency_db.core.profiler import file_hash

VERSION = 1
"""Part of the name. Latencies of two versions of the reference model are not comparable."""


@dataclass(frozen=True)
class ReferenceModel:
    """A chain of ``layers`` 3x3 convolutions with ReLU, each of ``channels`` channels on maps of ``size`` pixels."""

    name: str
    channels: int
    size: int
    layers: int


CPU_REFERENCE = ReferenceModel(f"{VERSION}", 48, 32, 4)
"""85 million multiply-accumulates, about 1 to 2 ms on one core."""
GPU_REFERENCE = ReferenceModel(f"gpu-{VERSION}", 256, 64, 8)
"""19 billion multiply-accumulates: CUDA events resolve 0.5 us, and a network of microseconds measures launches."""


def reference_model_file(model: ReferenceModel = CPU_REFERENCE) -> Path:
    """Return the ONNX file of a reference model; it is built once per user.

    The file name carries the hash of the content. A file that does not match its name is damaged and is built again.

    Raises:
        InputError: No folder for caches can be written.
    """
    folder = cache_dir()
    for path in sorted(folder.glob(f"reference-{model.name}-*.onnx")):
        if path.stem.endswith(file_hash(path)):
            return path
    draft = folder / f"draft-{model.name}-{os.getpid()}.onnx"
    draft.write_bytes(_build(model))
    path = folder / f"reference-{model.name}-{file_hash(draft)}.onnx"
    os.replace(draft, path)
    return path


def _build(model: ReferenceModel) -> bytes:
    """Return the ONNX file's bytes; weights are random with a fixed seed and He's scale, which avoids denormals."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(VERSION)
    channels = model.channels
    scale = np.sqrt(2 / (9 * channels))
    nodes, weights = [], []
    for i in range(model.layers):
        kernel = (rng.standard_normal((channels, channels, 3, 3)) * scale).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{i}"))
        nodes += [
            helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"y{i}"], pads=[1] * 4),
            helper.make_node("Relu", [f"y{i}"], [f"x{i + 1}"]),
        ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, model.size, model.size])
        for name in ("x0", f"x{model.layers}")
    ]
    graph = helper.make_graph(nodes, "anchor", ends[:1], ends[1:], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(proto.SerializeToString())
