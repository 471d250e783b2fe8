"""Data sets that came from Windows, macOS, network disks and cameras: read as meant, or the difference is reported."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from nas.data.check import check
from nas.data.images import read_image
from nas.data.source import open_data, open_split
from search_spaces.errors import InputError
from tests._data import coco, coco_folder, voc_folder, voc_object, voc_xml, write_image, yolo_folder

HEAD = "train: images/train\nval: images/val\n"


def _renamed(root: Path, pattern: str, new: Callable[[Path], Path]) -> Path:
    for path in sorted(root.rglob(pattern)):
        path.rename(new(path))
    return root


def _upper(path: Path) -> Path:
    return path.with_suffix(path.suffix.upper())


@pytest.mark.parametrize(
    "make, pattern", [(yolo_folder, "*.txt"), (yolo_folder, "*.yaml"), (yolo_folder, "*.png"), (voc_folder, "*.xml")]
)
def test_suffixes_in_upper_case(tmp_path: Path, make: Callable[[Path], Path], pattern: str) -> None:
    expected = open_data(make(tmp_path / "a"))
    found = open_data(_renamed(make(tmp_path / "b"), pattern, _upper))
    assert (len(found.train), found.train.boxes, found.val.boxes) == (2, expected.train.boxes, expected.val.boxes)
    assert not found.train.remarks() and not len(check(tmp_path / "b").problems["files"])


def test_names_in_other_case(tmp_path: Path) -> None:
    root = _renamed(coco_folder(tmp_path / "coco"), "*.json", lambda p: p.with_name(p.name.upper()))
    assert open_data(root).train.boxes == 3
    root = yolo_folder(tmp_path / "yolo")
    (root / "data.yaml").unlink()
    for folder in ("images", "labels"):
        (root / folder).rename(root / folder.capitalize())
    assert open_data(root).train.boxes == 2


@pytest.mark.parametrize("tool", ["person_keypoints_train2017.json", "person_keypoints_Train.json"])
def test_coco_of_people_with_key_points(tmp_path: Path, tool: str) -> None:
    root = coco_folder(tmp_path)
    (root / "annotations").mkdir()
    for split in ("train", "val"):
        name = tool.replace("train", split).replace("Train", split.capitalize())
        (root / f"{split}.json").rename(root / "annotations" / name)
    assert open_data(root).train.boxes == 3


@pytest.mark.parametrize("listed", [".\\images\\train\\{}", "images\\train\\{}", "./images/train/{}"])
def test_lists_with_the_separators_of_windows(tmp_path: Path, listed: str) -> None:
    root = yolo_folder(tmp_path)
    accented = "caf\u00e9.png"
    write_image(root / "images" / "train" / unicodedata.normalize("NFD", accented))
    names = [listed.format(name) for name in ("0.png", "1.png", accented)]
    (root / "Train.TXT").write_text("\ufeff" + "\r\n".join(names))
    (root / "data.yaml").write_text("train: Train.TXT\nval: images\\val\nnames: [cat, dog]\n")
    data = open_data(root).train
    assert (len(data), data.boxes) == (3, 2) and not data.problems


def test_doubles_of_macos_are_no_part_of_the_set(tmp_path: Path) -> None:
    yolo, voc = yolo_folder(tmp_path / "yolo"), voc_folder(tmp_path / "voc")
    shutil.copytree(voc / "Annotations", voc / "train")
    for path in [*yolo.rglob("*.*"), *voc.rglob("*.*")]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    for root in (yolo, voc):
        assert open_data(root).train.boxes and not len(check(root).problems["files"])


@pytest.mark.parametrize("folder", ["#snapshot", "@Recycle", "@Recently-Snapshot", "RECYCLER", "found.000"])
def test_folders_of_network_disks_are_passed_over(tmp_path: Path, folder: str) -> None:
    root = yolo_folder(tmp_path)
    write_image(root / "images" / "train" / "deeper" / folder / "copy.png")
    data = open_data(root).train
    assert len(data) == 2 and folder in data.remarks()[0]


@pytest.mark.parametrize("name", ["a.gif", "b.HEIC", "c.jfif"])
def test_images_of_kinds_that_are_not_read_are_reported(tmp_path: Path, name: str) -> None:
    root = yolo_folder(tmp_path)
    (root / "images" / "train" / name).write_bytes(b"GIF89a")
    expected = f"images of kinds that are not read (1): {root / 'images' / 'train' / name}"
    assert open_data(root).train.remarks() == [expected]
    assert expected in open_split(root / "images" / "train", "images").remarks()


def test_a_missing_image_is_not_taken_to_show_nothing(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path)
    (root / "images" / "train" / "gone.png").symlink_to("nowhere.png")
    report = check(root)
    assert report.problems["train"].counts == {"missing image": 1} and not report.problems["train"].notes
    assert not len(report.problems["files"])


# --- one name, two meanings


def test_an_image_that_shares_its_annotations_is_reported(tmp_path: Path) -> None:
    yolo, voc = yolo_folder(tmp_path / "yolo"), voc_folder(tmp_path / "voc")
    write_image(yolo / "images" / "train" / "0.jpg")
    write_image(voc / "JPEGImages" / "0" / "a.jpg", width=20)
    write_image(voc / "JPEGImages" / "a.png", width=20)
    assert check(yolo).problems["files"].counts == {"label file of several images": 1}
    assert check(voc).problems["files"].counts == {"image of the name of another": 2}
    assert len(open_data(voc).train) == 2


@pytest.mark.parametrize(
    "text", ["names: {0: a, 1: b, 0: c}", "names: [a, b]\nnames: [b, a]", "val: images/train\nnames: [a, b]"]
)
def test_a_key_twice_in_a_yaml_is_refused(tmp_path: Path, text: str) -> None:
    root = yolo_folder(tmp_path)
    (root / "data.yaml").write_text(f"{HEAD}{text}\n")
    with pytest.raises(InputError, match="stands there twice"):
        open_data(root)


@pytest.mark.parametrize("text", ["Train: images/train\nVal: images/val\nNames: [a, b]", "NAMES: [a, b]"])
def test_a_yaml_with_keys_in_other_case_is_not_passed_over(tmp_path: Path, text: str) -> None:
    root = yolo_folder(tmp_path)
    (root / "data.yaml").write_text(f"{text}\n")
    with pytest.raises(InputError, match="has no train and no val and no names"):
        open_data(root)


@pytest.mark.parametrize("names", ["[a, '']", "{0: a, 1: }", "[a, ' ']"])
def test_a_class_without_a_name_is_refused(tmp_path: Path, names: str) -> None:
    root = yolo_folder(tmp_path)
    (root / "data.yaml").write_text(f"{HEAD}names: {names}\n")
    with pytest.raises(InputError, match="has a class without a name"):
        open_data(root)


# --- what numbers mean


@pytest.mark.parametrize("id", ["{}", "{}.0"])
def test_a_tracker_is_recognised_by_all_files_of_a_split(tmp_path: Path, id: str) -> None:
    root = yolo_folder(tmp_path, train="0 0.5 0.5 0.2 0.2 0.9 1\n")
    (root / "labels" / "train" / "1.txt").write_text(f"0 0.5 0.5 0.2 0.2 0.9 {id.format(7)}\n1 0.5 0.5 0.2 0.2\n")
    data = open_data(root).train
    assert data.boxes == 1 and data.problems.counts == {"malformed label line": 2} and not data.remarks()


def test_triangles_in_pixels_do_not_spoil_the_others(tmp_path: Path) -> None:
    data = open_data(yolo_folder(tmp_path, train="0 10 10 30 10 20 25\n0 0.1 0.1 0.9 0.1 0.5 1\n")).train
    assert data.boxes == 2 and data.problems.counts == {"malformed label line": 2}


@pytest.mark.parametrize(
    "value, difficult",
    [
        *[(value, True) for value in ("1", " 1 ", "true", "Yes", "1.0")],
        *[(value, False) for value in ("0", "0.0", "false", "")],
        *[(value, None) for value in ("Unspecified", "maybe")],
    ],
)
def test_voc_difficult_is_read_as_iscrowd(tmp_path: Path, value: str, difficult: bool | None) -> None:
    odd = voc_object(extra=f"<difficult>{value}</difficult>")
    files = {"train": {"a": voc_xml(odd, voc_object("cat"))}, "val": {"b": voc_xml(voc_object(), voc_object("cat"))}}
    data = open_data(voc_folder(tmp_path, files)).train
    assert data.boxes == (1 if difficult is None else 2) and data.ignored == bool(difficult)
    assert data.problems.counts == ({"malformed object": 1} if difficult is None else {})


@pytest.mark.parametrize("flag, crowd", [("1.0", True), ("0.0", False), ("-0", False)])
def test_coco_flags_with_a_point(tmp_path: Path, flag: str, crowd: bool) -> None:
    train = coco()
    train["annotations"][0]["iscrowd"] = flag
    data = open_data(coco_folder(tmp_path, train)).train
    assert data.ignored == crowd and not data.problems


@pytest.mark.parametrize("box", [[10, 10, 1e-9, 5], [10, 10, 5, 1e-9], [1e-30, 0, 1e-46, 5]])
def test_a_side_that_float32_does_not_hold_is_no_area(tmp_path: Path, box: list[float]) -> None:
    train = coco()
    train["annotations"][0]["bbox"] = box
    root = coco_folder(tmp_path, train)
    data = open_data(root).train
    assert data.boxes == 2 and data.problems.counts == {"box without area": 1}
    assert "nan" not in json.dumps(check(root).to_dict()).lower()


@pytest.mark.parametrize(("bits", "depth"), [(8, 8), (10, 12), (12, 12), (16, 16)])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_the_depth_of_a_camera_in_a_file_of_16_bits(tmp_path: Path, bits: int, depth: int, suffix: str) -> None:
    """10 bits may be a dark image of 12, and stay as dark as that one."""
    pixels = np.random.default_rng(0).integers(0, 1 << bits, (20, 30), np.uint16)
    assert cv2.imwrite(str(tmp_path / f"a{suffix}"), pixels)
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), (pixels >> (depth - 8))[:, :, None].repeat(3, 2))


def test_voc_lists_with_suffixes_name_the_file_that_is_missing(tmp_path: Path) -> None:
    root = voc_folder(tmp_path)
    for split in ("train", "val"):
        path = root / "ImageSets" / "Main" / f"{split}.txt"
        path.write_text("".join(f"{line}.jpg\n" for line in path.read_text().split()))
    with pytest.raises(InputError, match=r"Annotations/a\.jpg\.xml: no such file"):
        open_data(root)


OTHER_SPELLINGS = {
    "dot": "./images/train/0.png",
    "slashes": "images//train/0.png",
    "up": "images/../images/train/0.png",
    "absolute": "{root}/images/train/0.png",
    "up and absolute": "{root}/labels/../images/train/0.png",
}


def _listed(root: Path, *names: str) -> Path:
    yolo_folder(root)
    (root / "list.txt").write_text("".join(f"{name.format(root=root)}\n" for name in names))
    (root / "data.yaml").write_text("train: list.txt\nval: images/val\nnames: [a, b]\n")
    return root


@pytest.mark.parametrize("spelling", OTHER_SPELLINGS)
def test_one_image_listed_in_two_spellings_stands_there_twice(spelling: str, tmp_path: Path) -> None:
    root = _listed(tmp_path / "set", "images/train/0.png", "images/train/1.png", OTHER_SPELLINGS[spelling])
    with pytest.raises(InputError, match="images/train/0.png stands twice in the train split"):
        open_split(root, "train")


@pytest.mark.parametrize("spelling", OTHER_SPELLINGS)
def test_label_files_are_used_in_every_spelling_of_their_images(spelling: str, tmp_path: Path) -> None:
    root = _listed(tmp_path / "set", OTHER_SPELLINGS[spelling], "images/train/1.png")
    found = check(root)
    assert open_split(root, "train").boxes == 2 and not found.problems["files"].counts


@pytest.mark.parametrize("link", ["images/train/link.png", "shown"])
def test_an_image_behind_a_link_has_the_labels_of_its_target(link: str, tmp_path: Path) -> None:
    file = link.endswith(".png")
    root = _listed(tmp_path / "set", link if file else "shown/0.png", "images/train/1.png")
    (root / link).symlink_to(root / "images" / "train" / ("0.png" if file else ""))
    found = check(root)
    assert open_split(root, "train").boxes == 2 and not found.problems["files"].counts
    assert not open_split(root, "train").problems.notes


def test_a_link_to_the_data_set_leads_nowhere_else(tmp_path: Path) -> None:
    root = _listed(tmp_path / "set", "{root}/images/train/0.png", "{root}/images/train/1.png")
    (tmp_path / "link").symlink_to(root)
    (root / "data.yaml").write_text(f"path: {tmp_path / 'link'}\ntrain: list.txt\nval: images/val\nnames: [a, b]\n")
    found = check(root)
    assert not found.problems["files"].counts and not open_split(root, "train").problems.counts


def test_labels_of_an_image_that_no_list_names_are_told_apart(tmp_path: Path) -> None:
    root = _listed(tmp_path / "set", "images/train/0.png")
    (root / "labels" / "train" / "gone.txt").write_text("0 .5 .5 .2 .2\n")
    counts = check(root).problems["files"].counts
    assert counts == {"label file of an image in no list": 1, "label file without an image": 1}
