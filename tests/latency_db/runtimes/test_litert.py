"""LiteRT computes every block, head and family as torch does, in fp32, decoding included; int8 as ONNX Runtime computes
the same quantizing nodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from latency_db.conversion.int8 import int8
from latency_db.conversion.onnx_parts import last_convs, read
from latency_db.conversion.tflite_file import convert
from latency_db.conversion.tflite_int8 import rounded
from latency_db.conversion.tflite_operators import WRITERS
from latency_db.core.profiler import Workload
from latency_db.core.quantization_scheme import QuantizationScheme
from latency_db.core.target import Target
from latency_db.runtimes import RUNTIMES
from latency_db.runtimes import litert as runtime
from latency_db.runtimes import onnxruntime as onnxruntime_profiler
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES
from tests._models import write_model
from tests._onnx_cells import BATCH, KINDS, assert_near, cell, smallest

pytestmark = pytest.mark.skipif(RUNTIMES["litert"].available() is not None, reason="ai-edge-litert not installed")


@pytest.mark.parametrize("act", ["relu", "silu"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_block_and_head_equals_torch(kind: str, act: str, tmp_path: Path) -> None:
    made = cell(kind, act, tmp_path)
    network = runtime._Network(convert(made.path, BATCH), 1)
    assert list(network.inputs) == list(made.inputs)
    assert_near(network.outputs(*made.inputs.values()), made.wanted)


@pytest.mark.parametrize("name", list(SPACES))
def test_a_network_of_every_space_equals_torch(name: str, tmp_path: Path) -> None:
    made = smallest(name, tmp_path)
    session = RUNTIMES["litert"].open_session(Target("litert", batch=BATCH), made.path)
    assert session is not None
    assert_near(list(session(made.inputs["images"])), made.wanted)


def test_the_input_of_the_file_has_channels_last(tmp_path: Path) -> None:
    model = str(write_model(tmp_path / "m.onnx", 2, size=64))
    step, info = runtime.engine({"model": model, "batch": 3, "image_size": None, "threads": 2, "seed": 0})
    step()
    assert info == {"delegate": "XNNPACK", "num_threads": 2, "inputs": {"x0": [3, 64, 64, 16]}}


@pytest.mark.parametrize("pads, strides", [([1, 1, 1, 1], [2, 2]), ([0, 1, 2, 0], [1, 1]), ([1, 1, 1, 1], [1, 2])])
def test_borders_that_litert_has_no_word_for(pads: list[int], strides: list[int], tmp_path: Path) -> None:
    proto = onnx.load(str(write_model(tmp_path / "m.onnx", 1)))
    (node,) = proto.graph.node
    del node.attribute[:]
    node.attribute.extend([onnx.helper.make_attribute("pads", pads), onnx.helper.make_attribute("strides", strides)])
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    x = np.random.default_rng(0).standard_normal((1, 16, 32, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    found = runtime._Network(convert(tmp_path / "m.onnx", 1), 1).outputs(x)
    assert_near(found, [session.run(None, {"x0": x})[0]])


def test_an_operator_without_translation_is_one_line(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", 1, kind="Mod")
    assert "Mod" not in WRITERS
    proto = onnx.load(str(model))
    proto.graph.node[0].ClearField("attribute")
    model.write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match="operator Mod of node") as error:
        convert(model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("space", "scheme"),
    [("yolo-universal-nano", runtime.INT8), ("yolo11", onnxruntime_profiler.CPU.int8)],
    ids=["its scheme", "scales that LiteRT does not share"],
)
def test_int8_is_that_of_the_quantizing_nodes(space: str, scheme: QuantizationScheme, tmp_path: Path) -> None:
    made = smallest(space, tmp_path)
    images = made.inputs["images"]
    file = int8(made.path, tmp_path / "int8.onnx", scheme, [images])
    network = runtime._Network(convert(file, BATCH), 1)
    types = {item["index"]: item["dtype"] for item in network._interpreter.get_tensor_details()}
    layers = [
        types[op["inputs"][0]]
        for op in network._interpreter._get_ops_details()
        if op["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D")
    ]
    assert layers.count(np.int8) == len(layers) - len(last_convs(read(made.path))) > 10
    found, wanted = network.outputs(images), in_float(file).run(None, {"images": images})
    assert_near(found, wanted, 0.02)
    for mine, theirs, exact in zip(found, wanted, made.wanted, strict=True):
        assert np.abs(mine - theirs).mean() < np.abs(theirs - exact).mean()  # less than int8 itself moves


def in_float(file: Path) -> onnxruntime.InferenceSession:
    """An int8 network, computed in float on rounded numbers: int8 kernels saturate on processors without VNNI."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def test_a_border_of_int8_is_zero(tmp_path: Path) -> None:
    """An asymmetric tensor's zero is its zero point, in convolutions and in pooling's lowest number."""
    proto = onnx.load(str(write_model(tmp_path / "m.onnx", 2)))
    del proto.graph.node[0].attribute[:]
    pads = onnx.helper.make_attribute("pads", [0, 1, 2, 0])
    proto.graph.node[0].attribute.append(pads)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    x = (np.random.default_rng(0).random((1, 16, 32, 32)) - 0.3).astype(np.float32)
    form = replace(runtime.INT8, last_convs=False)
    file = int8(tmp_path / "m.onnx", tmp_path / "int8.onnx", form, [x])
    found = runtime._Network(convert(file, 1), 1).outputs(x)
    assert_near(found, in_float(file).run(None, {"x0": x}), 0.02)


def test_rounding_to_int8() -> None:
    assert rounded(np.array([-9.0, -0.5, 0.0, 0.26, 9.0]), (0.5, 3)).tolist() == [-15, 2, 3, 4, 21]
    assert rounded(np.array([-99.0, 99.0]), (0.5, 3)).tolist() == [-128, 127]


def test_int8_needs_images_or_quantizing_nodes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--data"), RUNTIMES["litert"](Target("litert", "int8")) as profiler:
        profiler.measure(Workload.of_file(write_model(tmp_path / "m.onnx", 1)))


def test_only_the_cpu_in_fp32_and_int8() -> None:
    for target in (Target("litert", device="cuda:0"), Target("litert", "fp16")):
        with pytest.raises(InputError, match=r"cuda:0|fp16"):
            RUNTIMES["litert"](target)
