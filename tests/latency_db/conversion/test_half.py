"""Graphs in float16: what they compute on a machine without float16, and int8 convolutions between float16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from latency_db.conversion.half import half, is_half, rounded
from latency_db.conversion.int8 import int8
from latency_db.conversion.onnx_parts import decode_tail, last_convs, read
from latency_db.conversion.precision import fp16
from latency_db.core.quantization_scheme import QuantizationScheme
from latency_db.runtimes.tensorrt import INT8
from search_spaces.errors import InputError
from search_spaces.onnx import build_onnx
from search_spaces.spaces import SPACES

NANO = SPACES["yolo-nano"]
SIZE = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("half") / "m.onnx"
    path.write_bytes(build_onnx(NANO.graph(NANO.smallest), 3, SIZE))
    return path


@pytest.fixture(scope="module")
def images() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).random((1, 3, SIZE, SIZE), dtype=np.float32)


def outputs(proto: onnx.ModelProto, images: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    onnx.checker.check_model(proto)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: images}))


def two_convs(first: float) -> onnx.ModelProto:
    """x -> 1x1 conv by ``first`` -> 1x1 conv by its inverse."""
    weights = [np.full((1, 1, 1, 1), w, np.float32) for w in (first, 1 / first)]
    nodes = [helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], f"conv{i}") for i in range(2)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 2, 2]) for name in ("x0", "x2")]
    tensors = [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_an_overflow_of_float16_is_seen_without_a_gpu() -> None:
    images = np.full((1, 1, 2, 2), 100, np.float32)
    for first, finite in ((100.0, True), (1000.0, False)):
        converted = half(two_convs(first), set())
        (plain,), (found,) = outputs(converted, images), outputs(rounded(converted), images)
        assert np.isfinite(plain).all()  # ONNX Runtime removes the casts: this is why the roundings are explicit
        assert np.isfinite(found).all() == finite
        if finite:
            np.testing.assert_allclose(found, 100, rtol=2e-3)


def test_numbers_are_rounded_to_float16(model: Path, images: npt.NDArray[np.float32], tmp_path: Path) -> None:
    exact = outputs(onnx.load(str(model)), images)
    proto = onnx.load(str(fp16(model, tmp_path / "h.onnx")))
    assert is_half(proto) and not is_half(rounded(proto)) and not is_half(onnx.load(str(model)))
    found = outputs(rounded(proto), images)
    for a, b, most in zip(exact, found, (2.0, 0.02), strict=True):
        assert 0 < np.abs(a - b).max() < most


def test_int8_between_float16(model: Path, images: npt.NDArray[np.float32], tmp_path: Path) -> None:
    """Scales, and what is between quantized convolutions, are float16; boxes are decoded in float32."""
    proto = onnx.load(str(int8(model, tmp_path / "q.onnx", INT8, [images])))
    tail = decode_tail(read(model))
    tensors = {t.name: t for t in proto.graph.initializer}
    quantized = [n for n in proto.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(quantized) > 50
    assert {tensors[n.input[1]].data_type for n in quantized} == {TensorProto.FLOAT16}
    body = {
        i for n in proto.graph.node if n.name not in tail and n.op_type != "Resize" for i in n.input if i in tensors
    }
    assert TensorProto.FLOAT not in {tensors[i].data_type for i in body}
    assert all(o.type.tensor_type.elem_type == TensorProto.FLOAT for o in (*proto.graph.input, *proto.graph.output))
    plain = onnx.load(str(int8(model, tmp_path / "p.onnx", QuantizationScheme("s8"), [images])))
    for a, b, most in zip(outputs(plain, images), outputs(rounded(proto), images), (12.0, 0.1), strict=True):
        assert np.isfinite(b).all() and np.abs(a - b).max() < most
    assert {n.name for n in proto.graph.node} >= last_convs(read(model))


def test_schemes_of_earlier_versions_keep_their_ids() -> None:
    assert QuantizationScheme("s8").id == "bf0b76" and QuantizationScheme("u8", symmetric=False).id == "6b2541"
    assert "rest" not in QuantizationScheme("s8").to_dict() and INT8.to_dict()["rest"] == "fp16"
    assert INT8.id != QuantizationScheme("s8").id
    with pytest.raises(InputError, match="precision beside int8: 'bf16'"):
        QuantizationScheme("s8", rest="bf16")
