"""From weights to int8 files: the form of each runtime, what the report says, agreement of runtimes, and what is
refused."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from latency_db.conversion.int8 import CALIBRATORS, Calibrated
from latency_db.core.device import DeviceFingerprint
from latency_db.core.measurement import Measurement
from latency_db.core.target import Target
from latency_db.engines.plans import installed
from latency_db.runtimes import RUNTIMES, openvino
from nas.cli import main
from nas.core.console_reporter import ConsoleReporter
from nas.core.estimate import Estimate
from nas.data.source import DataPair
from nas.inference.coco_metrics import Metrics
from nas.inference.detect import batches
from nas.inference.model import load
from nas.profiling import interleaved as timing
from nas.quantization.blocks import block_of
from nas.quantization.lint import Int8Record, LintReport, lint
from nas.quantization.model import CalibrationConfig, calibrate_detector, calibration_batches
from nas.quantization.ptq import QuantizationRequest, QuantizationSettings, quantize_post_training, replaced_at_end
from nas.quantization.report import QuantizationReport, versions
from nas.quantization.runtime_accuracy import RuntimeModel, distortion
from search_spaces.errors import InputError
from tests._models import write_model
from tests._quantized import DATA, SIZE, shelf, subject

TARGETS = ("openvino:int8", "onnxruntime:int8", "tensorrt-rtx:int8")
needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="pip install 'hw-nas-yolo[openvino]'")


@pytest.mark.parametrize("target", TARGETS)
def test_post_training_gives_the_runtimes_form_checked_and_evaluated(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = target.partition(":")[0]
    if runtime == "openvino" and find_spec("openvino") is None:
        pytest.skip("pip install 'hw-nas-yolo[openvino]'")
    made, out = shelf(), tmp_path / "S-int8.onnx"
    monkeypatch.setenv("NAS_CACHE", str(made.cache))
    options = ["--target", f"{target}@{SIZE}", "--calibration", "33", "--rounds", "0", "--out", str(out)]
    assert main(["quantize", str(made.weights), "--data", DATA, *options]) == 0
    printed = capsys.readouterr().out
    found = lint(out)
    assert not found.findings and found.count("half") == 0
    heads = sum(layer.precision == "float" for layer in found.layers if layer.kind == "Conv")
    assert heads == (6 if runtime == "onnxruntime" else 0)  # the heads' last convolutions
    proto = onnx.load(out)
    promise = Int8Record.of(proto)
    assert (
        promise is not None
        and promise.scheme == RUNTIMES[runtime].quantization_scheme(Target.parse(target))
        and len(promise.kept_float) == heads
    )
    assert json.loads({p.key: p.value for p in proto.metadata_props}["classes"]) == list(made.data.classes)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["S-int8.onnx", "S-int8.quantization.json"]
    said = json.loads((tmp_path / "S-int8.quantization.json").read_text())
    assert ("in the place of" in said["evaluated_in"]) == (runtime == "tensorrt-rtx") and said["images"] == 33
    assert said["quantized"]["bytes"] == out.stat().st_size < 0.6 * said["float"]["bytes"] and len(
        said["layers"]
    ) == len(found.layers)
    assert said["drop"] == pytest.approx(100 * (said["float"]["metrics"]["map"] - said["quantized"]["metrics"]["map"]))
    assert load(out).predict(made.data.val.samples[0].path).image.shape[2] == 3  # the file is one of nas export's, too
    compiles = runtime == "tensorrt-rtx" and installed("tensorrt-rtx") is None
    assert (said["compiled"] is not None) == compiles and not (compiles and said["compiled"]["plan_bytes"] < 1000)
    assert (
        "latency not measured" in printed
        and f"{found.count('int8')} int8" in printed
        and said["evaluated_in"] in printed
    )


@pytest.mark.parametrize("earlier", [True, False])
def test_an_interrupted_quantization_leaves_the_files_of_before(
    earlier: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The int8 file and its report stand together: a new file never lies beside an old report."""
    out = tmp_path / "S-int8.onnx"
    before = {"S-int8.onnx": b"file", "S-int8.quantization.json": b"report"} if earlier else {}
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    request = QuantizationRequest(tmp_path / "S.safetensors", DataPair, Target.parse("onnxruntime:int8"), out)  # type: ignore[arg-type]

    def written(error: type[BaseException] | None) -> None:
        with replaced_at_end(request) as unfinished:
            unfinished.out.write_bytes(b"new file")
            if error is not None:
                raise error(f"cannot read {unfinished.out}")
            unfinished.out.with_suffix(".quantization.json").write_bytes(b"new report")

    with pytest.raises(KeyboardInterrupt):
        written(KeyboardInterrupt)
    with pytest.raises(InputError, match=f"cannot read {out}$"):
        written(InputError)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    written(None)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
        "S-int8.onnx": b"new file",
        "S-int8.quantization.json": b"new report",
    }


def test_the_report_says_how_much_faster(tmp_path: Path) -> None:
    metrics = [Metrics(m, m, m, None, None, None, m, m, m, None, None, None, ()) for m in (0.7, 0.69)]
    latencies = {
        "fp32": Estimate("latency_ms", 2.0, "ms", 1.98, 2.02, "measured"),
        "int8": Estimate("latency_ms", 1.0, "ms", 0.99, 1.01, "measured"),
    }
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x" * 1000)
    before, after = versions([("fp32", path, metrics[0]), ("int8", path, metrics[1])], latencies)
    report = QuantizationReport(
        "S", "ptq", "t:int8", openvino.INT8, "max", 9, "d", 5, "t 1", before, after, LintReport((), ())
    )
    assert report.speed_up is not None and report.speed_up.value == 2.0
    said = "\n".join(report.lines())
    assert "2.00 ± 0.03 x as fast" in said and "1.00 points lost" in said
    assert json.loads(report.write(path).read_text())["speed_up"]["value"] == 2.0


def test_files_are_timed_in_rounds_at_one_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is half as fast in the second round, which the anchor shows."""

    def one(files: timing.Files, seed: int) -> dict[str, Measurement]:
        slow = 1.0 + seed
        true = {"a": 2.0, "b": 1.0}
        return {
            name: Measurement(
                true[name] * slow, 9, 9, true[name] * slow * 0.99, true[name] * slow * 1.01, 9, "measured", "clean", "wall", target, name,
                environment={"anchor": {"wall_ms": slow}},
            )
            for name, (_, target) in files.items()
        }  # fmt: skip

    monkeypatch.setattr(timing, "one_round", one)
    seen: list[int] = []
    found = timing.interleaved(
        {"a": (Path("a"), Target("openvino")), "b": (Path("b"), Target("openvino", "int8"))},
        2,
        update=lambda done, total, text: seen.append(done),
    )
    assert (
        seen == [0, 1, 2]
        and found["a"].value == pytest.approx(2 * found["b"].value)
        and found["a"].value == pytest.approx(3.0)
    )
    assert found["a"].high is not None and found["a"].high < 3.1


@needs_openvino
def test_runtimes_agree_on_one_file(tmp_path: Path) -> None:
    """What OpenVINO makes of its int8 file is what ONNX Runtime makes of it, and both are near the float network."""
    s = subject("openvino:int8")
    s.write(tmp_path / "q.onnx")
    (batch,) = batches(shelf().data.val, SIZE)
    exact = RuntimeModel(s.model, Target("onnxruntime"))(batch)
    served = {
        runtime: RuntimeModel(tmp_path / "q.onnx", Target(runtime, "int8"))(batch)
        for runtime in ("openvino", "onnxruntime")
    }
    rounding = distortion(exact, served["onnxruntime"])
    assert 0 < rounding < 0.3
    assert distortion(exact, served["openvino"]) < 1.5 * rounding
    other = (np.roll(exact[0], 1, 0), np.roll(exact[1], 1, 0))
    assert distortion(exact, other) > 2 * rounding  # another image differs by more


def test_a_batch_that_does_not_fill_the_target() -> None:
    s = subject("openvino:int8")
    (batch,) = batches(shelf().data.val, SIZE)
    one, four = (RuntimeModel(s.model, Target("onnxruntime", batch=b))(batch) for b in (1, 4))
    assert one[0].shape[0] == 6 and distortion(one, four) < 1e-4
    with torch.no_grad():
        boxes, scores = (t.numpy() for t in s.detector.predict(batch.images.float() / 255))
    assert distortion((boxes, scores), one) < 1e-4


@needs_openvino
def test_openvino_computes_a_split_and_concatenation_right(tmp_path: Path) -> None:
    """The smallest graph that OpenVINO miscomputes with signed activations, in our form of it: Split -> Concat ->
    Q/DQ -> Conv."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(0, 0.3, (24, 8, 1, 1)),
        "w2": rng.normal(0, 0.1, (12, 12, 3, 3)),
        "w3": rng.normal(0, 0.2, (16, 36, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["t"], "first", kernel_shape=[1, 1]),
        helper.make_node("Sigmoid", ["t"], ["s"], "gate"),
        helper.make_node("Mul", ["t", "s"], ["u"], "silu"),
        helper.make_node("Split", ["u", "halves"], ["a", "b"], "split", axis=1),
        helper.make_node("Conv", ["b", "w2"], ["c"], "inner", kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Add", ["b", "c"], ["d"], "skip"),
        helper.make_node("Concat", ["a", "b", "d"], ["e"], "join", axis=1),
        helper.make_node("Conv", ["e", "w3"], ["y"], "last", kernel_shape=[1, 1]),
    ]
    given = [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()]
    given.append(numpy_helper.from_array(np.array([12, 12], np.int64), "halves"))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 8, 16, 16]), ("y", [1, 16, 16, 16]))
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], given),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    (tmp_path / "float.onnx").write_bytes(model.SerializeToString())
    x = rng.normal(0, 1, (1, 8, 16, 16)).astype(np.float32)
    form = openvino.OpenVino.quantization_scheme(Target("openvino", "int8"))
    out = Calibrated.of(tmp_path / "float.onnx", form, [x]).write(tmp_path / "int8.onnx")
    assert lint(out).count("int8") == 3
    found, wanted = (RUNTIMES[r].open_session(Target(r, "int8"), out) for r in ("openvino", "onnxruntime"))
    assert found is not None and wanted is not None
    exact = wanted(x)[0]
    assert np.abs(found(x)[0] - exact).mean() / np.abs(exact).mean() < 0.02  # 0.35 with signed activations


def test_calibrators_differ_and_none_is_wider_than_the_extremes(tmp_path: Path) -> None:
    model, form = write_model(tmp_path / "m.onnx", 3), openvino.INT8
    images = [
        np.random.default_rng(i).standard_normal((4, 16, 32, 32)).astype(np.float32) ** 3 for i in range(2)
    ]  # with long tails
    ranges = {name: Calibrated.of(model, form, images, name).ranges for name in CALIBRATORS}
    spans = {
        name: np.array([high - low for _, (low, high) in sorted(of_name.items())]) for name, of_name in ranges.items()
    }
    assert (spans["percentile"] < 0.9 * spans["max"]).all() and (spans["entropy"] <= spans["max"]).all()
    assert spans["entropy"][0] < 0.9 * spans["max"][0]
    assert not np.allclose(spans["entropy"], spans["percentile"])
    seen = np.concatenate(images)
    assert ranges["max"]["x0"] == (float(seen.min()), float(seen.max()))
    with pytest.raises(InputError, match="calibrator 'mean'"):
        Calibrated.of(model, form, images, "mean")


def test_the_calibration_set_is_drawn_from_the_train_split() -> None:
    drawn = calibration_batches(shelf().data, SIZE, CalibrationConfig(30, seed=1))
    again = calibration_batches(shelf().data, SIZE, CalibrationConfig(30, seed=1))
    assert sum(map(len, drawn)) == 30 and all((a == b).all() for a, b in zip(drawn, again, strict=True))
    other = calibration_batches(shelf().data, SIZE, CalibrationConfig(30, seed=2))
    assert not all((a == b).all() for a, b in zip(drawn, other, strict=True))
    train = {b.tobytes() for batch in batches(shelf().data.train, SIZE) for b in batch.images.numpy()}
    assert {np.rint(p * 255).astype(np.uint8).tobytes() for images in drawn for p in images} <= train
    assert sum(map(len, calibration_batches(shelf().data, SIZE, CalibrationConfig(1000)))) == len(shelf().data.train)


@pytest.mark.filterwarnings("ignore:All-NaN")
def test_few_or_blank_images_are_said(tmp_path: Path) -> None:
    few = calibrate_detector(
        shelf().weights, shelf().data, Target.parse(f"onnxruntime:int8@{SIZE}"), CalibrationConfig(4), tmp_path
    )
    assert any("4 images" in w for w in few.warnings)
    blank = Calibrated.of(few.model, few.scheme, [np.zeros((2, 3, SIZE, SIZE), np.float32)])
    assert "images" in blank.constant and not few.calibrated.constant
    with pytest.raises(InputError, match="finite numbers"):
        Calibrated.of(few.model, few.scheme, [np.full((1, 3, SIZE, SIZE), np.nan, np.float32)])


def test_blocks_left_float(tmp_path: Path) -> None:
    s = subject("openvino:int8")
    heuristic = s.blocks.heads_but_stems()
    assert {name.rpartition("/")[2] for name in heuristic} == {"cls_conv", "reg_conv", "cls", "reg"}
    assert {
        name.rpartition("/")[2] for name in s.blocks.choices if name.startswith("head") and name not in heuristic
    } == {"stem"}
    report = s.write(tmp_path / "q.onnx", heuristic)
    floats = {layer.name for layer in report.layers if layer.precision == "float" and layer.kind == "Conv"}
    assert floats == {conv for name in heuristic for conv in s.blocks.by_name[name].convs}
    assert len(floats) == 12 and not report.findings
    made_by = {o: n.op_type for n in onnx.load(tmp_path / "q.onnx").graph.node for o in n.output}
    for n in onnx.load(tmp_path / "q.onnx").graph.node:
        assert (
            n.name not in floats or made_by[n.input[0]] != "DequantizeLinear"
        )  # a float convolution reads what was never rounded
    with pytest.raises(InputError, match="every convolution kept in floating point"):
        s.write(tmp_path / "none.onnx", s.blocks.choices)
    with pytest.raises(InputError, match="block 'nonsense'"):
        s.write(tmp_path / "none.onnx", ["nonsense"])
    assert not (tmp_path / "none.onnx").exists()
    assert all(block.macs > 0 for name in s.blocks.choices for block in [s.blocks.by_name[name]])


@pytest.mark.parametrize(
    "node, block",
    [
        ("/detector/stage1_block-c2f/bottlenecks.0/conv1/conv/Conv", "stage1_block-c2f"),
        ("/detector/head-decoupled/branches/label.0/convs/convs.1/conv/Conv", "head-decoupled/branches/label.0/convs"),
        ("/detector/head-decoupled/branches/box.2/last/Conv", "head-decoupled/branches/box.2/last"),
        ("/detector/head-dfl/levels.1/stem/conv/Conv", "head-dfl/levels.1/stem"),
        ("/detector/Concat_3", None),
        ("/Softmax", None),
    ],
)
def test_the_block_of_a_node(node: str, block: str | None) -> None:
    assert block_of(node, "head") == block


@pytest.mark.parametrize("target", ["openvino:fp32", "torch:bf16", "recorded"])
def test_targets_without_int8(target: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a target with int8"):
        settings = QuantizationSettings(rounds=0)
        request = QuantizationRequest(shelf().weights, shelf().data, Target.read(target), tmp_path / "q.onnx", settings)
        quantize_post_training(request, ConsoleReporter())


@pytest.mark.parametrize("name", RUNTIMES)
def test_every_runtime_that_computes_int8_says_its_form(name: str) -> None:
    runtime = RUNTIMES[name]
    form = runtime.quantization_scheme(Target(name))
    in_onnx = "int8" in runtime.precisions and runtime.measures
    assert (form is not None) == in_onnx
    if form is not None and not form.outputs:
        assert form.symmetric == (form.activation == "s8") and form.op_types == ("Conv",) and not form.bias


def test_the_number_of_bits_is_the_machines() -> None:
    form = RUNTIMES["openvino"].quantization_scheme(Target("openvino", "int8"))
    assert form == openvino.INT8.on(DeviceFingerprint.read())
