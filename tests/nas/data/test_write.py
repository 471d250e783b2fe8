"""``nas data write``: what comes out is what went in."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from nas.cli import main
from nas.data import write
from nas.data.source import open_data
from nas.data.write import write_coco
from search_spaces.errors import InputError
from tests._data import coco_folder, voc_folder, voc_object, voc_xml, write_image, yolo_folder


def test_voc_written_as_coco(tmp_path: Path) -> None:
    hard = voc_xml(voc_object(), voc_object("cat", (1, 1, 9, 9), "<difficult>1</difficult>"))
    source = voc_folder(
        tmp_path / "voc", {"train": {"a": hard, "b": voc_xml()}, "val": {"c": hard}, "test": {"d": hard}}
    )
    write_coco(source, tmp_path / "coco")
    assert sorted(path.name for path in (tmp_path / "coco").iterdir()) == [
        "images",
        "test.json",
        "train.json",
        "val.json",
    ]
    before, after = open_data(source), open_data(tmp_path / "coco")
    assert after.classes == before.classes and after.fingerprint == before.fingerprint
    assert after.train.samples[0].crowd.tolist() == [False, True] and len(after.train.samples[1]) == 0
    np.testing.assert_array_equal(after.val.load(0)[0], before.val.load(0)[0])


def test_images_of_one_name_stay_apart(tmp_path: Path) -> None:
    source = yolo_folder(tmp_path / "yolo")
    for i, name in enumerate(("x/0.png", "y/0.PNG"), 5):
        write_image(source / "images" / "train" / name, seed=i)
        label = (source / "labels" / "train" / name).with_suffix(".txt")
        label.parent.mkdir()
        label.write_text(f"0 0.5 0.5 0.{i} 0.5\n")
    write_coco(source, tmp_path / "coco")
    before, after = open_data(source).train, open_data(tmp_path / "coco").train
    assert len(after) == 4 and len({s.path.name.lower() for s in after.samples}) == 4
    for i, (a, b) in enumerate(zip(after.samples, before.samples, strict=True)):
        np.testing.assert_array_equal(a.boxes, b.boxes)
        np.testing.assert_array_equal(after.load(i)[0], before.load(i)[0])


def test_broken_images_are_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = coco_folder(tmp_path / "shop")
    (source / "images" / "2.jpg").write_bytes(b"")
    assert main(["data", "write", str(source), "--out", str(tmp_path / "out")]) == 0
    assert "broken image" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out" / "images" / "train").iterdir()) == ["1.jpg", "3.jpg"]


@pytest.mark.parametrize("link", [False, True])
def test_copied_or_linked(tmp_path: Path, link: bool) -> None:
    source = coco_folder(tmp_path / "shop")
    argv = ["data", "write", str(source), "--out", str(tmp_path / "out"), *(["--link"] if link else [])]
    assert main(argv) == 0
    assert (tmp_path / "out" / "images" / "val" / "100.jpg").samefile(source / "images" / "100.jpg") == link
    assert open_data(tmp_path / "out").fingerprint == open_data(source).fingerprint


def test_digits_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    assert main(["data", "write", "digits@32:train=3,val=2", "--out", str(tmp_path / "digits")]) == 0
    assert open_data(tmp_path / "digits").fingerprint == open_data("digits@32:train=3,val=2").fingerprint


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    source = coco_folder(tmp_path / "shop")
    monkeypatch.setattr(write.shutil, "copyfile", full)  # type: ignore[attr-defined]
    with pytest.raises(
        InputError,
        match=r"cannot write .*out \(No space left on device\); expected a folder with write permission and free space",
    ):
        write_coco(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop"]


@pytest.mark.parametrize("what", ["there", "images", "none"])
def test_what_is_not_written(tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = coco_folder(tmp_path / "shop")
    write_image(tmp_path / "images" / "a.jpg")
    argv = {
        "there": ["data", "write", str(source), "--out", str(tmp_path / "images")],
        "images": ["data", "write", str(tmp_path / "images"), "--out", str(tmp_path / "out")],
        "none": ["data", "write", str(source)],
    }[what]
    assert main(argv) == 2
    said = {
        "there": "a folder that does not exist yet",
        "images": "has images but no annotations",
        "none": "no --out",
    }[what]
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "shop"]
