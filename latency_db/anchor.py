"""The anchor: one fixed network, timed between the candidates, so that a change of the machine shows as a change of it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from latency_db.cpu import cache_dir
from latency_db.profiler import file_hash

VERSION = 1  # part of the name: numbers of two anchors are not comparable
CHANNELS, SIZE, LAYERS = 48, 32, 4


def anchor_model() -> Path:
    """ONNX file of the anchor, built once per user: four 3x3 convolutions of 48 channels at 32x32 with ReLU, 85 MMACs, about 1-2 ms.

    The name carries the content's hash; a file that does not match it was damaged and is built again.
    """
    folder = cache_dir()
    for path in sorted(folder.glob(f"anchor-{VERSION}-*.onnx")):
        if path.stem.endswith(file_hash(path)):
            return path
    draft = folder / f"draft-{os.getpid()}.onnx"
    draft.write_bytes(_build())
    path = folder / f"anchor-{VERSION}-{file_hash(draft)}.onnx"
    os.replace(draft, path)
    return path


def _build() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(VERSION)
    scale = np.sqrt(2 / (9 * CHANNELS))  # He: activations keep their size, so there are no denormals
    nodes, weights = [], []
    for i in range(LAYERS):
        kernel = (rng.standard_normal((CHANNELS, CHANNELS, 3, 3)) * scale).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{i}"))
        nodes += [helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"y{i}"], pads=[1] * 4), helper.make_node("Relu", [f"y{i}"], [f"x{i + 1}"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, CHANNELS, SIZE, SIZE]) for name in ("x0", f"x{LAYERS}")]
    graph = helper.make_graph(nodes, "anchor", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())
