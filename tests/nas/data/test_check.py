"""``nas data check``: what is counted and what is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from nas.cli import main
from nas.data.check import Report, check
from nas.data.images import read_image
from search_spaces.errors import InputError
from tests._data import Coco, coco, coco_folder, voc_folder, voc_xml, write_image, yolo_folder


def lines_of(folder: Path) -> list[str]:
    return list(check(folder).lines())


def edit(folder: Path, split: str, change: Callable[[Coco], object]) -> None:
    path = folder / f"{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# --- numbers
#
#
#
#
#
# -------------------------------------------------------------------------------------------------------------------------------


def test_sound_data(tmp_path: Path) -> None:
    lines = lines_of(coco_folder(tmp_path / "shop"))
    assert lines[0] == "shop: COCO, 2 classes"
    assert "train: 3 images, 3 boxes" in lines
    assert lines[-1] == "usable: train 3, val 2 images, 5 boxes; no problem found"


def test_numbers_of_a_split(tmp_path: Path) -> None:
    content = coco(3)
    boxes = [(7, [0, 0, 10, 10]), (7, [0, 0, 40, 30]), (7, [0, 0, 20, 10]), (3, [0, 0, 10, 20])]
    content["annotations"] = [
        {"id": i + 1, "image_id": 1, "category_id": k, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
        for i, (k, b) in enumerate(boxes)
    ]
    content["annotations"][1]["area"] = 100 * 100  # of an outline; the box stays
    content["annotations"] += [{**content["annotations"][0], "id": 9, "image_id": 6, "iscrowd": 1}]
    content["categories"] += [{"id": 9, "name": "cow"}]
    val = coco(2, 100)
    val["categories"] = content["categories"]
    report = check(coco_folder(tmp_path, content, val))
    train = report.statistics[0]
    assert (train.images, train.empty, train.boxes, train.ignored) == (3, 2, 4, 1)
    assert [(c.name, c.boxes, c.images) for c in train.classes] == [("cat", 1, 1), ("dog", 3, 1), ("cow", 0, 0)]
    assert (train.imbalance, train.unused) == (3, ["cow"])
    assert (train.small, train.medium, train.large) == (3, 0, 1)
    assert train.aspect is not None and train.side_share is not None
    np.testing.assert_allclose(train.aspect, np.quantile([1, 4 / 3, 2, 0.5], [0.05, 0.5, 0.95]))
    shares = np.sqrt(np.array([100, 1200, 200, 200]) / 1200)
    np.testing.assert_allclose(train.side_share, np.quantile(shares, [0.05, 0.5, 0.95]))
    np.testing.assert_allclose(train.per_image, np.quantile([4, 0, 0], [0.05, 0.5, 0.95]))
    assert (train.sizes, train.size_kinds) == (((40, 30, 3),), 1)
    text = list(report.lines())
    assert "train: 3 images (2 show nothing), 4 boxes (1 more ignored: crowd or difficult)" in text
    assert (
        "  never used: cow" in text and "  balance: the most frequent class has 3 times the boxes of the rarest" in text
    )


# --- problems
#
#
#
#
#
# ------------------------------------------------------------------------------------------------------------------------------


def repeated(folder: Path) -> None:
    shutil.copy(folder / "images" / "1.jpg", folder / "images" / "2.jpg")


def leaked(folder: Path) -> None:
    """Under another name, in another file format."""
    rgb = read_image(folder / "images" / "1.jpg")
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


def other_case(folder: Path) -> None:
    for split in ("train", "val"):
        edit(folder, split, lambda c: c["categories"].append({"id": 9, "name": "Dog"}))


FLAWS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object], str, str, str]] = {
    # case: (data set, what happens to it, where it is told, problem, a part of the message)
    "repeated image": (coco_folder, repeated, "train", "image that repeats another", "2.jpg: the same pixels as"),
    "leaked image": (coco_folder, leaked, "val", "image also in train", "100.png: the same pixels as"),
    "leaked file": (coco_folder, the_same_file, "val", "image in both splits", "1.jpg: also in train"),
    "cut-off image": (coco_folder, cut_off, "train", "broken image", "2.jpg: is cut off or damaged, left out"),
    "box given twice": (
        coco_folder,
        boxed_twice,
        "train",
        "box that stands there twice",
        "1.jpg: 1 with the same corners and class",
    ),
    "class written in two ways": (
        coco_folder,
        other_case,
        "classes",
        "class names that are alike",
        "'Dog': differs from 'dog'",
    ),
    "coco image in no json": (
        coco_folder,
        lambda f: write_image(f / "images" / "new.jpg"),
        "files",
        "image without annotations",
        "new.jpg",
    ),
    "yolo image without labels": (
        yolo_folder,
        lambda f: (f / "labels" / "val" / "1.txt").unlink(),
        "files",
        "image without a label file",
        "1.png: taken to show nothing",
    ),
    "yolo labels without an image": (
        yolo_folder,
        lambda f: (f / "images" / "val" / "1.png").unlink(),
        "files",
        "label file without an image",
        "1.txt: not used",
    ),
    "voc image without annotations": (
        voc_folder,
        lambda f: write_image(f / "JPEGImages" / "z.jpg"),
        "files",
        "image without annotations",
        "z.jpg",
    ),
    "voc annotations without an image": (
        voc_folder,
        lambda f: (f / "Annotations" / "z.xml").write_text(voc_xml()),
        "files",
        "annotations without an image",
        "z.xml: not used",
    ),
    "voc image in no list": (
        voc_folder,
        lambda f: (f / "ImageSets" / "Main" / "val.txt").write_text("c\n"),
        "files",
        "image in no split",
        "d.jpg: in no list",
    ),
}


@pytest.mark.parametrize("case", FLAWS)
def test_a_flaw_is_found(tmp_path: Path, case: str) -> None:
    make, spoil, place, kind, message = FLAWS[case]
    make(tmp_path)
    for number, path in enumerate(
        sorted(tmp_path.rglob("*.png"))
    ):  # the builder of YOLO gives both splits the same pixels
        write_image(path, seed=number)
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
    at = lines.index("train: 8 x missing image")
    assert [line.strip().rpartition("/")[2] for line in lines[at + 1 : at + 4]] == [
        f"{i}.jpg: no such image, skipped" for i in (2, 3, 4)
    ]
    assert lines[at + 4] == "    and 5 more"
    assert any(line.startswith("  never used: class 1") and line.endswith("and 278 more") for line in lines)


def test_too_many_broken_images_are_not_usable(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path, coco(20))
    whole = (folder / "images" / "1.jpg").read_bytes()
    for i in range(1, 5):
        (folder / "images" / f"{i}.jpg").write_bytes(whole[: len(whole) // 2])
    assert check(folder).unusable == "4 of 20 images of train are broken, at most 10% may be"


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
        (
            lambda f: edit(f, "train", lambda c: c["categories"].append({"id": 9, "name": "cow"})),
            r"train alone has \['cow'\]",
        ),
    ],
)
def test_unusable_data_is_still_described(tmp_path: Path, spoil: Callable[[Path], object], reason: str) -> None:
    folder = coco_folder(tmp_path)
    spoil(folder)
    lines = lines_of(folder)
    assert any(line.startswith("train: 3 images") for line in lines)
    with pytest.raises(InputError, match=reason):
        raise InputError(lines[-1].removeprefix("not usable: "))


def test_every_image_is_counted_off(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    check(coco_folder(tmp_path), lambda done, total: seen.append((done, total)))
    assert seen == [(i, 5) for i in range(1, 6)]


def test_command_line_of_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = coco_folder(tmp_path)
    assert main(["data", "check", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("usable: train 3, val 2 images")
    repeated(folder)
    assert main(["data", "check", str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)  # and nothing else
    assert said["usable"] and [s["images"] for s in said["splits"]] == [3, 2]
    assert (
        said["problems"]["train"][0]["kind"] == "image that repeats another"
        and said["problems"]["train"][0]["count"] == 1
    )
    (folder / "val.json").unlink()
    assert main(["data", "check", str(folder), "--json"]) == 2
    assert not json.loads(capsys.readouterr().out)["usable"]


def test_report_of_images_alone(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    report = check(tmp_path)
    assert (
        isinstance(report, Report)
        and report.format == "images without annotations"
        and "good for prediction only" in report.unusable
    )
