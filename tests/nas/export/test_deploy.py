"""Deployed models of every format give the detections of the weights; files with suppression give those of nas predict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper

import nas
from latency_db.core.target import Target
from latency_db.runtimes import RUNTIMES
from nas.cli import main
from nas.data.images import read_image
from nas.export import deploy
from nas.export.deploy import FORMATS, DeployConfig, export_model
from nas.export.outputs import to_detections
from nas.export.runtime_check import detections_difference, pairs_of_detections
from nas.inference.deployed import METADATA
from nas.inference.layouts import OUTPUTS, to_raw
from nas.inference.model import Model, load
from nas.inference.nms import EVALUATION, SHOWN, Detections, Suppression, nms
from nas.profiling.workload import workload_of
from search_spaces.errors import InputError
from search_spaces.image_size import ImageSize
from tests._detectors import SIZE, Files, detector_files
from tests._models import QUICK

FOLDERS = [name for name in FORMATS if name != "onnx"]
CPU = ("openvino", "ncnn", "mnn", "litert")


def convertible(format_: str) -> None:
    """Skip where the runtime's library is missing."""
    if reason := deploy._missing(RUNTIMES[FORMATS[format_]]):
        pytest.skip(f"{format_}: {reason}")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return detector_files(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def images(files: Files) -> list[NDArray[np.uint8]]:
    return [read_image(sample.path) for sample in files.data.val.samples]


@pytest.fixture(scope="module")
def plain(files: Files) -> Model:
    return load(files.onnx, "cpu")


@pytest.fixture(scope="module", params=CPU)
def deployed(request: pytest.FixtureRequest, files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    convertible(request.param)
    folder = tmp_path_factory.mktemp("deployed") / request.param
    return export_model(files.weights, folder, DeployConfig(request.param)).path


def equal(found: Detections, wanted: Detections, atol: float = 0.2) -> None:
    """Same labels in the same order, scores within 0.002, boxes within ``atol`` pixels."""
    np.testing.assert_array_equal(found.labels, wanted.labels)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=2e-3)
    np.testing.assert_allclose(found.boxes, wanted.boxes, atol=atol)


def test_every_format_is_one_of_the_runtimes_that_write_files() -> None:
    assert {FORMATS[name] for name in FOLDERS} == {name for name in RUNTIMES if RUNTIMES[name].deployed_as}


def test_a_deployed_folder_predicts_and_evaluates_as_the_weights(
    deployed: Path, files: Files, images: list[NDArray[np.uint8]], plain: Model
) -> None:
    about = json.loads((deployed / METADATA).read_text())
    last = about["preprocessing"]["tensor"] == "nhwc"
    assert last == (about["runtime"] == "litert") and about["classes"] == list(plain.classes)
    assert about["input"]["shape"] == ([1, SIZE, SIZE, 3] if last else [1, 3, SIZE, SIZE])
    assert about["outputs"] == ["boxes", "scores"] and about["suppression"] is None
    assert about["largest_difference_to_torch"] <= 1e-3
    assert about["preprocessing"]["interpolation"] == {"smaller": "area", "larger": "bilinear"}
    main_file = deployed / RUNTIMES[about["runtime"]].deployed_as
    for path in (deployed, main_file):
        assert load(path).classes == plain.classes
    model = nas.load(deployed)
    assert about["runtime"] in model.runtime
    for found, wanted in zip(model.detect(images[:3], SHOWN), plain.detect(images[:3], SHOWN), strict=True):
        assert len(wanted)
        equal(found, wanted)
    assert model.evaluate(files.data).map == pytest.approx(plain.evaluate(files.data).map, abs=0.005)


def test_an_exported_folder_is_replaced_and_another_folder_never(
    files: Files, images: list[NDArray[np.uint8]], plain: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convertible("mnn")
    folder = _minimal(tmp_path / "model")
    before = (folder / METADATA).read_bytes()
    with monkeypatch.context() as patch, pytest.raises(InputError, match="differs from torch"):
        patch.setattr(deploy, "difference", lambda *_: 1.0)
        export_model(files.weights, folder, DeployConfig("mnn", batch=2))
    assert (folder / METADATA).read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["model"]
    model = load(export_model(files.weights, folder, DeployConfig("mnn", batch=2)).path)
    assert json.loads((folder / METADATA).read_text())["input"]["shape"][0] == 2
    for found, wanted in zip(model.detect(images[:3], SHOWN), plain.detect(images[:3], SHOWN), strict=True):
        equal(found, wanted)  # three images in batches of two
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("text")
    with pytest.raises(InputError, match="exists and is no exported model"):
        export_model(files.weights, tmp_path / "mine", DeployConfig("mnn"))


def test_a_plan_is_compiled_without_a_gpu_and_says_that_it_was_not_checked(files: Files, tmp_path: Path) -> None:
    convertible("tensorrt-rtx")
    config = DeployConfig("tensorrt-rtx", suppression=SHOWN)
    done = export_model(files.weights, tmp_path / "plan", config)
    if RUNTIMES["tensorrt-rtx"].available() is None:
        assert done.difference is not None
        return
    assert done.difference is None
    assert json.loads((done.path / METADATA).read_text())["largest_difference_to_torch"] is None
    with pytest.raises(InputError, match="cannot run here"):
        load(done.path)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("classes", [], "classes"),
        ("classes", "abc", "classes"),
        ("format_version", 99, "format_version"),
        ("runtime", "toaster", "toaster"),
        ("runtime", 7, "runtime"),
        ("precision", "fp7", "fp7"),
        ("layout", "round", "round"),
        ("input", {"shape": [1, 3, 97, 96]}, "multiples"),
        ("input", {"shape": [0, 3, 96, 96]}, "batch"),
        ("input", {"shape": "x"}, "shape"),
        ("suppression", {"score_threshold": 7}, "score_threshold"),
        ("files", {"../S.safetensors": "0"}, "exported files"),
    ],
)
def test_metadata_is_checked(key: str, value: Any, message: str, files: Files, tmp_path: Path) -> None:
    folder = _minimal(tmp_path)
    about = {**json.loads((folder / METADATA).read_text()), key: value}
    (folder / METADATA).write_text(json.dumps(about))
    with pytest.raises(InputError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    folder = _minimal(tmp_path)
    (folder / "model.mnn").write_bytes(b"other")
    with pytest.raises(InputError, match=r"model\.mnn is not the file"):
        load(folder)


def _minimal(tmp_path: Path) -> Path:
    """A folder with correct metadata whose file is no model."""
    from nas.inference.deployed import Deployed

    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "model.mnn").write_bytes(b"no model")
    Deployed("mnn", "1", "fp32", ("a",), ImageSize(96, 96), 1, "dense", False, None, None).write(tmp_path)
    return tmp_path


def test_what_cannot_be_exported_is_one_line(files: Files, tmp_path: Path) -> None:
    wrongs: list[dict[str, Any]] = [
        {"format": "toaster"},
        {"layout": "round"},
        {"precision": "int8"},
        {"precision": "fp16"},
    ]
    for wrong in wrongs:
        with pytest.raises(InputError):
            DeployConfig(**wrong)
    with pytest.raises(InputError, match="one of the two"):
        DeployConfig(layout="yolo", suppression=SHOWN)
    with pytest.raises(InputError, match="multiple of 32"):
        export_model(files.weights, tmp_path / "x.onnx", DeployConfig(layout="yolo", image_size=100))
    assert not list(tmp_path.iterdir())


def test_int8_of_litert_keeps_the_accuracy(files: Files, plain: Model, tmp_path: Path) -> None:
    convertible("litert")
    with pytest.raises(InputError, match="without images"):
        DeployConfig("litert", "int8")
    done = export_model(files.weights, tmp_path / "S", DeployConfig("litert", "int8", calibration=files.data))
    assert done.difference is None and json.loads((done.path / METADATA).read_text())["precision"] == "int8"
    model = load(done.path)
    assert "int8" in model.runtime
    assert model.evaluate(files.data).map == pytest.approx(plain.evaluate(files.data).map, abs=0.02)


# one tensor, as servers read it


def served(
    session: onnxruntime.InferenceSession, frame: NDArray[np.uint8], score: float = 0.4, iou: float = 0.4
) -> list[tuple[int, float, NDArray[np.float32]]]:
    """What a camera server does with a "generic" YOLO: a frame of the model's size as float planes, rows of centre,
    size and class scores, the best class of each, suppression over all classes."""
    planes = frame.transpose(2, 0, 1)[None].astype(np.float32) / 255
    (output,) = session.run(None, {session.get_inputs()[0].name: planes})
    rows = np.squeeze(output)
    rows = rows.T if rows.shape[0] < rows.shape[1] else rows
    best = rows[:, 4:].max(1)
    rows, best = rows[best > score], best[best > score]
    corner = rows[:, :2] - rows[:, 2:4] / 2
    kept = cv2.dnn.NMSBoxes(np.concatenate([corner, rows[:, 2:4]], 1).tolist(), best.tolist(), score, iou)
    labels = rows[:, 4:].argmax(1)
    return [
        (int(labels[i]), float(best[i]), np.concatenate([corner[i], corner[i] + rows[i, 2:4]]))
        for i in np.ravel(kept).astype(int)
    ]


def test_the_layout_for_servers_serves(files: Files, images: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    path = export_model(files.weights, tmp_path / "S.onnx", DeployConfig(layout="yolo", batch=1)).path
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (output,) = session.get_outputs()
    assert session.get_inputs()[0].shape == [1, 3, SIZE, SIZE] and session.get_inputs()[0].type == "tensor(float)"
    model, found = load(path, "cpu"), 0
    for image in images:
        assert image.shape == (SIZE, SIZE, 3)
        detections = nms(*(array[0] for array in model.backend.run(model.preprocess(image)[0])), **vars(SHOWN))
        for label, score, box in served(session, image):
            near = np.flatnonzero((detections.labels == label) & (np.abs(detections.scores - score) < 1e-5))
            assert len(near) and np.abs(detections.boxes[near] - box).max(1).min() < 1e-2
            found += 1
    assert found >= len(images)
    assert output.shape == [1, 4 + len(model.classes), model.backend.run(model.preprocess(images[0])[0])[0].shape[1]]


@pytest.mark.parametrize("format_", ["openvino", "ncnn"])
def test_the_layout_for_servers_in_every_format(
    format_: str, files: Files, images: list[NDArray[np.uint8]], plain: Model, tmp_path: Path
) -> None:
    convertible(format_)
    model = load(export_model(files.weights, tmp_path / "S", DeployConfig(format_, layout="yolo")).path)
    equal(model.detect(images[:1], SHOWN)[0], plain.detect(images[:1], SHOWN)[0])


# suppression in the file


def suppression_graph(anchors: int, classes: int, settings: Suppression, fixed: bool) -> bytes:
    """Suppression alone: boxes and scores of all anchors are the inputs."""
    ends: dict[str, list[str | int]] = {"boxes": ["batch", anchors, 4], "scores": ["batch", anchors, classes]}
    values = [helper.make_tensor_value_info(name, 1, shape) for name, shape in ends.items()]
    inputs = [helper.make_tensor_value_info(f"in_{name}", 1, shape) for name, shape in ends.items()]
    nodes = [helper.make_node("Identity", [f"in_{name}"], [name]) for name in ends]
    graph = helper.make_graph(nodes, "g", inputs, values)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    to_detections(proto, classes, anchors, settings, fixed_shapes=fixed)
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "fixed shapes"])
@pytest.mark.parametrize(
    "anchors, classes, settings",
    [
        (700, 5, EVALUATION),
        (700, 5, SHOWN),
        (84, 1, Suppression(0.0, 0.5)),
        (84, 3, Suppression(0.2, 1.0)),
        (300, 80, Suppression(0.2, 0.65, 50, 200)),
        (40, 2, Suppression(0.99999, 0.5)),
    ],
)
def test_suppression_in_the_file_equals_ours(
    runtime: str, anchors: int, classes: int, settings: Suppression, tmp_path: Path
) -> None:
    """Random crowded boxes, some of them equal and some without area, some scores equal."""
    fixed = runtime == "fixed shapes"
    if not fixed and (reason := RUNTIMES[runtime].available()):
        pytest.skip(reason)
    rng = np.random.default_rng(anchors + classes)
    centre, size = rng.random((2, anchors, 2)) * 200, rng.random((2, anchors, 2)) * 60 + 5
    size[:, ::17] = 0
    boxes = np.concatenate([centre - size / 2, centre + size / 2], -1).astype(np.float32)
    boxes[:, 1::13] = boxes[:, 0:1]
    scores = (rng.random((2, anchors, classes)) ** 3).astype(np.float32)
    content = suppression_graph(anchors, classes, settings, fixed)
    if runtime != "openvino":
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        arrays = session.run(list(OUTPUTS["detections"]), {"in_boxes": boxes, "in_scores": scores})
    else:
        import openvino

        compiled = openvino.Core().compile_model(openvino.Core().read_model(content), "CPU")
        results = compiled([boxes, scores])
        arrays = [results[name] for name in OUTPUTS["detections"]]
    for i, (wanted, found) in enumerate(
        pairs_of_detections(to_raw("detections", arrays, classes, 2, "x"), (boxes, scores), settings)
    ):
        assert len(found) == len(wanted) == int(arrays[3][i])
        np.testing.assert_array_equal(found.labels, wanted.labels)
        np.testing.assert_array_equal(found.scores, wanted.scores)
        np.testing.assert_allclose(found.boxes, wanted.boxes, rtol=1e-6)


@pytest.mark.parametrize("format_", ["onnx", "openvino", "mnn"])
def test_a_file_with_suppression_predicts_evaluates_and_is_measured(
    format_: str, files: Files, images: list[NDArray[np.uint8]], plain: Model, tmp_path: Path
) -> None:
    convertible(format_)
    out = tmp_path / ("S.onnx" if format_ == "onnx" else "S")
    model = load(export_model(files.weights, out, DeployConfig(format_, suppression=EVALUATION)).path, "cpu")
    assert model.backend.inside == EVALUATION and model.backend.end_to_end
    for found, wanted in zip(model.detect(images[:3]), plain.detect(images[:3]), strict=True):
        assert len(wanted) > 5 and abs(len(found) - len(wanted)) <= 2
        top = min(5, len(found))
        equal(found.of(range(10), top), wanted.of(range(10), top))
    assert model.evaluate(files.data).map == pytest.approx(plain.evaluate(files.data).map, abs=0.005)
    if format_ == "onnx":
        with RUNTIMES["onnxruntime"](Target("onnxruntime"), QUICK) as profiler:
            assert profiler.measure(workload_of(out, profiler.target, tmp_path)).median_ms > 0


def test_detections_that_differ_fail_the_check(plain: Model, images: list[NDArray[np.uint8]]) -> None:
    boxes, scores = plain.backend.run(plain.preprocess(images[0])[0])
    kept = nms(boxes[0], scores[0], **vars(EVALUATION))
    same = np.zeros((1, len(kept), scores.shape[-1]), np.float32)
    same[0, np.arange(len(kept)), kept.labels] = kept.scores
    assert detections_difference((kept.boxes[None], same), (boxes, scores), EVALUATION) == 0
    with pytest.raises(InputError, match="differ from the suppression"):
        detections_difference((kept.boxes[None] + 5, same), (boxes, scores), EVALUATION)
    with pytest.raises(InputError, match="differ from the suppression"):
        detections_difference((kept.boxes[None], 0 * same), (boxes, scores), EVALUATION)


def test_the_command_line_writes_and_opens_a_folder(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convertible("openvino")
    out = tmp_path / "S-openvino"
    assert main(["export", str(files.weights), "--to", "openvino", "--nms", "--out", str(out)]) == 0
    assert "largest difference to torch" in capsys.readouterr().out
    assert main(["evaluate", str(out), "--data", files.spec, "--resamples", "20"]) == 0
    assert "suppression is in the file: score 0.3" in capsys.readouterr().out.replace("\n", " ")
    assert main(["export", str(files.weights), "--to", "toaster"]) != 0
    assert "toaster" in capsys.readouterr().err
