"""ONNX files from outside: what they say is checked before they are run, and a run is bounded in time and memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nas.inference import backends
from nas.inference.backends import OnnxBackend, _interruptible
from nas.inference.layouts import to_raw, to_yolo
from nas.inference.model import load
from search_spaces.errors import InputError
from tests._detectors import detector_files

SIDE, ANCHORS, CLASSES = 32, 8, ("a", "b")
METADATA = {"classes": json.dumps(CLASSES), "image_size": str(SIDE), "suppression": "nms"}
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def value(name: str, shape: Any, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name: str, values: Any, kind: int = INT64) -> onnx.TensorProto:
    return helper.make_tensor(name, kind, np.shape(values), np.ravel(values))


def graph(
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    inputs: list[onnx.ValueInfoProto] | None = None,
    outputs: list[onnx.ValueInfoProto] | None = None,
) -> onnx.GraphProto:
    inputs = [value("images", ["n", 3, SIDE, SIDE])] if inputs is None else inputs
    outputs = [value("boxes", ["n", ANCHORS, 4]), value("scores", ["n", ANCHORS, 2])] if outputs is None else outputs
    return helper.make_graph(nodes, "g", inputs, outputs, constants)


def detector(anchors: int = ANCHORS, classes: int = 2, factor: float = 0.0, **more: Any) -> onnx.GraphProto:
    """Boxes and scores that are ``factor`` times the mean of each image."""
    nodes = [helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1)]
    nodes += [helper.make_node("Squeeze", ["mean", "last"], ["each"])]
    constants = [constant("last", [3]), constant("factor", [factor], FLOAT)]
    nodes += [helper.make_node("Mul", ["each", "factor"], ["scaled"])]
    for name, width in (("boxes", 4), ("scores", classes)):
        constants.append(constant(f"{name}.by", np.ones((1, anchors, width), np.float32), FLOAT))
        nodes.append(helper.make_node("Mul", ["scaled", f"{name}.by"], [name]))
    return graph(nodes, constants, **more)


def write(path: Path, content: onnx.GraphProto, metadata: dict[str, str] | None = None, functions: Any = ()) -> Path:
    model = helper.make_model(
        content, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, functions=list(functions)
    )
    helper.set_model_props(model, METADATA if metadata is None else metadata)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_plain_file_runs(tmp_path: Path) -> None:
    backend = OnnxBackend(write(tmp_path / "x.onnx", detector(factor=0.5)), "cpu")
    boxes, scores = backend.run(np.ones((3, 3, SIDE, SIDE), np.float32))
    assert backend.classes == CLASSES and backend.image_size == SIDE and not backend.end_to_end
    assert boxes.shape == (3, ANCHORS, 4) and scores.shape == (3, ANCHORS, 2) and np.allclose(scores, 0.5)


@pytest.mark.parametrize(
    "key, text, message",
    [
        ("classes", "{}", "classes are {}"),
        ("classes", "[]", r"classes are \[\]"),
        ("classes", '"ab"', "classes are 'ab'"),
        ("classes", "[1, 2]", "a class is called 1"),
        ("classes", '["a", ""]', "a class is called ''"),
        ("classes", '["a", " "]', "a class is called ' '"),
        ("classes", '["a", "a"]', "every name once"),
        *(("suppression", word, "suppression") for word in ("maybe", "NMS", "null", '"nms"', "x" * 5000)),
        ("classes", '["a"]', "scores of shape"),
        ("classes", '["a", "b", "c"]', "scores of shape"),
        ("classes", "[" * 100_000, "nested too deeply"),
        ("classes", "not json", "not JSON"),
        ("classes", r'["a", "\ud800"]', "not Unicode text"),
        *(
            ("image_size", size, "image_size is")
            for size in ("abc", "0", "-32", "97", "1000000000", "40000", "32.0", " 32", "3" * 5000, "\u0663\u0662")
        ),
        ("image_size", "64", "images of shape"),
    ],
)
def test_metadata_is_checked(key: str, text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.onnx", detector(), {**METADATA, key: text})
    refused(path, message)


def refused(path: Path, message: str) -> None:
    """Loading, or else running it once, is one line that names the file."""
    with pytest.raises(InputError, match=message) as caught:
        backend = OnnxBackend(path, "cpu")
        backend.run(np.zeros((1, 3, *backend.image_size), np.float32))
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and len(text) < 700


@pytest.mark.parametrize("missing", ["classes", "image_size"])
def test_missing_metadata_is_named(missing: str, tmp_path: Path) -> None:
    refused(write(tmp_path / "x.onnx", detector(), {k: v for k, v in METADATA.items() if k != missing}), "classes")


@pytest.mark.parametrize(
    "inputs, message",
    [
        ([value("pixels", ["n", 3, SIDE, SIDE])], "inputs"),
        ([value("images", ["n", 3, SIDE, SIDE]), value("more", [1])], "inputs"),
        ([value("images", ["n", 3, SIDE, SIDE], TensorProto.DOUBLE)], "inputs"),
        ([value("images", ["n", 1, SIDE, SIDE])], "images of shape"),
        ([value("images", ["n", 3, SIDE, 2 * SIDE])], "images of shape"),
        ([value("images", ["n", 3, SIDE])], "images of shape"),
        ([value("images", [10**9, 3, SIDE, SIDE])], "a batch of"),
        ([value("images", [0, 3, SIDE, SIDE])], "a batch of"),
        ([], "inputs"),
    ],
)
def test_inputs_are_checked(inputs: list[onnx.ValueInfoProto], message: str, tmp_path: Path) -> None:
    refused(write(tmp_path / "x.onnx", detector(inputs=inputs)), message)


@pytest.mark.parametrize(
    "outputs, message",
    [
        ([value("boxes", ["n", ANCHORS, 4])], "outputs"),
        ([value("boxes", ["n", ANCHORS, 4]), value("mean", None)], "outputs"),
        ([value("boxes", ["n", ANCHORS, 5]), value("scores", ["n", ANCHORS, 2])], "boxes of shape"),
        ([value("boxes", ["n", ANCHORS]), value("scores", ["n", ANCHORS, 2])], "boxes of shape"),
        ([value("boxes", ["n", 10**9, 4]), value("scores", ["n", ANCHORS, 2])], "boxes of shape"),
        ([value("boxes", ["n", ANCHORS, 4]), value("scores", ["n", ANCHORS, 2], INT64)], "outputs"),
    ],
)
def test_outputs_are_checked(outputs: list[onnx.ValueInfoProto], message: str, tmp_path: Path) -> None:
    refused(write(tmp_path / "x.onnx", detector(outputs=outputs)), message)


def test_outputs_that_the_file_does_not_declare_are_checked_when_it_runs(tmp_path: Path) -> None:
    free = [value("boxes", None), value("scores", None)]
    refused(write(tmp_path / "x.onnx", detector(classes=3, outputs=free)), "scores of shape")
    nodes = [helper.make_node("Identity", ["images"], [name]) for name in ("boxes", "scores")]
    refused(write(tmp_path / "x.onnx", graph(nodes, [], outputs=free)), "boxes of shape")


def loop() -> onnx.GraphProto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["x", "x"], ["y"])],
        "body",
        [value("i", [], INT64), value("go", [], TensorProto.BOOL), value("x", None)],
        [value("on", [], TensorProto.BOOL), value("y", None)],
    )
    nodes = [helper.make_node("Loop", ["", "true", "images"], ["boxes"], body=body)]
    nodes.append(helper.make_node("Identity", ["boxes"], ["scores"]))
    return graph(nodes, [helper.make_tensor("true", TensorProto.BOOL, [], [True])])


def test_loops_are_refused(tmp_path: Path) -> None:
    refused(write(tmp_path / "x.onnx", loop()), "loops")


@pytest.mark.parametrize(
    "spoil", [lambda node: node.__setattr__("domain", "other"), lambda node: node.ClearField("input")]
)
def test_operations_that_cannot_be_run_are_refused(spoil: Callable[[onnx.NodeProto], object], tmp_path: Path) -> None:
    content = detector()
    spoil(content.node[0])
    refused(write(tmp_path / "x.onnx", content), "x.onnx")


def test_functions_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    function = helper.make_function("own", "F", ["x"], ["y"], [node], [helper.make_opsetid("", 17)])
    refused(write(tmp_path / "x.onnx", detector(), functions=[function]), "functions")


def huge(known: bool) -> onnx.GraphProto:
    """The scores are spread over 24 GB: by a constant shape, or by one that follows from the image."""
    nodes, constants = list(detector(factor=1.0).node), list(detector(factor=1.0).initializer)
    size = [3, 1 << 30, 2] if known else [1]
    nodes = [n for n in nodes if n.output[0] != "scores"]
    constants += [constant("size", size), constant("one", [1])]
    shape = "size"
    if not known:
        constants += [constant("scale", [3 << 31])]
        nodes += [
            helper.make_node("ReduceMax", ["images"], ["most"], keepdims=0),
            helper.make_node("Cast", ["most"], ["whole"], to=INT64),
            helper.make_node("Reshape", ["whole", "one"], ["flat"]),
            helper.make_node("Mul", ["flat", "scale"], ["length"]),
        ]
        shape = "length"
    nodes += [
        helper.make_node("ReduceMean", ["each"], ["single"], keepdims=0),
        helper.make_node("Reshape", ["single", "one"], ["cell"]),
        helper.make_node("Expand", ["cell", shape], ["spread"]),
        helper.make_node("ReduceMean", ["spread"], ["again"], keepdims=0),
        helper.make_node("Mul", ["again", "scores.by"], ["scores"]),
    ]
    return graph(nodes, constants)


def test_a_graph_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    refused(write(tmp_path / "x.onnx", huge(known=True)), "spread.*tensors of at most 2 GiB")


def test_memory_that_only_a_run_shows_is_bounded(tmp_path: Path) -> None:
    backend = OnnxBackend(write(tmp_path / "x.onnx", huge(known=False)), "cpu")
    with pytest.raises(InputError, match="cannot be run on 1 image .*[Mm]emory"):
        backend.run(np.ones((1, 3, SIDE, SIDE), np.float32))


def test_a_run_that_takes_too_long_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    width, count = 512, 5000
    nodes, constants = list(detector().node), list(detector().initializer)
    nodes = [n for n in nodes if n.output[0] != "scores"]
    constants += [constant("table", np.zeros((width, width), np.float32), FLOAT)]
    nodes.append(helper.make_node("Mul", ["images", "factor"], ["t0"]))
    nodes.append(helper.make_node("ReduceMean", ["t0"], ["zero"], keepdims=0))
    nodes.append(helper.make_node("Add", ["table", "zero"], ["m0"]))
    nodes += [helper.make_node("MatMul", [f"m{i}", "table"], [f"m{i + 1}"]) for i in range(count)]
    nodes.append(helper.make_node("ReduceMean", [f"m{count}"], ["again"], keepdims=0))
    nodes.append(helper.make_node("Mul", ["again", "scores.by"], ["scores"]))
    monkeypatch.setattr(backends, "MAX_RUN_S", 0.5)
    refused(write(tmp_path / "x.onnx", graph(nodes, constants)), "it took over")


def test_a_signal_ends_a_wait_for_a_library() -> None:
    """In a process of its own. A run inside a library lets no handler of Python run before it returns."""
    code = """
import os, signal, threading, time
from nas.cli.border import guarded
from nas.inference.backends import _interruptible
ended = threading.Event()
def command():
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    _interruptible(lambda: ended.wait(60), 60, ended.set)
    return 0
begun = time.monotonic()
status = guarded(command, "nas predict", str)
raise SystemExit(status if time.monotonic() - begun < 20 else "too late")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "\nnas predict: ended by SIGTERM\n")


def test_the_time_of_work_is_bounded_and_its_error_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "STOP_S", 0.01)
    with pytest.raises(TimeoutError):
        _interruptible(lambda: threading.Event().wait(5), 0.01, lambda: None)
    with pytest.raises(ZeroDivisionError):
        _interruptible(lambda: 1 / 0, 60, lambda: None)
    assert _interruptible(lambda: 3, 60, lambda: None) == 3


@pytest.mark.parametrize("layout", ["dense", "yolo", "detections"])
@pytest.mark.parametrize("value", [7.0, -2.0, 1.011, np.inf])
def test_scores_outside_0_to_1_are_refused(layout: str, value: float) -> None:
    boxes, scores = np.zeros((1, 3, 4), np.float32), np.full((1, 3, 2), 0.5, np.float32)
    scores[0, 1, 1] = value
    arrays: list[np.ndarray[Any, Any]] = [boxes, scores]
    if layout == "yolo":
        arrays = [to_yolo(boxes, scores)]
    if layout == "detections":
        arrays = [boxes, scores[..., 1], np.ones((1, 3), np.int64), np.array([3])]
    with pytest.raises(InputError, match="x.onnx gives scores from"):
        to_raw(layout, arrays, 2, 1, "x.onnx")
    scores[0, 1, 1] = 1.005  # rounding
    assert to_raw("dense", [boxes, scores], 2, 1, "x.onnx")[1].max() == np.float32(1.005)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda p: p.write_bytes(b""), "x.onnx"),
        (lambda p: p.write_bytes(b"no ONNX at all"), "no usable ONNX file"),
        (lambda p: os.mkfifo(p), "named pipe"),
        (lambda p: p.symlink_to("/dev/zero"), "device"),
        (lambda p: p.mkdir(), "folder"),
    ],
)
def test_what_is_no_onnx_file_is_refused(make: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    make(tmp_path / "x.onnx")
    with pytest.raises(InputError, match=message):
        OnnxBackend(tmp_path / "x.onnx")


# weights in a file beside the model


def external(path: Path, location: str) -> Path:
    """The model with the constants of the boxes in another file."""
    model = onnx.load(str(path))
    tensor = next(t for t in model.graph.initializer if t.name == "boxes.by")
    (path.parent / "weights.bin").write_bytes(np.array(tensor.float_data, np.float32).tobytes())
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    backend = OnnxBackend(external(write(tmp_path / "x.onnx", detector(factor=1.0)), "weights.bin"), "cpu")
    assert np.allclose(backend.run(np.ones((1, 3, SIDE, SIDE), np.float32))[0], 1)


@pytest.mark.parametrize(
    "location", ["../weights.bin", "/etc/passwd", "none.bin", "folder", "device", "outside", "a\0b", "x" * 5000]
)
def test_weights_elsewhere_are_refused(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "weights.bin").write_bytes(b"\0" * 1000)
    (folder / "device").symlink_to("/dev/zero")
    (folder / "outside").symlink_to(tmp_path / "weights.bin")
    refused(external(write(folder / "x.onnx", detector()), location), "weights in")


def test_an_export_with_its_weights_beside_it_finds_the_same(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    files = detector_files(tmp_path_factory.getbasetemp())
    onnx.save(onnx.load(files.onnx), str(tmp_path / "S.onnx"), save_as_external_data=True, size_threshold=0)
    image = next(iter(files.data.val.samples)).path
    one, other = (load(path, "cpu").predict(image).to_dict() for path in (files.onnx, tmp_path / "S.onnx"))
    assert one == other and one["objects"]
