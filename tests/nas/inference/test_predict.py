"""Using a trained detector: Python, the command line, videos; and that it sees what evaluation sees."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import nas
from nas.cli import main
from nas.data.images import read_image
from nas.data.source import open_data
from nas.inference.backends import _providers
from nas.inference.coco_metrics import evaluate
from nas.inference.detect import detect_all
from nas.inference.inputs import find_inputs
from nas.inference.model import Model, load
from nas.inference.nms import EVALUATION
from nas.inference.results import Result, _window, write_image
from nas.inference.video import Video, VideoWriter
from nas.supernet.weights import load_detector
from search_spaces.errors import InputError
from tests._detectors import SIZE, Files, detector_files

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return detector_files(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def model(files: Files) -> Model:
    return load(files.onnx)


def images(files: Files) -> list[Path]:
    return [sample.path for sample in files.data.val.samples]


# Python


def test_a_path_an_array_and_a_list(files: Files, model: Model) -> None:
    first, second = images(files)[:2]
    result = model.predict(first, score=0.2)
    assert isinstance(result, Result) and result.path == first and len(result) > 0
    assert result.boxes.shape == (len(result), 4) and result.scores.shape == result.labels.shape == (len(result),)
    assert (
        result.names == [model.classes[k] for k in result.labels]
        and result.scores.min() > 0.2
        and (np.diff(result.scores) <= 0).all()
    )
    height, width = result.image.shape[:2]
    assert (result.boxes >= 0).all() and (result.boxes <= [width, height, width, height]).all()
    again = model.predict(read_image(first), score=0.2)
    assert again.path is None
    np.testing.assert_array_equal(again.boxes, result.boxes)
    many = model.predict([str(first), read_image(second)], score=0.2)
    assert [len(r) for r in many] == [len(result), len(model.predict(second, score=0.2))] and model.predict([]) == []
    np.testing.assert_allclose(many[0].boxes, result.boxes, atol=1e-3)


def test_options(files: Files, model: Model) -> None:
    path = images(files)[0]
    all_ = model.predict(path, score=0.1)
    kept = all_.names[-1]
    only = model.predict(path, score=0.1, classes=[kept])
    mine = all_.labels == model.classes.index(kept)
    np.testing.assert_array_equal(
        only.boxes, all_.boxes[mine]
    )  # a subset, not what the class would give if it were alone
    assert len(model.predict(path, score=0.1, max_detections=2)) == 2
    assert len(model.predict(path, score=0.1, iou=0.0)) < len(all_) < len(model.predict(path, score=0.1, iou=1.0))
    assert (
        len(model.predict(path, score=0.0, iou=1.0, max_detections=1500))
        == (SIZE // 8) ** 2 + (SIZE // 16) ** 2 + (SIZE // 32) ** 2
    )


def test_weights_and_export_find_the_same(files: Files, model: Model) -> None:
    by_torch = load(files.weights, "cpu")
    assert (
        by_torch.runtime.startswith("torch ")
        and model.runtime.startswith("ONNX Runtime ")
        and model.runtime.endswith(", CPU")
    )
    assert by_torch.classes == model.classes == files.data.classes
    for path in images(files)[:3]:
        a, b = by_torch.predict(path, score=0.2), model.predict(path, score=0.2)
        assert a.names == b.names and len(a) > 0
        np.testing.assert_allclose(a.boxes, b.boxes, atol=0.05)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)


@pytest.mark.parametrize("kind", ["weights", "onnx"])
def test_predictions_are_what_evaluation_sees(files: Files, kind: str) -> None:
    """The images read one by one and through the loader of evaluation; the metrics those of the detector itself."""
    one = load(getattr(files, kind), "cpu")
    evaluated = detect_all(one, files.data.val)
    shown = one.detect([read_image(path) for path in images(files)], EVALUATION)
    for sample, found in zip(files.data.val.samples, shown, strict=True):
        assert len(found) > 5
        np.testing.assert_array_equal(found.labels, evaluated[sample.id].labels)
        np.testing.assert_allclose(found.boxes, evaluated[sample.id].boxes, atol=1e-3)
        np.testing.assert_allclose(found.scores, evaluated[sample.id].scores, atol=1e-5)
    metrics = one.evaluate(files.spec)
    assert (
        metrics == one.evaluate(files.data) == one.evaluate(files.data.val) == evaluate(files.data.val, evaluated)
        and metrics.map > 0.3
    )
    from nas.inference.detect import batches, mean_average_precision

    detector = load_detector(files.weights)[0].deploy()
    assert mean_average_precision(detector, files.data.val, batches(files.data.val, SIZE)).map == pytest.approx(
        metrics.map, abs=2e-3
    )


def test_a_file_of_fixed_batch(files: Files, model: Model) -> None:
    pairs = load(files.pairs)
    for path, one in zip(images(files)[:3], pairs.predict(images(files)[:3], score=0.2), strict=True):
        np.testing.assert_allclose(one.boxes, model.predict(path, score=0.2).boxes, atol=1e-3)


def test_what_cannot_be_is_one_line(files: Files, model: Model, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    cases = [
        (lambda: nas.load(tmp_path / "S.pt"), r"S.pt; expected a file ending in .onnx or .safetensors"),
        (lambda: nas.load(tmp_path / "S.onnx"), "no model .*S.onnx"),
        (lambda: model.predict(tmp_path / "none.jpg"), "none.jpg: no such image"),
        (lambda: model.predict([tmp_path / "broken.png"]), "broken.png: is no image"),
        (
            lambda: model.predict(np.zeros((4, 4), np.uint8)),
            r"type uint8 and shape \[4, 4\]; expected uint8 \[H, W, 3\], RGB",
        ),
        (lambda: model.predict(np.zeros((4, 4, 3), np.float32)), "type float32"),
        (lambda: model.predict(3), "an image of type int"),
        (lambda: model.predict(images(files)[0], classes=["cat"]), "unknown class 'cat'"),
        (lambda: model.predict(images(files)[0], score=2), "score 2"),
        (lambda: model.evaluate(files.spec, limit=0), "a limit of 0"),
        (lambda: model.check_classes(("cat",)), r"classes \['cat'\]; expected those of"),
        (lambda: nas.load(files.onnx, "abacus"), "device 'abacus'"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()
    with pytest.raises(AttributeError, match="no attribute 'open'"):
        nas.open  # noqa: B018


def test_providers() -> None:
    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    assert _providers([cuda, cpu], "auto") == _providers([cuda, cpu], "cuda:0") == [(cuda, {"device_id": 0}), cpu]
    assert _providers([cuda, cpu], "cuda:1") == [(cuda, {"device_id": 1}), cpu]
    assert _providers([cuda, cpu], "cpu") == _providers([cpu], "auto") == [cpu]
    with pytest.raises(InputError, match="an ONNX Runtime with CUDA"):
        _providers([cpu], "cuda")


def test_results_are_drawn_saved_and_told(files: Files, model: Model, tmp_path: Path) -> None:
    result = model.predict(images(files)[0], score=0.2)
    drawn = result.draw()
    assert drawn.dtype == np.uint8 and drawn.shape[2] == 3 and max(drawn.shape) >= 512 and (drawn != 0).any()
    assert read_image(result.save(tmp_path / "a.png")).shape == drawn.shape
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), drawn)
    assert result.save(tmp_path / "a.jpg").read_bytes().startswith(b"\xff\xd8")
    assert json.loads(result.save(tmp_path / "a.json").read_text()) == result.to_dict()
    first = result.to_dict()["objects"][0]
    assert (
        first["name"] == result.names[0]
        and first["box"] == pytest.approx(result.boxes[0].tolist())
        and first["score"] == result.scores[0]
    )
    assert result._repr_png_().startswith(b"\x89PNG") and result.names[0] in repr(result)
    with pytest.raises(InputError, match="images as .xyz"):
        result.save(tmp_path / "a.xyz")


def test_show_without_a_display_writes_a_file(
    files: Files, model: Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model.predict(images(files)[0]).show()
    said = re.fullmatch(r"no display: drawn in (.*)\n", capsys.readouterr().out)
    assert said and Path(said[1]).is_file() and Path(said[1]).stem == images(files)[0].stem


def test_show_in_a_notebook_and_in_a_window(files: Files, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel gets the result itself, whose ``_repr_png_`` it asks; a display without a toolkit counts as none."""
    shown: list[object] = []
    notebook = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    result = model.predict(images(files)[0])
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "IPython", notebook)
        patch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=shown.append))
        result.show()
    assert shown == [result]
    monkeypatch.setenv("DISPLAY", ":99")
    monkeypatch.setenv("MPLBACKEND", "agg")
    assert not _window(np.zeros((8, 8, 3), np.uint8), "nothing")


def test_importing_nas_imports_nothing_heavy(files: Files) -> None:
    """And an exported file needs no torch."""
    code = """import sys, nas
assert not {'torch', 'cv2', 'onnxruntime'} & set(sys.modules)
nas.load(sys.argv[1]).predict(sys.argv[2]).draw()
assert 'torch' not in sys.modules and 'optuna' not in sys.modules"""
    subprocess.run([sys.executable, "-c", code, str(files.onnx), str(images(files)[0])], cwd=ROOT, check=True)


def test_the_example_of_the_documentation_runs(files: Files, tmp_path: Path) -> None:
    """docs/predict.md, with an image and an export of these names."""
    (block, *_) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "predict.md").read_text(), re.DOTALL)
    shutil.copy(files.onnx, tmp_path / "S.onnx")
    shutil.copy(images(files)[0], tmp_path / "street.jpg")
    shutil.copy(images(files)[1], tmp_path / "yard.jpg")
    environment = {"PATH": "", "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    code = block.replace('"shop/"', f'"{files.spec}"')
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "no display: drawn in" in done.stdout and (tmp_path / "drawn.png").is_file()
    assert re.search(r"^\S+ 0\.\d\d \[", done.stdout, re.MULTILINE) and re.search(
        r"^mAP \d\.\d{3}$", done.stdout, re.MULTILINE
    )


# the command line


@pytest.fixture
def shelf(files: Files, tmp_path: Path) -> Path:
    """Images in a folder and in one below it, one of them broken, and a text."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    first, second, third = images(files)[:3]
    shutil.copy(first, folder / f"a{first.suffix}")
    shutil.copy(second, folder / f"B{second.suffix}")
    shutil.copy(third, folder / "more" / f"a{third.suffix}")
    (folder / "more" / "broken.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image")
    return folder


def clip(path: Path, frames: int = 7, size: tuple[int, int] = (128, 96)) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, size)
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MPEG-4")
    rng = np.random.default_rng(0)
    for i in range(frames):
        frame = rng.integers(0, 60, (size[1], size[0], 3), np.uint8)
        cv2.circle(frame, (20 + 10 * i, 48), 15, (80, 220, 240), -1)
        writer.write(frame)
    writer.release()
    return path


def test_sources(shelf: Path) -> None:
    def names(*words: str, recursive: bool = False) -> list[str]:
        return [p.relative_to(shelf).as_posix() for p in find_inputs([str(shelf / word) for word in words], recursive)]

    suffix = next(shelf.glob("B*")).suffix
    assert names(".") == [f"B{suffix}", f"a{suffix}"]
    assert set(names(".", recursive=True)) == {f"B{suffix}", f"a{suffix}", f"more/a{suffix}", "more/broken.jpg"}
    assert names(f"a{suffix}", ".") == [f"a{suffix}", f"B{suffix}"]  # each once
    assert names("**/a.*") == sorted([f"a{suffix}", f"more/a{suffix}"]) and names("*") == [f"B{suffix}", f"a{suffix}"]
    assert names("none.jpg", "none*.jpg") == ["none.jpg", "none*.jpg"]
    (shelf / "empty").mkdir()
    assert names("empty") == ["empty"]


def test_every_kind_is_saved(
    files: Files, shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Model
) -> None:
    out = tmp_path / "out"
    argv = [
        "predict",
        str(files.onnx),
        str(shelf),
        "--recursive",
        "--save",
        "drawn,json",
        "--save",
        "coco,yolo",
        "--out",
        str(out),
        "--score",
        "0.2",
    ]
    assert main([*argv, "--batch", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("broken.jpg" in line and "is no image" in line for line in lines) and len(lines) == 4 + 3
    drawn = sorted(p.name for p in out.glob("*.png"))
    assert drawn == ["B.png", "a-2.png", "a.png"] == sorted(drawn)
    content = json.loads((out / "predictions.json").read_text())
    assert content["classes"] == list(model.classes) and len(content["results"]) == 3
    expected = {str(p): model.predict(p, score=0.2) for p in find_inputs([str(shelf)], True) if p.stem != "broken"}
    for result in content["results"]:
        want = expected[result["path"]]
        assert [o["name"] for o in result["objects"]] == want.names
        np.testing.assert_allclose([o["box"] for o in result["objects"]], want.boxes, atol=1e-3)
    # the COCO file is a data set that our own reader takes, with the same boxes; so are the YOLO labels
    coco = json.loads((out / "predictions.coco.json").read_text())
    assert len(coco["images"]) == 3 and len(coco["annotations"]) == sum(map(len, expected.values()))
    for image in coco["images"]:
        mine = [a for a in coco["annotations"] if a["image_id"] == image["id"]]
        want = expected[image["file_name"]]
        assert [a["category_id"] - 1 for a in mine] == want.labels.tolist()
        np.testing.assert_allclose(
            [a["bbox"] for a in mine],
            np.column_stack([want.boxes[:, :2], want.boxes[:, 2:] - want.boxes[:, :2]]),
            atol=1e-3,
        )
        np.testing.assert_allclose([a["score"] for a in mine], want.scores, atol=1e-5)
    assert (out / "classes.txt").read_text().split() == list(model.classes)
    yard = tmp_path / "yard"
    for split in ("train", "val"):
        (yard / "images" / split).mkdir(parents=True)
        image = next(shelf.glob("B*")) if split == "train" else next((shelf / "more").glob("a*"))
        name = (
            "B"
            if split == "train"
            else next(n for n in ("a", "a-2") if _same(out / "labels" / f"{n}.txt", expected[str(image)]))
        )
        shutil.copy(image, yard / "images" / split / f"{name}{image.suffix}")
        (yard / "labels" / split).mkdir(parents=True)
        shutil.copy(out / "labels" / f"{name}.txt", yard / "labels" / split)
    shutil.copy(out / "classes.txt", yard)
    read = open_data(yard).train.samples[0]
    want = expected[str(next(shelf.glob("B*")))]
    np.testing.assert_allclose(read.boxes, want.boxes, atol=0.01)
    np.testing.assert_array_equal(read.labels, want.labels)


def _same(labels: Path, result: Result) -> bool:
    rows = [line.split() for line in labels.read_text().splitlines()]
    if [int(row[0]) for row in rows] != result.labels.tolist():
        return False
    centres = (result.boxes[:, :2] + result.boxes[:, 2:]) / 2 / [result.image.shape[1], result.image.shape[0]]
    return bool(np.allclose([[float(v) for v in row[1:3]] for row in rows], centres, atol=1e-4))


def test_what_is_saved_gives_the_map_of_evaluate(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the suppression of evaluation, pycocotools finds in ``--save coco`` what ``nas evaluate`` says."""
    pytest.importorskip("pycocotools", reason="pycocotools, the oracle of this test, is not installed")
    from tests.nas.inference.test_coco_metrics import pycocotools_of

    assert (
        main(["evaluate", str(files.weights), "--data", files.spec, "--json", "--device", "cpu", "--resamples", "50"])
        == 0
    )
    said = json.loads(capsys.readouterr().out)
    paths = list(map(str, images(files)))
    options = [
        "--score",
        "0.01",
        "--iou",
        "0.7",
        "--multi-label",
        "--save",
        "coco",
        "--device",
        "cpu",
        "--out",
        str(tmp_path),
    ]
    assert main(["predict", str(files.weights), *paths, *options]) == 0
    coco = json.loads((tmp_path / "predictions.coco.json").read_text())
    ids = {
        image["id"]: next(s.id for s in files.data.val.samples if str(s.path) == image["file_name"])
        for image in coco["images"]
    }
    from tests.nas.inference.test_coco_metrics import found

    detections = {}
    for own, id in ids.items():
        mine = [a for a in coco["annotations"] if a["image_id"] == own]
        rows = [(x, y, x + w, y + h, a["score"], a["category_id"] - 1) for a in mine for x, y, w, h in [a["bbox"]]]
        detections[id] = found(*rows)
    stats, _ = pycocotools_of(files.data.val, detections)
    assert said["map"] > 0.3 and stats[0] == pytest.approx(said["map"], abs=2e-3)


def test_what_is_drawn_never_takes_the_place_of_its_image(files: Files, tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.png", read_image(images(files)[0]))
    video, before = clip(tmp_path / "b.mp4", 2), image.read_bytes()
    film = video.read_bytes()
    assert main(["predict", str(files.onnx), str(image), str(video), "--out", str(tmp_path)]) == 0
    assert image.read_bytes() == before and video.read_bytes() == film
    assert {p.name for p in tmp_path.iterdir()} == {"a.png", "a-2.png", "b.mp4", "b-2.mp4"}


def test_nothing_is_drawn_when_nothing_is_asked(
    files: Files, shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["predict", str(files.onnx), str(shelf), "--no-draw", "--out", str(tmp_path / "out")]
    assert main(argv) == 0 and not (tmp_path / "out").exists()
    assert main([*argv, "--classes", "3,7", "--score", "0.05"]) == 0
    named = re.findall(r"\b([37]) 0\.\d\d", capsys.readouterr().out.partition("found")[2])
    assert named and main([*argv, "--save", "json,drawn"]) == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["predictions.json"]


def test_a_video_becomes_a_video(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Model
) -> None:
    path = clip(tmp_path / "street.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    out = tmp_path / "out"
    argv = [
        "predict",
        str(files.onnx),
        str(path),
        str(tmp_path / "broken.mp4"),
        "--batch",
        "3",
        "--save",
        "drawn,json,yolo,coco",
        "--score",
        "0.02",
    ]
    assert main([*argv, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "street.mp4: 7 frames" in said and "broken.mp4: cannot be read as a video" in said
    drawn = list(Video(out / "street.mp4"))
    assert len(drawn) == 7 and drawn[0].shape == (384, 512, 3)  # enlarged, so that tags can be read
    assert Video(out / "street.mp4").fps == pytest.approx(10)
    results = json.loads((out / "predictions.json").read_text())["results"]
    assert [r["frame"] for r in results] == list(range(7)) and len(list((out / "labels").iterdir())) == 7
    frames = list(Video(path))
    for i in (0, 6):
        boxes = np.reshape([o["box"] for o in results[i]["objects"]], (-1, 4))
        np.testing.assert_allclose(boxes, model.predict(frames[i], score=0.02).boxes, atol=1e-3)
    assert len({i["file_name"] for i in json.loads((out / "predictions.coco.json").read_text())["images"]}) == 7
    assert not [p for p in out.iterdir() if p.name.startswith(".")]
    assert main(["predict", str(files.onnx), str(tmp_path / "broken.mp4"), "--out", str(out)]) == 2


def test_frames_where_there_is_no_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf:
        fourcc = staticmethod(cv2.VideoWriter.fourcc)

        def __init__(self, *_: object) -> None:
            pass

        def isOpened(self) -> bool:
            return False

    monkeypatch.setattr(cv2, "VideoWriter", Deaf)
    frame: NDArray[np.uint8] = np.full((20, 30, 3), 90, np.uint8)
    with VideoWriter(tmp_path, "clip", 5.0) as writer:
        writer.write(frame)
        writer.write(frame)
    assert writer.path == tmp_path / "clip-frames" and sorted(p.name for p in writer.path.iterdir()) == [
        "000001.jpg",
        "000002.jpg",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["clip-frames"]


def test_an_interrupted_video_can_be_played(tmp_path: Path) -> None:
    clip(tmp_path / "probe.mp4", 1)
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path, "clip", 5.0) as writer:
        for _ in range(4):
            writer.write(np.full((48, 64, 3), 90, np.uint8))
        raise KeyboardInterrupt
    assert len(list(Video(tmp_path / "clip.mp4"))) == 4


def test_what_was_found_is_kept_when_interrupted(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = Model.detect, []

    def detect(self: Model, *args: object) -> object:
        calls.append(args)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return real(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "detect", detect)
    paths = list(map(str, images(files)))
    assert main(["predict", str(files.onnx), *paths, "--batch", "2", "--save", "json", "--out", str(tmp_path)]) == 130
    assert len(json.loads((tmp_path / "predictions.json").read_text())["results"]) == 4


@pytest.mark.parametrize(
    "options, said",
    [
        (["--classes", "cat"], "unknown class 'cat'"),
        (["--save", "png"], "unknown kind to --save 'png'; expected one of drawn, json, coco, yolo"),
        (["--batch", "0"], "--batch 0; expected 1 or more"),
        (["--score", "1.5"], "score 1.5"),
        (["--max-detections", "0"], "0 detections"),
    ],
)
def test_bad_options_are_one_line_and_write_nothing(
    files: Files, options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(files.onnx), str(images(files)[0]), "--out", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1 and not (tmp_path / "out").exists()
