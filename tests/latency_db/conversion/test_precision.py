"""Lower precisions of ONNX files: the forms that runtimes want, and that they compute nearly the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from latency_db.conversion.int8 import int8
from latency_db.conversion.onnx_parts import decode_tail, last_convs
from latency_db.conversion.precision import converted, fp16
from latency_db.core.device import DeviceFingerprint
from latency_db.core.profiler import Workload
from latency_db.core.quantization_scheme import QuantizationScheme
from latency_db.runtimes import onnxruntime, openvino, tensorrt
from search_spaces.errors import InputError
from search_spaces.onnx import build_onnx
from search_spaces.spaces import SPACES

SIZE = 64
Array = npt.NDArray[np.float32]


def _form(form: QuantizationScheme | None) -> QuantizationScheme:
    assert form is not None
    return form


FORMS = {"onnxruntime": _form(onnxruntime.CPU.int8), "openvino": openvino.INT8, "tensorrt": tensorrt.INT8}


@pytest.fixture(scope="module")
def images() -> Array:
    """Smooth, as images are, and of different brightness."""
    light = np.linspace(0.1, 1, 6, dtype=np.float32)[:, None, None, None]
    coarse = np.random.default_rng(0).random((6, 3, 8, 8), np.float32) * light
    return coarse.repeat(SIZE // 8, 2).repeat(SIZE // 8, 3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with all kinds of blocks: splits, concatenations, transposed convolutions, pooling."""
    space = SPACES["yolo-nano"]
    path = tmp_path_factory.mktemp("precision") / "model.onnx"
    path.write_bytes(build_onnx(space.graph(space.largest), 3, SIZE))
    return path


@pytest.fixture(scope="module", params=list(FORMS))
def quantized(request: pytest.FixtureRequest, model: Path, images: Array) -> tuple[QuantizationScheme, Path]:
    form = FORMS[request.param]
    return form, int8(model, model.with_name(f"{request.param}.onnx"), form, [images])


def outputs(path: Path, images: Array, optimised: bool = False) -> Array:
    """Box sides before the softmax would be too kind: boxes and scores as they come, side by side."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimised:  # quantizing is then simulated in float, exactly
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    runs = [session.run(None, {"images": p[None]}) for p in images]
    boxes, scores = (np.concatenate(parts) for parts in zip(*runs, strict=True))
    return np.concatenate([boxes / SIZE, scores], -1)


def error(found: Array, wanted: Array) -> float:
    """Mean absolute difference as a share of the spread."""
    return float(np.abs(found - wanted).mean() / wanted.std())


def after(proto: onnx.ModelProto, names: set[str]) -> list[onnx.NodeProto]:
    """Nodes that depend on these."""
    reached = {o for n in proto.graph.node if n.name in names for o in n.output}
    found = []
    for n in proto.graph.node:
        if reached & {*n.input}:
            found.append(n)
            reached |= {*n.output}
    return found


def test_a_quantized_network_computes_nearly_the_same(
    quantized: tuple[QuantizationScheme, Path], model: Path, images: Array
) -> None:
    exact = outputs(model, images)
    difference = error(outputs(quantized[1], images), exact)
    assert 0 < difference < 0.1
    assert error(exact[::-1], exact) > 3 * difference  # another image differs by more


def test_no_node_is_quantized_after_the_last_convolutions(
    quantized: tuple[QuantizationScheme, Path], model: Path
) -> None:
    heads = last_convs(onnx.load(model))
    assert len(heads) == 6  # two per level
    follow = after(onnx.load(quantized[1]), heads)
    assert {"Softmax", "Sigmoid", "Concat"} <= {n.op_type for n in follow}
    assert not [n.name for n in follow if n.op_type in ("QuantizeLinear", "DequantizeLinear")]


def test_the_form_is_the_one_asked_for(quantized: tuple[QuantizationScheme, Path], model: Path) -> None:
    form, path = quantized
    graph = onnx.load(path).graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    activations = [n for n in graph.node if n.op_type == "QuantizeLinear"]
    stored = [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants]
    kinds = {"u8": np.uint8, "s8": np.int8}
    assert activations and all(
        constants[n.input[2]].dtype == kinds[form.activation] and constants[n.input[1]].size == 1 for n in activations
    )
    if form.symmetric:
        assert {int(constants[n.input[2]]) for n in activations} == {128 if form.activation == "u8" else 0}
    weights = [n for n in stored if constants[n.input[0]].ndim == 4]
    biases = [n for n in stored if constants[n.input[0]].dtype == np.int32]
    assert len(weights) >= sum(n.op_type == "Conv" for n in graph.node) - (0 if form.last_convs else 6)
    assert all(constants[n.input[0]].dtype == np.int8 and not constants[n.input[2]].any() for n in weights)
    per_channel = [constants[n.input[1]].size == constants[n.input[0]].shape[0] for n in weights]
    assert (
        all(per_channel) if form.op_types == ("Conv",) else np.mean(per_channel) > 0.9
    )  # a transposed convolution has its channels elsewhere
    assert bool(biases) == form.bias
    convs = {o for n in graph.node if n.op_type == "Conv" for o in n.output}
    behind = [n for n in activations if n.input[0] in convs]
    assert (
        bool(behind) == form.outputs or form.outputs is False
    )  # a convolution that feeds another has nodes between them in any form


def test_seven_bits_of_weights(model: Path, images: Array, tmp_path: Path) -> None:
    cpu = DeviceFingerprint("x86_64", "cpu", 2, ("avx2",), 8)
    form = FORMS["openvino"]
    assert (
        form.on(replace(cpu, flags=("avx2", "avx_vnni"))) == form == form.on(replace(cpu, machine="aarch64", flags=()))
    )
    reduced = int8(model, tmp_path / "m.onnx", form.on(cpu), [images[:1]])
    stored = [
        numpy_helper.to_array(t)
        for t in onnx.load(reduced).graph.initializer
        if t.data_type == TensorProto.INT8 and len(t.dims) == 4
    ]
    assert max(int(np.abs(w.astype(int)).max()) for w in stored) == 64


# Not importorskip: it would import openvino before its telemetry is switched off.
@pytest.mark.skipif(find_spec("openvino") is None, reason="pip install 'hw-nas-yolo[openvino]'")
def test_openvino_computes_its_form_as_it_is_written(model: Path, images: Array, tmp_path: Path) -> None:
    """Signed activations would be miscomputed behind splits and concatenations; 8 bits of weights overflow on some
    CPUs."""
    path = int8(model, tmp_path / "m.onnx", FORMS["openvino"].on(DeviceFingerprint.read()), [images])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino._core("CPU").compile_model(str(path), "CPU", settings)
    found = np.concatenate([np.concatenate([r[0] / SIZE, r[1]], -1) for r in (compiled(p[None]) for p in images)])
    exact = outputs(model, images)
    assert error(found, exact) < 1.5 * error(outputs(path, images), exact)


def test_fp16_but_for_the_tail(model: Path, images: Array, tmp_path: Path) -> None:
    half = fp16(model, tmp_path / "m.onnx")
    proto = onnx.load(half)
    onnx.checker.check_model(proto, full_check=True)
    assert {i.type.tensor_type.elem_type for i in (*proto.graph.input, *proto.graph.output)} == {TensorProto.FLOAT}
    weights = [t for t in proto.graph.initializer if len(t.dims) == 4 and t.data_type != TensorProto.INT64]
    assert {t.data_type for t in weights} == {TensorProto.FLOAT16}
    tail = decode_tail(onnx.load(model))
    casts = [n for n in after(proto, last_convs(onnx.load(model))) if n.op_type == "Cast"]
    assert {n.name for n in proto.graph.node} >= tail and len(
        casts
    ) == 6  # one behind each of the heads' last convolutions, none between the tail's nodes
    assert 0 < error(outputs(half, images), outputs(model, images)) < 0.01


def write(
    path: Path, nodes: list[onnx.NodeProto], weights: dict[str, Array], shape: tuple[int | str, ...], opset: int = 17
) -> Path:
    """A model from ``x`` to ``y``."""
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    graph = helper.make_graph(
        nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(w, name) for name, w in weights.items()]
    )
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()
    )
    return path


def noise(*shape: int) -> Array:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def test_a_convolution_that_decodes_boxes_belongs_to_the_tail(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="last"),
        helper.make_node("Softmax", ["a"], ["b"], axis=1),
        helper.make_node("Conv", ["b", "steps"], ["y"], name="mean"),
    ]
    weights = {"w": noise(16, 3, 1, 1), "steps": np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1)}
    path = write(tmp_path / "m.onnx", nodes, weights, ("n", 3, 8, 8))
    quantized = onnx.load(int8(path, tmp_path / "q.onnx", FORMS["tensorrt"], [noise(2, 3, 8, 8)]))
    assert last_convs(onnx.load(path)) == {"last"}
    assert not [n for n in after(quantized, {"last"}) if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert [n.op_type for n in quantized.graph.node].count("QuantizeLinear") == 1


def test_a_batchnorm_is_folded_first(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("BatchNormalization", ["a", "scale", "bias", "mean", "var"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Conv", ["c", "w2"], ["y"]),
    ]
    of_four = {name: np.abs(noise(4)) for name in ("scale", "bias", "mean", "var")}
    path = write(tmp_path / "m.onnx", nodes, {"w": noise(4, 3, 1, 1), "w2": noise(4, 4, 1, 1), **of_four}, (1, 3, 8, 8))
    kinds = [
        n.op_type for n in onnx.load(int8(path, tmp_path / "q.onnx", FORMS["tensorrt"], [noise(1, 3, 8, 8)])).graph.node
    ]
    assert "BatchNormalization" not in kinds and kinds.count("QuantizeLinear") == 2


def test_a_fixed_batch_is_filled(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx", [helper.make_node("Conv", ["x", "w"], ["y"])], {"w": noise(4, 3, 1, 1)}, (4, 3, 8, 8)
    )
    for count in (1, 4, 6):
        int8(path, tmp_path / "q.onnx", FORMS["tensorrt"], [noise(count, 3, 8, 8)])


@pytest.mark.parametrize(
    "make, says",
    [
        (
            lambda w, nodes, path: write(path, nodes, w, (1, 3, 16, 16)),
            r"shape \(3, 8, 8\) for a model of \(3, 16, 16\)",
        ),
        (lambda w, nodes, path: write(path, nodes, w, (1, 3, 8, 8), opset=11), "opset 11"),
        (
            lambda w, nodes, path: write(path, [helper.make_node("Relu", ["x"], ["y"])], {}, (1, 3, 8, 8)),
            "no convolution",
        ),
        (
            lambda w, nodes, path: write(path, [helper.make_node("Relu", ["x"], ["y"])], {}, (1, 3)),
            "one input of images",
        ),
        (lambda w, nodes, path: path.write_bytes(b"nonsense") and path, "m.onnx"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, make: Callable[..., Path], says: str) -> None:
    path = make({"w": noise(4, 3, 1, 1)}, [helper.make_node("Conv", ["x", "w"], ["y"])], tmp_path / "m.onnx")
    with pytest.raises(InputError, match=says) as found:
        int8(path, tmp_path / "q.onnx", FORMS["tensorrt"], [noise(1, 3, 8, 8)])
    assert "\n" not in str(found.value) and not (tmp_path / "q.onnx").exists()


def test_forms_that_there_are_not() -> None:
    with pytest.raises(InputError, match="decode tail"):
        QuantizationScheme("u8", outputs=True)
    with pytest.raises(InputError, match="s16"):
        QuantizationScheme("s16")
    with pytest.raises(InputError, match="4 bits"):
        QuantizationScheme("s8", weight_bits=4)


def test_a_file_is_converted_once_and_only_where_it_has_to_be(model: Path, images: Array) -> None:
    work = Workload("w", model, calibration=lambda: [images[:1]])
    with converted(work, "fp32") as same:
        assert same is work
    with converted(work, "int8", FORMS["tensorrt"]) as first:
        assert first.path() != model and first.key == "w"
        with converted(first, "int8", FORMS["tensorrt"]) as second:
            assert second.path() == first.path()
    assert not first.onnx.exists()  # type: ignore[union-attr]
    with converted(work, "fp16") as half, converted(half, "fp16") as again:
        assert again.path() == half.path() != model
    with (
        pytest.raises(InputError, match="--data"),
        converted(replace(work, calibration=None), "int8", FORMS["tensorrt"]),
    ):
        pass
