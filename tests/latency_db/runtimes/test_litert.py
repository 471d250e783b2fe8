"""LiteRT computes every block, head and family as torch does, in fp32, decoding included; int8 by its own quantizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from latency_db.conversion.onnx_parts import last_convs, read
from latency_db.conversion.tflite_file import WRITERS, convert
from latency_db.conversion.tflite_int8 import _extremes, quantized
from latency_db.core.target import Target
from latency_db.runtimes import RUNTIMES
from latency_db.runtimes import litert as runtime
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
    import onnxruntime

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


def test_int8_computes_the_body_in_int8_and_the_decoding_in_fp32(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    made = smallest("yolo-nano", tmp_path)
    rng = np.random.default_rng(0)
    images = [rng.random((3, *made.inputs["images"].shape[1:]), np.float32) for _ in range(2)]
    network = runtime._Network(quantized(made.path, [*images, made.inputs["images"]], BATCH), 1)
    kinds = {item["name"]: item["dtype"] for item in network._interpreter.get_tensor_details()}
    details = network._interpreter._get_ops_details()
    types = {item["index"]: item["dtype"] for item in network._interpreter.get_tensor_details()}
    convs = [types[op["inputs"][0]] for op in details if op["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D")]
    last = len(last_convs(read(made.path)))
    assert convs.count(np.int8) == len(convs) - last > 10
    assert kinds["boxes"] == kinds["scores"] == kinds["images"] == np.float32
    boxes, scores = network.outputs(made.inputs["images"])
    assert np.abs(scores - made.wanted[1]).max() < 0.2 and np.abs(boxes - made.wanted[0]).mean() < 4
    for wrong in ([], [images[0][:, :, :32]]):
        with pytest.raises(InputError, match="images"):
            quantized(made.path, wrong, BATCH)


def test_the_extremes_of_all_images_are_the_range() -> None:
    found = [{"x": {"min": np.array([[a]]), "max": np.array([[b]])}} for a, b in ((-1, 2), (-3, 1), (0, 5))]
    merged = _extremes(found)
    assert merged["x"]["min"] == -3 and merged["x"]["max"] == 5


def test_int8_needs_images_and_its_quantizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_model(tmp_path / "m.onnx", 1)
    for work in (
        lambda: RUNTIMES["litert"].open_session(Target("litert", "int8"), model),
        lambda: RUNTIMES["litert"].write_files(Target("litert", "int8"), model, tmp_path),
    ):
        with pytest.raises(InputError, match="--data"):
            work()
    monkeypatch.setattr(runtime, "missing", lambda: "ai-edge-quantizer not installed")
    with pytest.raises(InputError, match="ai-edge-quantizer"):
        RUNTIMES["litert"](Target("litert", "int8"))


def test_only_the_cpu_in_fp32_and_int8() -> None:
    for target in (Target("litert", device="cuda:0"), Target("litert", "fp16")):
        with pytest.raises(InputError, match=r"cuda:0|fp16"):
            RUNTIMES["litert"](target)
