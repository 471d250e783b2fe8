"""Accuracy of candidates in int8, what a bench says of it, and what comes after a search that chose int8."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from latency_db.conversion.int8 import Calibrated
from latency_db.core.measurement import Measurement
from latency_db.core.profiler import Network
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.database.table_io import write_table
from latency_db.runtimes import RUNTIMES, open_profiler
from nas.bench.int8_drops import JOURNAL, measure_drops
from nas.bench.models import resolve_models
from nas.bench.report import bench_data
from nas.bench.report_tables import bench_csv, bench_notes, bench_table
from nas.bench.results import BenchModel, Int8Drop
from nas.cli import main
from nas.core.architecture_file import write_artifact
from nas.core.console_reporter import ConsoleReporter
from nas.core.estimate import Estimate
from nas.estimators import ESTIMATORS
from nas.estimators.base import Context, Estimator
from nas.estimators.latency import Latency
from nas.estimators.predicted_latency import PredictedLatency
from nas.estimators.shared import SharedEvaluators
from nas.estimators.supernet_map import SupernetMap
from nas.export.onnx import write_onnx
from nas.inference.coco_metrics import evaluate
from nas.inference.detect import RANKING, batches, images_of, sort_out, training_images
from nas.quantization.candidate import IMAGES, is_lower_precision, open_candidate
from nas.quantization.lint import METADATA, Int8Record
from nas.quantization.model import scheme_of
from nas.quantization.runtime_accuracy import RuntimeModel, distortion
from nas.supernet.batchnorm import recalibrate
from nas.supernet.supernet import Supernet
from nas.supernet.weights import load_detector, save_detector
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES
from search_spaces.trace import trace
from tests._bench import INT8, OWN, example
from tests._measured import measurement, row
from tests._progress import recorded
from tests._quantized import DATA, SIZE, shelf, subject

NANO = SPACES["yolo-nano"]
SPACE = NANO.restrict({c.name: c.values[:2] if c.name == "width" else c.values[:1] for c in NANO.choices})
SIDE = int(SPACE.smallest["image_size"])
TARGETS = ("openvino:int8", "onnxruntime:int8", "tensorrt:int8")
NEEDS = {"openvino": "openvino"}


@cache
def supernet() -> Supernet:
    """Drawn weights of a head that sees something everywhere, so that there are detections to compare."""
    torch.manual_seed(0)
    made = Supernet(SPACE, len(shelf().data.classes))
    with torch.no_grad():
        for name, tensor in made.named_parameters():
            if ".cls." in name:
                tensor.mul_(4.0) if name.endswith("weight") else tensor.add_(4.0)
    return made


def context(target: str | None) -> Context:
    where = None if target is None else Target.parse(target)
    return Context(SPACE, supernet().num_classes, shelf().data, where, supernet=supernet(), calibration_images=12)


def extracted() -> Detector:
    detector = supernet().extract(SPACE.smallest)
    statistics = training_images(shelf().data, SIDE, 12)
    recalibrate(detector, images_of(statistics, torch.device("cpu")))
    return detector.deploy()


def images() -> list[NDArray[np.uint8]]:
    return [b.images.numpy() for b in batches(shelf().data.train, SIDE, limit=12)]


@pytest.mark.parametrize("target", TARGETS)
def test_a_candidate_is_what_quantize_would_make_of_it(target: str, tmp_path: Path) -> None:
    """Against torch's exporter, the same images, and the runtime's session one image at a time; nearer to that
    than to the float network."""
    where = Target.parse(target)
    if where.runtime in NEEDS and find_spec(NEEDS[where.runtime]) is None:
        pytest.skip(f"{where.runtime} is not installed")
    detector, (batch,) = extracted(), batches(shelf().data.val, SIDE)
    assert len(np.concatenate(images())) >= IMAGES
    calibration = [np.concatenate(images())[:IMAGES].astype(np.float32) / np.float32(255)]
    write_onnx(detector, tmp_path / "float.onnx", SIDE)
    Calibrated.of(tmp_path / "float.onnx", scheme_of(where), calibration).write(tmp_path / "int8.onnx")
    expected = RuntimeModel(tmp_path / "int8.onnx", where)(batch)
    exact = RuntimeModel(tmp_path / "float.onnx", replace(where, precision="fp32"))(batch)
    with open_candidate(detector, replace(where, image_size=320), SIDE, images()) as served:
        found = served(batch)
        assert where.runtime in served.where or served.where.endswith(f"in the place of {where.runtime}")
    assert distortion(expected, found) < 0.02 * distortion(expected, exact)


def test_the_estimate_is_of_the_quantized_network() -> None:
    name = "onnxruntime:int8"
    of = context(name)
    estimator = SupernetMap(of)
    estimate = estimator(SPACE.smallest)
    assert (
        estimate.target == name
        and estimate.source == "predicted"
        and estimate.remarks
        and "onnxruntime" in estimate.remarks[0]
    )
    val = shelf().data.val
    sizes = {s.id: (s.width, s.height) for s in val.samples}
    (batch,) = batches(val, SIDE)
    with open_candidate(extracted(), Target.parse(name), SIDE, images()) as served:
        found = sort_out(*served(batch), batch, sizes, RANKING)
    assert estimate.value == pytest.approx(evaluate(val, found).map, abs=1e-9)
    kept = estimator._evaluator._found
    assert all(np.allclose(kept[i].scores, found[i].scores, atol=1e-5) for i in found)

    in_float = SupernetMap(replace(of, target=Target.parse("onnxruntime:fp32")))
    assert in_float(SPACE.smallest).target is None and not in_float(SPACE.smallest).remarks
    assert any(
        len(kept[i].scores) != len(f.scores) or not np.allclose(kept[i].scores, f.scores, atol=1e-5)
        for i, f in in_float._evaluator._found.items()
    )
    assert in_float._evaluator._images is estimator._evaluator._images  # decoded once for both
    assert in_float(SPACE.smallest) == SupernetMap(context(None))(SPACE.smallest)


@pytest.mark.parametrize("name", ["tensorrt-rtx:fp16", "tensorrt:fp16"])
def test_accuracy_at_fp16_is_of_the_rounded_numbers(name: str) -> None:
    where, detector, (batch,) = Target.parse(name), extracted(), batches(shelf().data.val, SIDE)
    with torch.inference_mode():
        exact = tuple(t.numpy() for t in detector.predict(batch.images.float() / 255))
    with open_candidate(detector, where, SIDE, images()) as served:
        assert served.where.startswith("onnxruntime") and served.where.endswith(f"in the place of {where.runtime}")
        found = served(batch)
    assert 0 < distortion((exact[0], exact[1]), found) < 0.05
    estimator = SupernetMap(context(name))
    estimate = estimator(SPACE.smallest)
    assert estimate.target == name and "accuracy in fp16" in estimate.remarks[0]
    exactly = SupernetMap(context(None))(SPACE.smallest)
    assert estimate.value == pytest.approx(exactly.value, abs=0.05)
    assert [is_lower_precision(Target.parse(t)) for t in ("torch:fp16/cuda:0", "openvino:bf16", name)] == [0, 0, 1]


def test_a_network_that_overflows_float16_is_refused() -> None:
    detector = extracted()
    with torch.no_grad():
        next(m for m in detector.modules() if isinstance(m, torch.nn.Conv2d)).weight.mul_(1e7)
    with (
        open_candidate(detector, Target.parse("tensorrt-rtx:fp16"), SIDE, images()) as served,
        pytest.raises(InputError, match="NaN or infinite"),
    ):
        served(next(batches(shelf().data.val, SIDE)))


def test_int8_of_tensorrt_is_compared_with_fp16() -> None:
    detector = subject("tensorrt-rtx:int8")
    assert detector.float_target.precision == "fp16" == detector.scheme.rest
    assert subject("onnxruntime:int8").float_target.precision == "fp32"
    record = Int8Record(str(detector.target), detector.scheme)
    proto = onnx.ModelProto()
    onnx.helper.set_model_props(proto, {METADATA: record.to_json()})
    assert Int8Record.of(proto) == record


def test_all_numbers_of_an_evaluation_are_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    of = context("onnxruntime:int8")
    first, second = ESTIMATORS["supernet"](of), ESTIMATORS["supernet-50"](of)
    assert first(SPACE.smallest).value <= second(SPACE.smallest).value
    monkeypatch.setattr("nas.estimators.supernet_evaluation.open_candidate", None)  # a second evaluation would fail
    found = second(SPACE.smallest)
    assert found.target == "onnxruntime:int8" and len(found.replicates) in (0, 64)


def test_a_table_stands_for_the_runtime_it_was_recorded_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_TABLES", str(tmp_path))
    key, m = row(Network(SPACE.smallest, 10, SIDE))
    recorded = replace(m, target=Target("onnxruntime", "int8", image_size=SIDE))
    write_table(tmp_path / "desk.csv", [(replace(key, target=str(recorded.target)), recorded)], "me")
    target = Target.parse(f"recorded:int8@{SIDE}/desk")
    assert RUNTIMES["recorded"].stands_for(target) == Target("onnxruntime", "int8")
    assert RUNTIMES["onnxruntime"].stands_for(Target("onnxruntime", "int8")) == Target("onnxruntime", "int8")
    estimator = SupernetMap(context(str(target)))
    estimate = estimator(SPACE.smallest)
    assert estimate.target == str(target) and "onnxruntime" in estimate.remarks[0]


def test_latencies_of_one_front_are_at_one_speed(tmp_path: Path) -> None:
    """The anchor took 1 ms beside fp32 and 3 ms beside int8: both are brought to 2 ms, not each to its own."""

    def at(target: Target, ms: float, anchor: float) -> Measurement:
        return replace(
            measurement(Network(SPACE.smallest, 10, SIDE), ms, anchor={"wall_ms": anchor, "cpu_ms": anchor}),
            target=target,
        )

    targets = (Target("onnxruntime", "fp32"), Target("onnxruntime", "int8"))
    with LatencyDB(tmp_path / "db.sqlite") as database:
        of = Context(SPACE, 10, target=targets[0], database=database)
        for compared in (targets, ()):
            made = [
                Latency(replace(of, target=t, compared_targets=compared, shared=SharedEvaluators())) for t in targets
            ]
            for latency, t, anchor in zip(made, targets, (1.0, 3.0), strict=True):
                m = at(t, anchor, anchor)
                database.put(latency.profiler.key(m.workload), m)
            values = [latency(SPACE.smallest).value for latency in made]
            assert values == pytest.approx([2.0, 2.0] if compared else [1.0, 3.0])
            for latency in made:
                latency.close()


def test_predicted_latencies_of_one_front_are_at_one_speed(tmp_path: Path) -> None:
    targets = (Target("onnxruntime", "fp32"), Target("onnxruntime", "int8"))
    with LatencyDB(tmp_path / "db.sqlite") as database:
        for target, anchor in zip(targets, (1.0, 3.0), strict=True):
            with open_profiler(target) as profiler:
                for a in [NANO.sample(random.Random(i)) for i in range(12)]:
                    network = Network(a, 10, int(a["image_size"]))
                    ms = 0.1 + trace(NANO.graph(a), 10).macs / 1e8
                    m = replace(measurement(network, ms, anchor={"wall_ms": anchor, "cpu_ms": anchor}), target=target)
                    database.put(profiler.key(network.key), m)
        one = NANO.sample(random.Random(3))
        for target, ratio in zip(targets, (2.0, 2 / 3), strict=True):
            of = Context(NANO, 10, target=target, database=database)
            alone, together = PredictedLatency(of)(one), PredictedLatency(replace(of, compared_targets=targets))(one)
            assert together.value == pytest.approx(ratio * alone.value) and together.high == pytest.approx(
                ratio * (alone.high or 0)
            )


# a bench


def own(weights: Path, name: str = "S", family: str = "shop") -> BenchModel:
    _, artifact, _ = load_detector(weights)
    return BenchModel(
        name, family, Network(artifact.architecture, artifact.num_classes, SIZE), 1, 1, None, str(weights)
    )


def test_a_bench_says_what_weights_lose(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = shelf()
    detector, artifact, record = load_detector(made.weights)
    others = save_detector(
        tmp_path / "O.safetensors",
        detector,
        replace(artifact, classes=tuple(f"c{c}" for c in artifact.classes)),
        record,
    )
    models = [own(made.weights), own(others, "O"), replace(own(made.weights), name="none", weights=None)]
    target = Target.parse("onnxruntime:int8")
    reporter = recorded(monkeypatch)
    found = measure_drops(models, target, made.data, tmp_path, ConsoleReporter())
    reporter.check("int8 accuracy")
    said = capsys.readouterr().out
    assert list(found) == ["S"] and "int8 accuracy of O: its classes are" in said and "0.000 in int8, no change" in said
    drop = found["S"]
    assert (
        drop.images == len(made.data.val)
        and drop.evaluated_in.startswith("onnxruntime")
        and drop.points == drop.before - drop.after
    )
    monkeypatch.setattr("nas.bench.int8_drops.calibrate_detector", None)  # a second evaluation would fail
    assert measure_drops(models, target, made.data, tmp_path, ConsoleReporter()) == found
    with pytest.raises(TypeError):
        measure_drops(models, replace(target, threads=2), made.data, tmp_path, ConsoleReporter())
    assert len((tmp_path / JOURNAL).read_text().splitlines()) == 1
    assert (
        resolve_models([str(made.weights)])[0].weights == str(made.weights)
        and resolve_models(["yolov8n"])[0].weights is None
    )


def test_the_drop_is_beside_the_speed_up_and_only_with_weights() -> None:
    plain = example(OWN, int8=True, limit=2)
    assert (
        plain.settings.targets[1] == INT8
        and not any("int8 mAP" in h for h in bench_table(plain).headers)
        and "drop" not in plain.to_dict()
    )
    lost = {
        "S": Int8Drop(70.0, 69.5, 40, "onnxruntime 1"),
        "M": Int8Drop(74.0, 74.5, 40, "onnxruntime 1"),
        "L": Int8Drop(77.0, 75.5, 40, "onnxruntime 1"),
    }
    done = replace(plain, drops=lost)
    table = bench_table(done)
    at = table.headers.index("int8 mAP")
    assert table.headers[at - 1] == "speed-up"
    cells = {r[0]: r[at] for r in table.rows}
    assert (cells["S"], cells["M"], cells["L"], cells["night/S"]) == ("-0.50", "+0.50", "-1.50", "–")
    assert done.family_drops() == {"shop": pytest.approx(0.5)}
    assert any("shop -0.50; on 40 images, in onnxruntime 1" in line for line in bench_notes(done))
    assert "int8_map_percent" in bench_csv(done) and done.to_dict()["drop"]["L"]["points"] == 1.5
    hovers = [p.hover for panel in bench_data(done).panels for s in panel.series for p in s.points]
    assert any("int8: 1.50 points lost of mAP" in hover for hover in hovers)


# what comes after


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of an architecture that a search chose in int8, on the cached images."""
    detector, artifact, record = load_detector(shelf().weights)
    latency = Estimate("latency_ms", 1.0, "ms", source="measured", target=f"onnxruntime:int8@{SIZE}")
    chosen = replace(artifact, precision="int8", estimates=(Estimate("params", 1.0), latency))
    write_artifact(tmp_path / "S.json", chosen)
    return save_detector(tmp_path / "S.safetensors", detector, chosen, record)


def test_the_next_command_is_named_and_needs_no_target(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_CACHE", str(shelf().cache))
    assert main(["export", str(weights)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"next: nas quantize {weights} --data DATA --target onnxruntime:int8@{SIZE}" in said
    assert main(["quantize", str(weights), "--data", DATA, "--rounds", "0", "--calibration", "8"]) == 0
    report = json.loads(weights.with_name("S-int8.quantization.json").read_text())
    assert report["target"] == f"onnxruntime:int8@{SIZE}" and weights.with_name("S-int8.onnx").exists()
    argv = [
        "train",
        str(weights.with_name("S.json")),
        "--data",
        DATA,
        "--epochs",
        "1",
        "--batch-size",
        "8",
        "--no-augment",
        "--device",
        "cpu",
    ]
    assert main([*argv, "--out", str(weights.with_name("new.safetensors"))]) == 0
    assert f"--data {DATA} --target onnxruntime:int8@{SIZE}" in " ".join(capsys.readouterr().out.split())
    assert load_detector(weights.with_name("new.safetensors"))[1].precision == "int8"


def test_float_weights_need_no_next_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(shelf().weights), "--out", str(tmp_path / "S.onnx")]) == 0
    assert "nas quantize" not in capsys.readouterr().out


def test_every_estimator_says_whether_it_sees_the_precision() -> None:
    blind = {name for name in ESTIMATORS if not ESTIMATORS[name].sees_precision}
    assert blind == {"params", "macs", "activations", "elements", "nwot", "synflow"} and Estimator.sees_precision
    rng = random.Random(0)
    for name in blind:
        kind, architecture = ESTIMATORS[name], SPACE.sample(rng)
        of = [kind(Context(SPACE, 3, target=Target("openvino", p)))(architecture).value for p in ("fp32", "int8")]
        assert of[0] == of[1]


def test_json_is_all_that_is_on_standard_output(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_CACHE", str(shelf().cache))
    assert main(["quantize", str(weights), "--data", DATA, "--rounds", "0", "--calibration", "8", "--json"]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["mode"] == "ptq" and set(report) >= {"float", "quantized", "drop", "form", "left_float"}
    assert "calibrating on 8 images" in printed.err
