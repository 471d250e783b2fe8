"""The linter finds each defect that it names, and nothing in a sound file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from latency_db.conversion.int8 import Calibrated
from latency_db.core.quantization_scheme import QuantizationScheme
from nas.cli import main
from nas.quantization.lint import METADATA, Int8Record, lint, require_clean
from search_spaces.errors import InputError
from search_spaces.onnx import build_onnx
from search_spaces.spaces import SPACES

SIZE = 64
FORM = QuantizationScheme("s8")
Change = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    space = SPACES["yolo-nano"]
    folder = tmp_path_factory.mktemp("lint")
    (folder / "float.onnx").write_bytes(build_onnx(space.graph(space.smallest), 3, SIZE))
    images = np.random.default_rng(0).random((2, 3, SIZE, SIZE), np.float32)
    out = Calibrated.of(folder / "float.onnx", FORM, [images]).write(folder / "int8.onnx")
    proto = onnx.load(out)
    helper.set_model_props(proto, {METADATA: Int8Record("tensorrt-rtx:int8", FORM).to_json()})
    out.write_bytes(proto.SerializeToString())
    return out


def nodes(proto: onnx.ModelProto, kind: str) -> list[onnx.NodeProto]:
    return [n for n in proto.graph.node if n.op_type == kind]


def constant(proto: onnx.ModelProto, name: str, values: object) -> None:
    """A new value in the place of an initializer's."""
    tensor = next(t for t in proto.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values), name))


def scale(value: float) -> Change:
    return lambda proto: constant(proto, nodes(proto, "QuantizeLinear")[3].input[1], np.float32(value))


def zero_point(value: int, kind: type[np.generic]) -> Change:
    return lambda proto: constant(proto, nodes(proto, "QuantizeLinear")[3].input[2], np.array(value, kind))


def float_input(proto: onnx.ModelProto) -> None:
    made = {o: n for n in proto.graph.node for o in n.output}
    conv = nodes(proto, "Conv")[4]
    conv.input[0] = made[made[conv.input[0]].input[0]].input[0]


def float_weights(proto: onnx.ModelProto) -> None:
    conv = nodes(proto, "Conv")[4]
    stored = next(n for n in nodes(proto, "DequantizeLinear") if conv.input[1] in n.output)
    weight = next(t for t in proto.graph.initializer if t.name == stored.input[0])
    proto.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float32), "plain"))
    conv.input[1] = "plain"
    proto.graph.node.remove(stored)


def float_layer(proto: onnx.ModelProto) -> None:
    float_weights(proto)
    float_input(proto)


def per_tensor(proto: onnx.ModelProto) -> None:
    conv = nodes(proto, "Conv")[4]
    stored = next(n for n in nodes(proto, "DequantizeLinear") if conv.input[1] in n.output)
    constant(proto, stored.input[1], np.float32(0.01))
    constant(proto, stored.input[2], np.int8(0))


def int32_bias(proto: onnx.ModelProto) -> None:
    conv = nodes(proto, "Conv")[4]
    for name, values in (("b", np.zeros(8, np.int32)), ("s", np.array(1, np.float32)), ("z", np.array(0, np.int32))):
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    proto.graph.node.insert(0, helper.make_node("DequantizeLinear", ["b", "s", "z"], ["bias"], "bias"))
    conv.input[2] = "bias"


def behind(tensor: str, proto: onnx.ModelProto) -> None:
    """Q and DQ between a tensor and its readers."""
    like = nodes(proto, "QuantizeLinear")[3]
    for n in proto.graph.node:
        for i, name in enumerate(n.input):
            if name == tensor:
                n.input[i] = "rounded"
    at = next(i for i, n in enumerate(proto.graph.node) if tensor in n.output) + 1
    proto.graph.node.insert(at, helper.make_node("DequantizeLinear", ["q8", *like.input[1:]], ["rounded"], "tail_dq"))
    proto.graph.node.insert(at, helper.make_node("QuantizeLinear", [tensor, *like.input[1:]], ["q8"], "tail_q"))


def tail(proto: onnx.ModelProto) -> None:
    behind(nodes(proto, "Softmax")[0].output[0], proto)


def orphan_q(proto: onnx.ModelProto) -> None:
    like = nodes(proto, "QuantizeLinear")[3]
    proto.graph.node.append(helper.make_node("QuantizeLinear", list(like.input), ["nowhere"], "lonely"))


def orphan_dq(proto: onnx.ModelProto) -> None:
    like = nodes(proto, "DequantizeLinear")[0]
    proto.graph.node.append(helper.make_node("DequantizeLinear", list(like.input), ["nowhere"], "lonely"))


def other_scale(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "other"))
    q = nodes(proto, "QuantizeLinear")[3]
    next(n for n in nodes(proto, "DequantizeLinear") if n.input[0] in q.output).input[1] = "other"


def scale_per_channel(proto: onnx.ModelProto) -> None:
    constant(proto, nodes(proto, "QuantizeLinear")[3].input[1], np.full(8, 0.1, np.float32))


DEFECTS: dict[str, tuple[Change, str]] = {
    "half quantized: only one of activation and weights": (float_input, "error"),
    "half quantized": (float_weights, "error"),
    "float convolution": (float_layer, "error"),
    "float island": (float_layer, "warning"),
    "weights with one scale for all channels": (per_tensor, "error"),
    "quantized bias": (int32_bias, "error"),
    "decode tail quantized": (tail, "error"),
    "orphan QuantizeLinear": (orphan_q, "error"),
    "orphan DequantizeLinear: read by nothing": (orphan_dq, "error"),
    "with different scales": (other_scale, "error"),
    "activation with a scale per channel": (scale_per_channel, "error"),
    "asymmetric activation": (zero_point(5, np.int8), "error"),
    "activation u8, where the runtime wants s8": (zero_point(128, np.uint8), "error"),
    "NaN or infinite": (scale(float("nan")), "error"),
    "zero or negative": (scale(0.0), "error"),
    "is zero in float16": (scale(1e-8), "warning"),
}


def test_a_sound_file_has_no_findings(sound: Path) -> None:
    report = lint(sound)
    assert report.findings == () and report.count("int8") == len(nodes(onnx.load(sound), "Conv")) > 20
    assert require_clean(sound) == report
    assert report.layers[0].per_channel and report.layers[0].activation == "s8" and report.layers[0].activation_scale


@pytest.mark.parametrize("rule", DEFECTS)
def test_each_defect_is_named_with_its_place(sound: Path, tmp_path: Path, rule: str) -> None:
    change, level = DEFECTS[rule]
    proto = onnx.load(sound)
    change(proto)
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    found = [f for f in lint(path).findings if rule in f.rule]
    names = {n.name for n in proto.graph.node}
    assert found and all(f.level == level and f.where in names for f in found)
    if level == "error":
        with pytest.raises(InputError, match=r"m\.onnx is not the int8 model it should be"):
            require_clean(path)


def test_a_float_model_where_int8_is_promised(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = sound.with_name("float.onnx")
    with pytest.raises(InputError, match="a float model: none of"):
        require_clean(model)
    assert main(["quantize", "--lint", str(model)]) == 1 and "a float model" in capsys.readouterr().out
    assert main(["quantize", "--lint", str(sound)]) == 0 and "int8" in capsys.readouterr().out


def test_a_layer_left_float_on_purpose_is_no_finding(sound: Path, tmp_path: Path) -> None:
    proto = onnx.load(sound)
    name = nodes(proto, "Conv")[4].name
    float_layer(proto)
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    assert lint(path, Int8Record("t", FORM, (name,))).findings == ()
    wrong = lint(sound, Int8Record("t", FORM, (name,)))
    assert [f.where for f in wrong.errors] == [name] and "should be float" in wrong.errors[0].rule


def test_without_a_promise_the_forms_own_choices_are_warnings(sound: Path, tmp_path: Path) -> None:
    proto = onnx.load(sound)
    zero_point(5, np.int8)(proto)
    del proto.metadata_props[:]
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    report = lint(path)
    assert not report.errors and any("asymmetric" in f.rule for f in report.findings)
    proto.metadata_props.add(key=METADATA, value="{}")
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match="metadata 'int8'"):
        lint(path)


# files from elsewhere


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[1]",
        "{}",
        "null",
        '{"target": 5, "form": {}, "left_float": []}',
        '{"target": "t", "form": [], "left_float": []}',
        '{"target": "t", "form": {"activation": "s8"}, "left_float": []}',
        '{"target": "t", "form": {"activation": "s8", "more": 1}, "left_float": []}',
        "[" * 100_000,
        '{"target": ' + "9" * 5000 + "}",
    ],
)
def test_damaged_metadata_is_one_line(text: str, sound: Path, tmp_path: Path) -> None:
    proto = onnx.load(sound)
    helper.set_model_props(proto, {METADATA: text})
    (path := tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match="metadata 'int8'") as error:
        lint(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def no_inputs(proto: onnx.ModelProto) -> None:
    del nodes(proto, "DequantizeLinear")[2].input[1:]


def no_scale(proto: onnx.ModelProto) -> None:
    constant(proto, nodes(proto, "QuantizeLinear")[3].input[1], np.zeros(0, np.float32))


def cut_tensor(proto: onnx.ModelProto) -> None:
    tensor = next(t for t in proto.graph.initializer if len(t.raw_data) > 64)
    tensor.raw_data = tensor.raw_data[:7]


def cycle(proto: onnx.ModelProto) -> None:
    conv = nodes(proto, "Conv")[2]
    conv.input[0] = "around"
    for name, other in (("around", "back"), ("back", "around")):
        proto.graph.node.append(helper.make_node("Concat", [other], [name], axis=1))


@pytest.mark.parametrize("change", [no_inputs, no_scale, cut_tensor, cycle])
def test_a_graph_that_is_not_whole_is_one_line(change: Change, sound: Path, tmp_path: Path) -> None:
    proto = onnx.load(sound)
    change(proto)
    (path := tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match=r"m\.onnx is no valid ONNX model") as error:
        lint(path)
    assert "\n" not in str(error.value)


def test_only_regular_files_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "zero.onnx").symlink_to("/dev/zero")
    for name, reason in (("pipe", "named pipe"), ("zero", "device")):
        assert main(["quantize", "--lint", str(tmp_path / f"{name}.onnx")]) == 2
        assert reason in capsys.readouterr().err


def test_records_of_the_version_before_are_read(sound: Path) -> None:
    text = next(e.value for e in onnx.load(sound).metadata_props if e.key == METADATA)
    assert set(json.loads(text)) == {"target", "form", "left_float"}
    assert Int8Record.of(onnx.load(sound)) == Int8Record("tensorrt-rtx:int8", FORM)
