"""Rectangular images from the data set to the boxes: height and width are exchanged nowhere.

Each test has content at one corner of a wide or a high image, which a transposition would move.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

import nas
from latency_db.core.profiler import Network, Profiler, Workload
from latency_db.core.target import Target
from latency_db.predictor.features import SUMMARY, network_features
from latency_db.runtimes import RUNTIMES, open_profiler
from nas.cli import main
from nas.core.architecture_file import read_artifact, write_artifact
from nas.core.budgets import parse_request
from nas.core.references import reference_artifact, resized
from nas.data.images import read_image
from nas.data.loader import Loader, LoaderConfig
from nas.data.source import open_data
from nas.data.transforms import Augmentation, letterbox, place
from nas.estimators import ESTIMATORS
from nas.export.deploy import DeployConfig, export_model
from nas.export.onnx import export_onnx, metadata_of, skeleton_onnx
from nas.inference.deployed import Deployed
from nas.inference.detect import batches, detect
from nas.inference.preprocess import Preprocessor
from nas.profiling.workload import input_size
from nas.supernet.weights import load_detector, save_detector
from nas.training.assigner import assign
from nas.training.loss import DetectionLoss, Truth
from search_spaces.errors import InputError
from search_spaces.heads.base import decode_boxes
from search_spaces.image_size import ImageSize
from search_spaces.onnx import build_onnx
from search_spaces.spaces import SPACES
from tests._data import coco_folder
from tests._detectors import SIZE, Files, detector_files
from tests._models import QUICK, write_model

WIDE, HIGH = ImageSize(96, 160), ImageSize(160, 96)
BOTH = pytest.mark.parametrize("size", [WIDE, HIGH], ids=str)
NANO = SPACES["yolo-nano"]


# targets of training


def white_box(folder: Path) -> Path:
    """A data set of black images of 200 x 120 px with one white object near a corner, another corner in each."""
    corners = [(6, 6), (160, 6), (6, 90), (160, 90)]
    splits = {}
    for split, first in (("train", 1), ("val", 101)):
        rows = [{"id": first + i, "file_name": f"{first + i}.png", "width": 200, "height": 120} for i in range(4)]
        boxes = [
            {"id": i, "image_id": first + i, "category_id": 7, "bbox": [x, y, 30, 20], "area": 600, "iscrowd": 0}
            for i, (x, y) in enumerate(corners)
        ]
        names = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
        splits[split] = {"images": rows, "annotations": boxes, "categories": names}
    coco_folder(folder, splits["train"], splits["val"])
    for first, (i, (x, y)) in itertools.product((1, 101), enumerate(corners)):
        image = np.zeros((120, 200, 3), np.uint8)
        image[y : y + 20, x : x + 30] = 255
        assert cv2.imwrite(str(folder / "images" / f"{first + i}.png"), image)
    return folder


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(white_box(tmp_path_factory.mktemp("white") / "data"))


AUGMENTATIONS = {
    "letterboxed": Augmentation.NONE,
    "shifted": Augmentation(affine=1, hsv=0, flip=0.5, scale=(0.7, 1.2), translate=0.2),
    "turned": Augmentation(affine=1, hsv=0, flip=0.5, scale=(0.7, 1.1), translate=0.1, degrees=15),
    "mosaic": Augmentation(affine=1, hsv=0, mosaic=1.0, scale=(0.8, 1.0)),
    "of several sizes": Augmentation(affine=1, hsv=0, multi_scale=(0.6, 1.4), scale=(0.8, 1.0), translate=0.05),
}


@BOTH
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_boxes_lie_on_their_objects(name: str, size: ImageSize, spec: str) -> None:
    loader = Loader(open_data(spec).train, LoaderConfig(4, size, AUGMENTATIONS[name], seed=3, shuffle=True, workers=0))
    found, shapes = 0, set()
    for batch in itertools.chain.from_iterable(loader.epoch(epoch) for epoch in range(6)):
        shapes.add(tuple(batch.images.shape[2:]))
        for box, index in zip(batch.boxes.tolist(), batch.image_index.tolist(), strict=True):
            pixels = batch.images[index, 0].numpy()
            x1, y1, x2, y2 = (round(v) for v in box)
            assert 0 <= x1 < x2 <= pixels.shape[1] and 0 <= y1 < y2 <= pixels.shape[0]
            middle = pixels[(y1 + y2) // 2 - 1 : (y1 + y2) // 2 + 1, (x1 + x2) // 2 - 1 : (x1 + x2) // 2 + 1]
            assert middle.min() > 200, (name, box)
            found += 1
    assert found > 20
    if name == "of several sizes":
        assert len(shapes) > 1 and all((h < w) == (size is WIDE) and h % 32 == w % 32 == 0 for h, w in shapes)
    else:
        assert shapes == {size.shape}


@BOTH
def test_the_letterbox_fits_the_longer_way_round(size: ImageSize) -> None:
    placement = letterbox(200, 120, size)
    canvas = placement.paste(np.full((120, 200, 3), 255, np.uint8))
    assert canvas.shape == (*size, 3)
    rows, columns = np.where(canvas[..., 0] == 255)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert seen == ([0, 0, 160, 96] if size is WIDE else [0, 51, 96, 109])
    boxes = np.array([[150, 10, 190, 30]], np.float32)
    np.testing.assert_allclose(placement.inverse(placement.boxes(boxes)), boxes, atol=1e-4)


def test_a_mirrored_box_on_a_rectangle() -> None:
    placement = place(200, 120, WIDE, Augmentation(affine=0, flip=1), np.random.default_rng(0))
    (box,) = placement.boxes(np.array([[0, 0, 50, 30]], np.float32))
    np.testing.assert_allclose(box, [120, 0, 160, 24], atol=1e-4)


@BOTH
def test_anchor_points_of_a_box_lie_inside_it(size: ImageSize, spec: str) -> None:
    torch.manual_seed(0)
    detector = NANO.build(NANO.smallest, 2)
    batch = next(batches(open_data(spec).train, size, 4))
    predictions = detector(batch.images.float() / 255)
    assert predictions.points.max(0).values.tolist() == pytest.approx([size.width - 4, size.height - 4])
    matched = assign(
        predictions.scores, decode_boxes(predictions), predictions.points, batch.boxes, batch.labels, batch.image_index
    )
    assert set(matched.box.tolist()) == set(range(4))
    points, boxes = predictions.points[matched.anchor], batch.boxes[matched.box]
    assert ((points > boxes[:, :2]) & (points < boxes[:, 2:])).all()


# every space


def step_of_training(detector: torch.nn.Module, size: ImageSize) -> float:
    """One step of SGD on a random image with one box; the gradient's largest entry."""
    images = torch.rand(1, 3, *size)
    truth = Truth(
        torch.tensor([[size.width - 60.0, 4, size.width - 4, 60]]),
        torch.zeros(1, dtype=torch.long),
        torch.zeros(1).long(),
    )
    loss, _, matched = DetectionLoss()(detector.train()(images), truth)
    loss.backward()
    gradients = [p.grad.abs().max().item() for p in detector.parameters() if p.grad is not None]
    torch.optim.SGD(detector.parameters(), 1e-3).step()
    assert len(matched.anchor) and np.isfinite(loss.item())
    return max(gradients)


@pytest.fixture(scope="module")
def profiler() -> Iterator[Profiler]:
    protocol = replace(QUICK, warmup_runs=1, warmup_s=0.0, min_rounds=1, max_rounds=1)
    with open_profiler(Target("onnxruntime"), protocol) as opened:
        yield opened


@pytest.mark.parametrize("name", SPACES)
def test_every_space_builds_trains_exports_and_measures(name: str, profiler: Profiler, tmp_path: Path) -> None:
    size = ImageSize(256, 448)
    space = SPACES[name]
    point = space.smallest.replace(image_size="256x448")
    torch.manual_seed(0)
    detector = space.build(point, 3)
    assert 0 < step_of_training(detector, size) < np.inf
    detector.deploy()
    path = tmp_path / "m.onnx"
    path.write_bytes(build_onnx(detector.graph, 3, batch=1, detector=detector))
    session = RUNTIMES["onnxruntime"].open_session(Target("onnxruntime"), path)
    assert session is not None
    images = torch.rand(1, 3, *size)
    boxes, scores = session(images.numpy())
    with torch.inference_mode():
        want_boxes, want_scores = detector.predict(images)
    np.testing.assert_allclose(boxes, want_boxes.numpy(), atol=2e-2)
    np.testing.assert_allclose(scores, want_scores.numpy(), atol=3e-4)
    network = Network(point, 3, size)
    m = profiler.measure(Workload(network.key, path, network))
    assert m.workload.endswith("/c3/r256x448") and m.median_ms > 0
    assert Network.from_dict(json.loads(json.dumps(m.environment["network"]))) == network


# one detector at several sizes


@dataclass(frozen=True)
class Rectangle:
    """The detector of :mod:`tests._detectors` as weights and as ONNX for another image size."""

    size: ImageSize
    weights: Path
    onnx: Path
    files: Files


@pytest.fixture(scope="module", params=[WIDE, HIGH], ids=str)
def rectangle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rectangle:
    files = detector_files(tmp_path_factory.getbasetemp())
    size: ImageSize = request.param
    folder = tmp_path_factory.mktemp("rectangle")
    detector, artifact, _ = load_detector(files.weights)
    artifact = resized(artifact, size)
    save_detector(folder / "S.safetensors", detector, artifact, {})
    metadata = metadata_of(artifact.architecture, artifact.classes, size)
    assert export_onnx(detector.deploy(), folder / "S.onnx", size, metadata) < 1e-4
    return Rectangle(size, folder / "S.safetensors", folder / "S.onnx", files)


def moved(rgb: npt.NDArray[np.uint8], size: ImageSize, last: bool) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    """An image of 96 x 96 px at the first or last end of a canvas, and where (x, y)."""
    left, top = (size.width - SIZE, size.height - SIZE) if last else (0, 0)
    canvas = np.full((*size, 3), rgb[0, 0], np.uint8)
    canvas[top : top + SIZE, left : left + SIZE] = rgb
    return canvas, (left, top)


def nearest(boxes: npt.NDArray[np.float32], wanted: Sequence[float]) -> float:
    """Largest distance in pixels of a side of the nearest box."""
    return float(np.abs(np.asarray(boxes) - wanted).max(1).min())


@pytest.mark.parametrize("kind, last", [("weights", False), ("weights", True), ("onnx", True), ("mnn", True)])
def test_a_prediction_stays_where_the_object_is(kind: str, last: bool, rectangle: Rectangle, tmp_path: Path) -> None:
    if kind == "mnn":
        if reason := RUNTIMES["mnn"].available():
            pytest.skip(reason)
        path = export_model(rectangle.weights, tmp_path / "S", DeployConfig("mnn")).path
        assert Deployed.read(path).image_size == rectangle.size
    else:
        path = {"weights": rectangle.weights, "onnx": rectangle.onnx}[kind]
    model, square = nas.load(path), nas.load(rectangle.files.weights)
    assert model.backend.image_size == rectangle.size and str(rectangle.size) in repr(model)
    count = 0
    for sample in rectangle.files.data.val.samples[:3]:
        rgb = read_image(sample.path)
        there = square.predict(rgb, score=0.5)
        canvas, (left, top) = moved(rgb, rectangle.size, last)
        found = model.predict(canvas, score=0.25)
        for box in there.boxes:
            assert nearest(found.boxes, np.asarray(box) + np.array([left, top, left, top])) < 10
            count += 1
    assert count >= 3


def sessions() -> list[str]:
    return [name for name in RUNTIMES if RUNTIMES[name].open_session.__func__ is not Profiler.open_session.__func__]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sessions())
def test_every_runtime_computes_what_torch_does(name: str, rectangle: Rectangle, tmp_path: Path) -> None:
    if reason := RUNTIMES[name].available():
        pytest.skip(reason)
    detector = load_detector(rectangle.weights)[0].deploy()
    path = tmp_path / "fixed.onnx"
    path.write_bytes(build_onnx(detector.graph, detector.num_classes, rectangle.size, 1, detector))
    session = RUNTIMES[name].open_session(Target(name, image_size=rectangle.size), path)
    if session is None:
        pytest.skip(f"{name} opens no session here")
    sample = rectangle.files.data.val.samples[0]
    canvas, _ = moved(read_image(sample.path), rectangle.size, last=True)
    images, _ = Preprocessor(rectangle.size)(canvas)
    boxes, scores = session(images)
    with torch.inference_mode():
        want_boxes, want_scores = (t.numpy() for t in detector.predict(torch.from_numpy(images)))
    assert want_scores.max() > 0.3
    np.testing.assert_allclose(scores, want_scores, atol=2e-3)
    np.testing.assert_allclose(boxes, want_boxes, atol=0.3)


def test_boxes_of_an_evaluation_come_back_to_the_image(rectangle: Rectangle) -> None:
    """Images of 96 x 96 px on a rectangle are as large as on a square of 96 px, with borders."""
    detector = load_detector(rectangle.weights)[0].deploy()
    val = rectangle.files.data.val
    sizes = {s.id: (s.width, s.height) for s in val.samples}
    (square,), (other,) = (list(batches(val, size, len(val))) for size in (SIZE, rectangle.size))
    found, wanted = detect(detector, other, sizes), detect(detector, square, sizes)
    near = [
        nearest(found[id].boxes, box) < 10 for id, there in wanted.items() for box in there.boxes[there.scores > 0.5]
    ]
    assert len(near) > 8 and np.mean(near) > 0.8  # borders change what the network sees at the edge of an image
    scored = nas.load(rectangle.onnx).evaluate(val), nas.load(rectangle.files.weights).evaluate(val)
    assert scored[0].map50 > 0.5 * scored[1].map50 > 0.2


# commands and files


def test_the_commands(
    rectangle: Rectangle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if rectangle.size is HIGH:
        pytest.skip("once is enough")
    size, spec, weights = rectangle.size, rectangle.files.spec, str(rectangle.weights)
    assert main(["models", "yolov5n", "--out", "n.json", "--image-size", str(size), "--num-classes", "10"]) == 0
    assert read_artifact(Path("n.json")).architecture["image_size"] == str(size)
    assert main(["export", weights, "--out", "n.onnx", "--image-size", "64x128"]) == 0
    assert nas.load("n.onnx").backend.image_size == ImageSize(64, 128)
    assert main(["evaluate", "n.onnx", "--data", spec]) == 0
    assert cv2.imwrite("a.png", np.zeros((*size, 3), np.uint8))
    assert main(["predict", weights, "a.png", "--out", "drawn"]) == 0
    height, width = read_image(Path("drawn/a.png")).shape[:2]
    assert height * size.width == width * size.height
    capsys.readouterr()
    for command in (f"export {weights} --image-size 64x100", "models yolov5n --out a.json --image-size 64x100"):
        assert main(command.split()) == 2
        error = capsys.readouterr().err
        assert "64x100" in error and "multiples of 32" in error and error.count("\n") == 1


def test_a_training(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    artifact = reference_artifact("yolov5n", 2, "64x96")
    write_artifact(Path("n.json"), replace(artifact, architecture=NANO.smallest))
    options = ["--epochs", "1", "--batch-size", "2", "--image-size", "96x160", "--device", "cpu", "--recipe", "default"]
    assert main(["train", "n.json", "--data", spec, *options]) == 0
    assert load_detector(Path("n.safetensors"))[1].architecture.image_size == WIDE


def test_a_search_over_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(ESTIMATORS._targets, "latency", "tests._fakes:HashLatency")
    fixed = {c.name: c.values[:1] for c in NANO.choices} | {"image_size": ("64x96", "96x96"), "width": (8, 16)}
    settings = nas.Search(accuracy="elements", trials=4, fixed=fixed, options={"minimize": ("macs",)})
    assert settings.settings().fixed["image_size"] == ("64x96", 96)
    with pytest.raises(InputError, match="64x97"):
        nas.Search(accuracy="nwot", fixed={"image_size": "64x97"}).settings()
    done = settings.run(tmp_path / "run")
    rows = done.candidates
    assert set(map(str, rows["choice.image_size"])) == {"64x96", "96"}
    again = nas.open_run(tmp_path / "run")
    assert again[again.names[0]].architecture.image_size in (ImageSize(64, 96), 96)


def test_targets_and_budgets() -> None:
    target = Target.parse("onnxruntime:int8@384x640/b2")
    assert target.image_size == ImageSize(384, 640) and str(target) == "onnxruntime:int8@384x640/b2"
    assert Target.parse("onnxruntime@640x640") == Target.parse("onnxruntime@640") and "@640/" in str(
        replace(target, image_size=640)
    )
    for wrong in ("@384x", "@x640", "@384x640x3", "@0x32"):
        with pytest.raises(InputError, match="image size .* in target"):
            Target.parse(f"onnxruntime{wrong}")
    bound = parse_request("S=ref:yolov8n@384x640").references["S"]
    assert bound.image_size == ImageSize(384, 640) and str(bound) == "ref:yolov8n@384x640"
    with pytest.raises(InputError, match="image size 384x641 .*multiples of 32"):
        parse_request("S=ref:yolov8n@384x641")
    assert reference_artifact("yolov8n", image_size="384x640").architecture.image_size.shape == (384, 640)


def test_latency_is_of_the_shape(tmp_path: Path) -> None:
    point = NANO.smallest
    wide, high, square = (Network(point, 3, size) for size in ("96x160", "160x96", 96))
    assert len({n.key for n in (wide, high, square)}) == 3
    side = SUMMARY.index("log image size")
    assert (
        network_features(wide).summary[side]
        == network_features(high).summary[side]
        > network_features(square).summary[side]
    )
    path = write_model(tmp_path / "free.onnx", 1, size="side")
    assert input_size(path, Target.parse("onnxruntime@96x160")) == WIDE
    with pytest.raises(InputError, match=r"@640 or …@384x640"):
        input_size(path, Target.parse("onnxruntime"))
    fixed = skeleton_onnx(NANO, point, 3, tmp_path / "f.onnx", "96x160")
    assert input_size(fixed, Target.parse("onnxruntime")) == WIDE
    with pytest.raises(InputError, match="takes images of"):
        input_size(fixed, Target.parse("onnxruntime@160x96"))
