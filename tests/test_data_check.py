"""``nas data check`` and ``nas data write``: what is counted, what is found, and what is written."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from nas.cli import main
from nas.data import write
from nas.data.check import Report, check
from nas.data.pictures import read_picture
from nas.data.source import open_data
from nas.data.write import write_coco
from search_spaces.errors import InputError
from tests._data import Coco, coco, coco_folder, picture, voc_folder, voc_object, voc_xml, yolo_folder


def lines_of(folder: Path) -> list[str]:
    return list(check(folder).lines())


def edit(folder: Path, split: str, change: Callable[[Coco], object]) -> None:
    path = folder / f"{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# --- numbers -------------------------------------------------------------------------------------------------------------------------------


def test_sound_data(tmp_path: Path) -> None:
    lines = lines_of(coco_folder(tmp_path / "shop"))
    assert lines[0] == "shop: COCO, 2 classes"
    assert "train: 3 pictures, 3 boxes" in lines
    assert lines[-1] == "usable: train 3, val 2 pictures, 5 boxes; no problem found"


def test_numbers_of_a_split(tmp_path: Path) -> None:
    content = coco(3)
    boxes = [(7, [0, 0, 10, 10]), (7, [0, 0, 40, 30]), (7, [0, 0, 20, 10]), (3, [0, 0, 10, 20])]
    content["annotations"] = [
        {"id": i + 1, "image_id": 1, "category_id": k, "bbox": b, "area": b[2] * b[3], "iscrowd": 0} for i, (k, b) in enumerate(boxes)
    ]
    content["annotations"][1]["area"] = 100 * 100  # of an outline; the box stays
    content["annotations"] += [{**content["annotations"][0], "id": 9, "image_id": 6, "iscrowd": 1}]
    content["categories"] += [{"id": 9, "name": "cow"}]
    val = coco(2, 100)
    val["categories"] = content["categories"]
    report = check(coco_folder(tmp_path, content, val))
    train = report.statistics[0]
    assert (train.pictures, train.empty, train.boxes, train.ignored) == (3, 2, 4, 1)
    assert [(c.name, c.boxes, c.pictures) for c in train.classes] == [("cat", 1, 1), ("dog", 3, 1), ("cow", 0, 0)]
    assert (train.imbalance, train.unused) == (3, ["cow"])
    assert (train.small, train.medium, train.large) == (3, 0, 1)
    assert train.aspect is not None and train.side_share is not None
    np.testing.assert_allclose(train.aspect, np.quantile([1, 4 / 3, 2, 0.5], [0.05, 0.5, 0.95]))
    shares = np.sqrt(np.array([100, 1200, 200, 200]) / 1200)
    np.testing.assert_allclose(train.side_share, np.quantile(shares, [0.05, 0.5, 0.95]))
    np.testing.assert_allclose(train.per_picture, np.quantile([4, 0, 0], [0.05, 0.5, 0.95]))
    assert (train.sizes, train.size_kinds) == (((40, 30, 3),), 1)
    text = list(report.lines())
    assert "train: 3 pictures, 4 boxes; 2 pictures show nothing; 1 boxes are ignored (crowd, difficult)" in text
    assert "  never used: cow" in text and "  balance: the most frequent class has 3 times the boxes of the rarest" in text


# --- problems ------------------------------------------------------------------------------------------------------------------------------


def repeated(folder: Path) -> None:
    shutil.copy(folder / "images" / "1.jpg", folder / "images" / "2.jpg")


def leaked(folder: Path) -> None:
    """Under another name, in another file format."""
    rgb = read_picture(folder / "images" / "1.jpg")
    cv2.imwrite(str(folder / "images" / "100.png"), rgb[:, :, ::-1])
    (folder / "images" / "100.jpg").unlink()
    edit(folder, "val", lambda c: c["images"][0].update(file_name="100.png"))


def cut_off(folder: Path) -> None:
    data = (folder / "images" / "2.jpg").read_bytes()
    (folder / "images" / "2.jpg").write_bytes(data[: len(data) // 2])


def boxed_twice(folder: Path) -> None:
    edit(folder, "train", lambda c: c["annotations"].append({**c["annotations"][0], "id": 99}))


def the_same_file(folder: Path) -> None:
    edit(folder, "val", lambda c: c["images"][0].update(file_name="1.jpg"))
    (folder / "images" / "100.jpg").unlink()


FLAWS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object], str, str, str]] = {
    # case: (data set, what happens to it, where it is told, problem, a part of the message)
    "repeated picture": (coco_folder, repeated, "train", "picture that repeats another", "2.jpg: the same pixels as"),
    "leaked picture": (coco_folder, leaked, "val", "picture also in train", "100.png: the same pixels as"),
    "leaked file": (coco_folder, the_same_file, "val", "picture in both splits", "1.jpg: also in train"),
    "cut-off picture": (coco_folder, cut_off, "train", "broken picture", "2.jpg: is cut off or damaged, left out"),
    "box given twice": (coco_folder, boxed_twice, "train", "box that stands there twice", "1.jpg: 1 with the same corners and class"),
    "coco picture in no json": (coco_folder, lambda f: picture(f / "images" / "new.jpg"), "files", "picture without annotations", "new.jpg"),
    "yolo picture without labels": (
        yolo_folder,
        lambda f: (f / "labels" / "val" / "1.txt").unlink(),
        "files",
        "picture without a label file",
        "1.png: taken to show nothing",
    ),
    "yolo labels without a picture": (
        yolo_folder,
        lambda f: (f / "images" / "val" / "1.png").unlink(),
        "files",
        "label file without a picture",
        "1.txt: not used",
    ),
    "voc picture without annotations": (voc_folder, lambda f: picture(f / "JPEGImages" / "z.jpg"), "files", "picture without annotations", "z.jpg"),
    "voc annotations without a picture": (
        voc_folder,
        lambda f: (f / "Annotations" / "z.xml").write_text(voc_xml()),
        "files",
        "annotations without a picture",
        "z.xml: not used",
    ),
    "voc picture in no list": (
        voc_folder,
        lambda f: (f / "ImageSets" / "Main" / "val.txt").write_text("c\n"),
        "files",
        "picture in no split",
        "d.jpg: in no list",
    ),
}


@pytest.mark.parametrize("case", FLAWS)
def test_a_flaw_is_found(tmp_path: Path, case: str) -> None:
    make, spoil, place, kind, message = FLAWS[case]
    make(tmp_path)
    for number, path in enumerate(sorted(tmp_path.rglob("*.png"))):  # the builder of YOLO gives both splits the same pixels
        picture(path, seed=number)
    assert lines_of(tmp_path)[-1].endswith("no problem found")
    spoil(tmp_path)
    report = check(tmp_path)
    assert {where: found.counts for where, found in report.problems.items() if len(found)} == {place: {kind: 1}}
    assert not report.unusable
    lines = list(report.lines())
    assert f"{place}: 1 x {kind}" in lines and message in lines[lines.index(f"{place}: 1 x {kind}") + 1]
    assert lines[-1].endswith("; 1 kind of problems")


def test_length_is_bounded(tmp_path: Path) -> None:
    content = coco(100)
    content["categories"] = [{"id": i, "name": f"class {i}"} for i in range(400)]
    for entry in content["annotations"]:
        entry["category_id"] = entry["id"]
    val = coco(2, 200)
    val["categories"] = content["categories"]
    folder = coco_folder(tmp_path, content, val)
    for i in range(2, 10):
        (folder / "images" / f"{i}.jpg").unlink()
    lines = lines_of(folder)
    assert len(lines) < 30 and max(map(len, lines)) < 1000
    at = lines.index("train: 8 x missing picture")
    assert [line.strip().rpartition("/")[2] for line in lines[at + 1 : at + 4]] == [f"{i}.jpg: no such picture, skipped" for i in (2, 3, 4)]
    assert lines[at + 4] == "    and 5 more"
    assert any(line.startswith("  never used: class 1") and line.endswith("and 278 more") for line in lines)


def test_too_many_broken_pictures_are_not_usable(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path, coco(20))
    whole = (folder / "images" / "1.jpg").read_bytes()
    for i in range(1, 5):
        (folder / "images" / f"{i}.jpg").write_bytes(whole[: len(whole) // 2])
    assert check(folder).unusable == "4 of 20 pictures of train are broken, at most 10% may be"


def test_a_test_split_that_cannot_be_read_does_not_stand_in_the_way(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path)
    (folder / "test.json").write_text("{")
    report = check(folder)
    assert not report.unusable and report.problems["test"].counts == {"split that cannot be read": 1}


@pytest.mark.parametrize(
    "spoil, reason",
    [
        (lambda f: (f / "val.json").unlink(), "no val split"),
        (lambda f: (f / "val.json").write_text("{"), "val: .*val.json is not JSON"),
        (lambda f: edit(f, "train", lambda c: c["annotations"].clear()), "train split of .* has no usable box"),
        (lambda f: edit(f, "train", lambda c: c["categories"].append({"id": 9, "name": "cow"})), r"train alone has \['cow'\]"),
    ],
)
def test_unusable_data_is_still_described(tmp_path: Path, spoil: Callable[[Path], object], reason: str) -> None:
    folder = coco_folder(tmp_path)
    spoil(folder)
    lines = lines_of(folder)
    assert any(line.startswith("train: 3 pictures") for line in lines)
    with pytest.raises(InputError, match=reason):
        raise InputError(lines[-1].removeprefix("not usable: "))


def test_every_picture_is_counted_off(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    check(coco_folder(tmp_path), lambda done, total: seen.append((done, total)))
    assert seen == [(i, 5) for i in range(1, 6)]


def test_command_line_of_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = coco_folder(tmp_path)
    assert main(["data", "check", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("usable: train 3, val 2 pictures")
    repeated(folder)
    assert main(["data", "check", str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)  # and nothing else
    assert said["usable"] and [s["pictures"] for s in said["splits"]] == [3, 2]
    assert said["problems"]["train"][0]["kind"] == "picture that repeats another" and said["problems"]["train"][0]["count"] == 1
    (folder / "val.json").unlink()
    assert main(["data", "check", str(folder), "--json"]) == 2
    assert not json.loads(capsys.readouterr().out)["usable"]


def test_report_of_pictures_alone(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    report = check(tmp_path)
    assert isinstance(report, Report) and report.format == "pictures without annotations" and "good for prediction only" in report.unusable


# --- writing -------------------------------------------------------------------------------------------------------------------------------


def test_voc_written_as_coco(tmp_path: Path) -> None:
    hard = voc_xml(voc_object(), voc_object("cat", (1, 1, 9, 9), "<difficult>1</difficult>"))
    source = voc_folder(tmp_path / "voc", {"train": {"a": hard, "b": voc_xml()}, "val": {"c": hard}, "test": {"d": hard}})
    write_coco(source, tmp_path / "coco")
    assert sorted(path.name for path in (tmp_path / "coco").iterdir()) == ["images", "test.json", "train.json", "val.json"]
    before, after = open_data(source), open_data(tmp_path / "coco")
    assert after.classes == before.classes and after.fingerprint == before.fingerprint
    assert after.train.samples[0].crowd.tolist() == [False, True] and len(after.train.samples[1]) == 0
    np.testing.assert_array_equal(after.val.load(0)[0], before.val.load(0)[0])


def test_pictures_of_one_name_stay_apart(tmp_path: Path) -> None:
    source = yolo_folder(tmp_path / "yolo")
    for i, name in enumerate(("x/0.png", "y/0.PNG"), 5):
        picture(source / "images" / "train" / name, seed=i)
        label = (source / "labels" / "train" / name).with_suffix(".txt")
        label.parent.mkdir()
        label.write_text(f"0 0.5 0.5 0.{i} 0.5\n")
    write_coco(source, tmp_path / "coco")
    before, after = open_data(source).train, open_data(tmp_path / "coco").train
    assert len(after) == 4 and len({s.path.name.lower() for s in after.samples}) == 4
    for i, (a, b) in enumerate(zip(after.samples, before.samples, strict=True)):
        np.testing.assert_array_equal(a.boxes, b.boxes)
        np.testing.assert_array_equal(after.load(i)[0], before.load(i)[0])


def test_broken_pictures_are_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = coco_folder(tmp_path / "shop")
    (source / "images" / "2.jpg").write_bytes(b"")
    assert main(["data", "write", str(source), "--out", str(tmp_path / "out")]) == 0
    assert "broken picture" in capsys.readouterr().out
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
    with pytest.raises(InputError, match=r"cannot write .*out \(No space left on device\); expected a folder with write permission and free space"):
        write_coco(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop"]


@pytest.mark.parametrize("what", ["there", "pictures", "none"])
def test_what_is_not_written(tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = coco_folder(tmp_path / "shop")
    picture(tmp_path / "pictures" / "a.jpg")
    argv = {
        "there": ["data", "write", str(source), "--out", str(tmp_path / "pictures")],
        "pictures": ["data", "write", str(tmp_path / "pictures"), "--out", str(tmp_path / "out")],
        "none": ["data", "write", str(source)],
    }[what]
    assert main(argv) == 2
    said = {"there": "a folder that does not exist yet", "pictures": "has pictures but no annotations", "none": "no --out"}[what]
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "shop"]
