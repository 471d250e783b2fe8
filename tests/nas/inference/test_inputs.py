"""What predict takes from Python and from the command line: folders, patterns, links, streams, images of Pillow."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nas.cli import main
from nas.data.images import read_image
from nas.inference.draw import draw, fitted
from nas.inference.inputs import find_inputs
from nas.inference.model import Model, load
from nas.inference.nms import Detections
from nas.inference.results import Result
from search_spaces.errors import InputError
from tests._detectors import Files, detector_files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return detector_files(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def model(files: Files) -> Model:
    return load(files.onnx, "cpu")


@pytest.fixture
def folder(files: Files, tmp_path: Path) -> Path:
    """Three images and a text."""
    target = tmp_path / "photos"
    target.mkdir()
    for name, sample in zip("abc", files.data.val.samples, strict=False):
        cv2.imwrite(str(target / f"{name}.png"), read_image(sample.path)[:, :, ::-1])
    (target / "notes.txt").write_text("no image")
    return target


def test_a_folder_and_a_pattern_give_a_list(model: Model, folder: Path) -> None:
    one_by_one = [model.predict(folder / f"{name}.png").to_dict() for name in "abc"]
    assert [r.to_dict() for r in model.predict(folder)] == one_by_one
    assert [r.to_dict() for r in model.predict(f"{folder}/")] == one_by_one
    assert [r.to_dict() for r in model.predict(f"{folder}/[ab].*")] == one_by_one[:2]
    assert [r.to_dict() for r in model.predict([folder / "c.png", folder])] == [one_by_one[2], *one_by_one]
    assert isinstance(model.predict(folder / "a.png"), Result) and model.predict([]) == []


def test_a_pattern_that_names_one_file_is_still_a_list(model: Model, folder: Path) -> None:
    assert len(model.predict(f"{folder}/a*.png")) == 1 and isinstance(model.predict(f"{folder}/a*.png"), list)
    os.rename(folder / "b.png", folder / "[b].png")
    assert isinstance(model.predict(folder / "[b].png"), Result)  # a name, not a pattern


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_images_of_pillow(mode: str, model: Model, folder: Path) -> None:
    with Image.open(folder / "a.png") as image:
        converted = image.convert(mode)
    result = model.predict(converted)
    assert result.path is None and np.array_equal(result.image, np.array(converted.convert("RGB")))
    if mode == "RGB":
        assert result.to_dict()["objects"] == model.predict(folder / "a.png").to_dict()["objects"]


def test_an_image_of_pillow_is_turned_as_its_file_is(model: Model, folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(folder / "a.png") as image:
        image.crop((0, 0, 90, 50)).save(folder / "turned.jpg", exif=exif)
    with Image.open(folder / "turned.jpg") as image:
        assert model.predict(image).image.shape == model.predict(folder / "turned.jpg").image.shape == (90, 50, 3)


def test_what_is_no_image_is_one_line(model: Model, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:200])
    with Image.open(folder / "cut.png") as cut, pytest.raises(InputError, match="cannot be decoded"):
        model.predict(cut)
    for source, message in (
        (tmp_path / "empty", "no image in this folder"),
        (f"{folder}/*.bmp", "no such image"),
        ("rtsp://camera/1", "rtsp://camera/1 is the address of a stream"),
        ([folder / "a.png", "http://x/a.jpg"], "http://x/a.jpg is the address of a stream"),
        (folder / "x.mp4", "x.mp4 is a video"),
        (Image.new("I;16", (4, 4)), "mode I;16"),
        (Image.new("F", (4, 4)), "mode F"),
        ({"a": 1}, "an image of type dict"),
        (None, "an image of type NoneType"),
    ):
        with pytest.raises(InputError, match=message):
            model.predict(source)


def test_streams_are_refused_before_any_work(files: Files, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["predict", str(files.onnx), "rtsp://camera/1", "--out", str(tmp_path / "out")]) == 2
    assert "rtsp://camera/1 is the address of a stream" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_linked_folders_are_searched_once_and_hidden_ones_not(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    os.rename(folder / "b.png", tmp_path / "elsewhere" / "deep" / "b.png")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    for hidden in (".ipynb_checkpoints", "@eaDir", "__MACOSX"):
        (folder / hidden).mkdir()
        (folder / hidden / "a.png").write_bytes((folder / "a.png").read_bytes())
    found = find_inputs([str(folder)], recursive=True)
    assert sorted(path.name for path in found) == ["a.png", "b.png", "c.png"]


def test_one_name_that_is_not_utf8_loses_nothing(
    files: Files, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = folder / os.fsdecode(b"z\xe9.png")
    os.rename(folder / "b.png", odd)
    out = folder.parent / "out"
    kinds = "drawn,json,coco,yolo"
    assert main(["predict", str(files.onnx), str(folder), "--save", kinds, "--score", "0.05", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    said.encode()
    assert "z\\xe9.png" in said and (out / odd.name).exists() and (out / "labels" / f"{odd.stem}.txt").exists()
    results = json.loads((out / "predictions.json").read_text("utf-8"))["results"]
    assert len(results) == 3 and str(odd) in [r["path"] for r in results]
    assert len(json.loads((out / "predictions.coco.json").read_text("utf-8"))["images"]) == 3


# narrow images


@pytest.mark.parametrize("shape", [(4, 6000), (6000, 4), (1, 20000), (20000, 1), (5, 20000), (1, 1), (700, 3)])
def test_narrow_images_are_drawn_shown_and_saved(shape: tuple[int, int], model: Model, tmp_path: Path) -> None:
    image: NDArray[np.uint8] = np.full((*shape, 3), 90, np.uint8)
    found = Detections(np.array([[0, 0, shape[1], shape[0]]], np.float32), np.array([0.9], np.float32), np.array([1]))
    for size in (1, 16, 480, 1600):
        for enlarge in (True, False):
            small, scale = fitted(image, size, enlarge)
            assert min(small.shape[:2]) >= 1 and scale > 0
            draw(small, found.boxes * scale, found.scores, found.labels, model.classes, min_side=1)
    result = Result(image, found, model.classes)
    assert result._repr_png_()[:4] == b"\x89PNG" and result.save(tmp_path / "x.png").exists()
    model.predict(image)
