"""Reading data sets from files: what comes out of good ones, and the one clear line that bad ones give."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from nas.data.coco_reader import read_coco
from nas.data.dataset import DetectionDataset, choose
from nas.data.images import BrokenImage, image_sizes, read_image
from nas.data.source import DataPair, open_data
from nas.data.yolo_labels import label_path
from search_spaces.errors import InputError
from tests._data import CATEGORIES, Coco, coco, coco_folder, exif_jpeg, write_image, yolo_folder

SHARED = Path(__file__).resolve().parents[4] / "shared"


def test_coco_boxes_ids_and_classes(tmp_path: Path) -> None:
    train = coco()
    train["annotations"].append(
        {
            "id": 99,
            "image_id": 1,
            "category_id": 3,
            "bbox": [1.5, 2, 3, 4],
            "iscrowd": 1,
            "segmentation": {"counts": "abc"},
        }
    )
    pair = open_data(coco_folder(tmp_path, train))
    assert pair.classes == ("cat", "dog")  # in the order of their ids, not of the file
    assert [s.id for s in pair.train.samples] == [1, 6, 11]
    rgb, boxes, labels, crowd = pair.train.load(0)
    assert rgb.shape == (30, 40, 3) and rgb.dtype == np.uint8
    np.testing.assert_array_equal(boxes, np.array([[5, 6, 15, 14], [1.5, 2, 4.5, 6]], np.float32))
    assert labels.tolist() == [1, 0] and crowd.tolist() == [False, True]
    assert pair.train.samples[0].areas.tolist() == [80, 12]
    assert not pair.problems()


def test_colours_are_rgb(tmp_path: Path) -> None:
    red = np.zeros((30, 40, 3), np.uint8)
    red[:, :, 2] = 255  # OpenCV writes blue first
    cv2.imwrite(str(tmp_path / "a.png"), red)
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [255, 0, 0]


def test_coco_round_trip(tmp_path: Path) -> None:
    pair = open_data(coco_folder(tmp_path))
    (tmp_path / "again.json").write_text(json.dumps(pair.train.to_coco()))
    again = read_coco(tmp_path / "again.json", [tmp_path / "images"], name="again", split="train")
    assert again.classes == pair.classes and [s.id for s in again.samples] == [s.id for s in pair.train.samples]
    for a, b in zip(again.samples, pair.train.samples, strict=True):
        np.testing.assert_array_equal(a.boxes, b.boxes)
        np.testing.assert_array_equal(a.areas, b.areas)
    assert all(entry["id"] > 0 for entry in pair.train.to_coco()["annotations"])


def test_other_coco_layouts(tmp_path: Path) -> None:
    plain = open_data(coco_folder(tmp_path / "plain"))
    for layout, places in {
        "official": (
            "annotations/instances_train2017.json",
            "annotations/instances_val2017.json",
            "train2017",
            "val2017",
        ),
        "exported": ("train/_annotations.coco.json", "valid/_annotations.coco.json", "train", "valid"),
    }.items():
        root = tmp_path / layout
        for split, json_name, folder in zip(("train", "val"), places[:2], places[2:], strict=True):
            content = json.loads((tmp_path / "plain" / f"{split}.json").read_text())
            for image in content["images"]:
                write_image(root / folder / image["file_name"], seed=image["id"])
            (root / json_name).parent.mkdir(parents=True, exist_ok=True)
            (root / json_name).write_text(json.dumps(content))
        pair = open_data(root)
        assert pair.name == layout and pair.fingerprint == plain.fingerprint


def test_equal_file_names_in_both_splits(tmp_path: Path) -> None:
    """COCO exports number the images of each split from 1: val must not get train's pixels."""
    for split, value in (("train2017", 10), ("val2017", 200)):
        content = coco(1)
        content["images"][0]["file_name"] = "1.png"
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        (tmp_path / split).mkdir()
        cv2.imwrite(str(tmp_path / split / "1.png"), np.full((30, 40, 3), value, np.uint8))
    pair = open_data(tmp_path)
    assert pair.train.load(0)[0].mean() == 10 and pair.val.load(0)[0].mean() == 200


def test_yaml_with_coco_entries(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path / "set")
    (tmp_path / "mine.yaml").write_text("path: set\ntrain_json: train.json\nval_json: val.json\nimages: images\n")
    pair = open_data(tmp_path / "mine.yaml")
    assert pair.name == "mine" and pair.fingerprint == open_data(folder).fingerprint


def test_yaml_images_per_split(tmp_path: Path) -> None:
    for split, value in (("train", 10), ("val", 200)):
        content = coco(1)
        content["images"][0]["file_name"] = "1.png"
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
        (tmp_path / f"images-{split}").mkdir()
        cv2.imwrite(str(tmp_path / f"images-{split}" / "1.png"), np.full((30, 40, 3), value, np.uint8))
    text = "train_json: train.json\nval_json: val.json\ntrain_images: images-train\nval_images: images-val\n"
    (tmp_path / "mine.yaml").write_text(text)
    pair = open_data(tmp_path / "mine.yaml")
    assert pair.train.load(0)[0].mean() == 10 and pair.val.load(0)[0].mean() == 200


@pytest.mark.parametrize(
    "how", ["yaml", "folder with yaml", "folder with classes.txt", "dict names", "list file", "exported"]
)
def test_yolo_forms(tmp_path: Path, how: str) -> None:
    root = yolo_folder(tmp_path / "set")
    spec = root / "data.yaml"
    if how == "folder with yaml":
        spec = root
    elif how == "folder with classes.txt":
        spec.unlink()
        (root / "classes.txt").write_text("cat\ndog\n")
        spec = root
    elif how == "dict names":
        spec.write_text("train: images/train\nval: images/val\nnames: {0: cat, 1: dog}\nnc: 2\n")
    elif how == "list file":
        (root / "train.txt").write_text("images/train/0.png\nimages/train/1.png\n")
        spec.write_text("train: train.txt\nval: [images/val]\nnames: [cat, dog]\n")
    elif how == "exported":
        spec.write_text("train: ../images/train\nval: ../images/val\nnames: [cat, dog]\n")
    pair = open_data(spec)
    assert pair.name == "set" and pair.classes == ("cat", "dog")
    assert len(pair.train) == 2 and [s.id for s in pair.train.samples] == [1, 2]
    np.testing.assert_allclose(pair.train.samples[0].boxes, [[10, 7.5, 30, 22.5]])
    np.testing.assert_allclose(pair.val.samples[0].boxes, [[16, 12, 24, 18]], rtol=1e-6)
    assert pair.val.samples[0].labels.tolist() == [1] and not pair.problems()


def test_yolo_without_names_numbers_its_classes(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path, train="3 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").unlink()
    assert open_data(root).classes == ("0", "1", "2", "3")


def test_yolo_outline_becomes_its_box(tmp_path: Path) -> None:
    pair = open_data(yolo_folder(tmp_path, train="0 0.25 0.1 0.75 0.5 0.5 0.9\n"))
    np.testing.assert_allclose(pair.train.samples[0].boxes, [[10, 3, 30, 27]], rtol=1e-6)


def test_label_path() -> None:
    assert label_path(Path("/images/a/images/train/x.y.jpg")) == Path("/images/a/labels/train/x.y.txt")
    assert label_path(Path("photos/x.png")) == Path("photos/x.txt")


def test_val_classes_follow_the_order_of_train(tmp_path: Path) -> None:
    val = coco(2, 100)
    val["categories"] = [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]  # 7 was the dog in train
    pair = open_data(coco_folder(tmp_path, val=val))
    assert pair.val.classes == ("cat", "dog") and pair.val.samples[0].labels.tolist() == [0]


def test_limit_is_the_same_each_time(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path, coco(20))
    ids = [s.id for s in open_data(folder, limit=5).train.samples]
    assert ids == [s.id for s in open_data(folder, limit=5).train.samples]
    assert len(ids) == 5 and ids == sorted(ids) and ids != [1, 6, 11, 16, 21]
    assert choose(3, None) == choose(3, 9) == [0, 1, 2]
    with pytest.raises(InputError, match="limit of 0"):
        open_data(folder, limit=0)


def test_fingerprint_follows_content_not_place(tmp_path: Path) -> None:
    one, two = open_data(coco_folder(tmp_path / "a")), open_data(coco_folder(tmp_path / "b"))
    assert one.fingerprint == two.fingerprint
    moved = coco()
    moved["annotations"][0]["bbox"][0] = 4
    assert open_data(coco_folder(tmp_path / "c", moved)).fingerprint != one.fingerprint


def test_cache_gives_the_same_image_within_its_bounds(tmp_path: Path) -> None:
    data = open_data(coco_folder(tmp_path)).train
    first = data.load(0)[0].copy()
    kept = data.cached(first.nbytes)  # room for one
    kept.load(0)
    kept.load(1)
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "images" / name).unlink()
    np.testing.assert_array_equal(kept.load(0)[0], first)
    with pytest.raises(BrokenImage, match=r"2.jpg: no such image"):
        kept.load(1)
    with pytest.raises(ValueError, match="read-only"):
        kept.load(0)[0][0] = 0


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_size_without_decoding(tmp_path: Path, suffix: str) -> None:
    assert image_sizes(write_image(tmp_path / f"a{suffix}", 41, 29)) == ((41, 29), (41, 29))


def test_exif_orientation(tmp_path: Path) -> None:
    """Turned for who sees it as its camera meant; as stored for annotations that were made for that."""
    path = exif_jpeg(tmp_path / "a.jpg", 6)
    assert image_sizes(path) == ((30, 40), (40, 30))
    assert read_image(path).shape[1::-1] == (30, 40)
    assert read_image(path, (40, 30)).shape[1::-1] == (40, 30)
    assert image_sizes(exif_jpeg(tmp_path / "b.jpg", 3)) == ((40, 30), (40, 30))


# --- what is wrong with some of it: counted, named, left out
# -------------------------------------------------------------------------------


def _drop_box(entry: Coco) -> None:
    del entry["bbox"]


BAD_ANNOTATIONS: dict[str, tuple[Callable[[Coco], object], str]] = {
    "outside": (lambda a: a.update(bbox=[50, 6, 10, 8]), "box outside the image"),
    "zero size": (lambda a: a.update(bbox=[5, 6, 0, 8]), "box without area"),
    "negative size": (lambda a: a.update(bbox=[5, 6, 10, -8]), "box without area"),
    "not a number": (lambda a: a.update(bbox=[5, float("nan"), 10, 8]), "box that is not finite"),
    "infinite": (lambda a: a.update(bbox=[5, 6, float("inf"), 8]), "box that is not finite"),
    "unknown category": (lambda a: a.update(category_id=8), "annotation of an unknown class"),
    "unknown image": (lambda a: a.update(image_id=8), "annotation of an unknown image"),
    "no box": (_drop_box, "annotation without a box"),
    "text box": (lambda a: a.update(bbox="5 6 10 8"), "annotation without a box"),
}


@pytest.mark.parametrize("case", BAD_ANNOTATIONS)
def test_bad_coco_annotation_is_counted_and_left_out(tmp_path: Path, case: str) -> None:
    spoil, kind = BAD_ANNOTATIONS[case]
    train = coco()
    spoil(train["annotations"][1])
    data = open_data(coco_folder(tmp_path, train)).train
    assert data.problems.counts == {kind: 1} and len(data) == 3 and data.boxes == 2
    (line,) = data.problems.lines()
    assert "train.json" in line and kind in line and "\n" not in line


def test_box_reaching_out_is_clipped(tmp_path: Path) -> None:
    train = coco()
    train["annotations"][1]["bbox"] = [30, 25, 20, 20]
    train["annotations"][2]["bbox"] = [30, 25, 10.4, 5]  # rounding of a tool: clipped, no word about it
    data = open_data(coco_folder(tmp_path, train)).train
    assert data.samples[1].boxes.tolist() == data.samples[2].boxes.tolist() == [[30, 25, 40, 30]]
    assert data.problems.counts == {"box reaching out of the image": 1}


def test_missing_and_broken_images_are_left_out(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path, coco(6))
    (folder / "images" / "1.jpg").unlink()
    (folder / "images" / "2.jpg").write_bytes(b"")
    (folder / "images" / "3.jpg").write_bytes(b"this is no image")
    (folder / "images" / "4.jpg").write_bytes((folder / "images" / "5.jpg").read_bytes()[:30])
    write_image(folder / "images" / "6.jpg", 30, 40)
    data = open_data(folder).train
    assert [s.path.name for s in data.samples] == ["5.jpg"]
    assert data.problems.counts == {"missing image": 1, "broken image": 4}
    assert any("is 30x40 pixels, but its annotations are for 40x30" in str(p) for p in data.problems)


def test_malformed_image_entry_is_skipped(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path)
    content = coco()
    content["images"].append({"id": "x", "file_name": "1.jpg"})
    (folder / "train.json").write_text(json.dumps(content))
    data = open_data(folder).train
    assert data.problems.counts == {"malformed image entry": 1} and len(data) == 3


@pytest.mark.parametrize(
    "line, kind",
    [
        ("0 0.5 0.5 0.5", "malformed label line"),
        ("0 0.5 0.5 0.5 0.5 0.9", "malformed label line"),
        ("cat 0.5 0.5 0.5 0.5", "malformed label line"),
        ("2 0.5 0.5 0.5 0.5", "annotation of an unknown class"),
        ("-1 0.5 0.5 0.5 0.5", "annotation of an unknown class"),
        ("0.5 0.5 0.5 0.5 0.5", "annotation of an unknown class"),
        ("0 320 240 100 100", "box outside the image"),
        ("0 0.5 0.5 0 0.5", "box without area"),
        ("0 nan 0.5 0.5 0.5", "box that is not finite"),
        ("0 0.1 0.1 0.5 nan 0.5 0.9", "box that is not finite"),
        ("0 0.9 0.5 0.4 0.5", "box reaching out of the image"),
    ],
)
def test_bad_yolo_line_is_counted_and_named(tmp_path: Path, line: str, kind: str) -> None:
    data = open_data(yolo_folder(tmp_path, train=f"0 0.5 0.5 0.5 0.5\n{line}\n")).train
    assert data.problems.counts == {kind: 2}  # two images have it
    assert "0.txt" in data.problems.lines()[0]
    assert data.boxes == (4 if "reaching" in kind else 2)


def test_yolo_image_without_label_file_has_no_objects(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path)
    (root / "labels" / "train" / "0.txt").unlink()
    data = open_data(root).train
    assert [len(s) for s in data.samples] == [0, 1] and not data.problems


def test_yolo_label_file_of_other_bytes(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path)
    (root / "labels" / "train" / "0.txt").write_bytes(b"\xff\xfe\x00")
    assert open_data(root).train.problems.counts == {"broken label file": 1}


def test_image_in_both_splits_is_named(tmp_path: Path) -> None:
    pair = open_data(coco_folder(tmp_path, coco(3), coco(2)))
    assert pair.val.problems.counts == {"image in both splits": 2}


def test_making_a_pair_has_no_effect_on_its_splits(tmp_path: Path) -> None:
    pair = open_data(coco_folder(tmp_path, coco(3), coco(2)))
    again = replace(replace(pair, name="again"))
    DataPair("other", again.train, again.val)
    assert again.val.problems.counts == {"image in both splits": 2} and not again.train.problems


def test_problems_and_remarks_are_told_to_who_opens_the_data(tmp_path: Path) -> None:
    train = coco(4)
    train["annotations"][1]["iscrowd"] = 1
    train["annotations"][2]["category_id"] = 99
    lines: list[str] = []
    pair = open_data(coco_folder(tmp_path, train), on_problem=lines.append)
    problem, remark = lines
    assert [problem] == pair.problems() and [remark] == pair.remarks()
    assert problem.startswith("train: 1 x annotation of an unknown class, first in")
    assert remark == "train: 1 of 3 boxes are ignored (crowd or difficult)"


def test_accuracy_on_another_split(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path, coco(3), coco(2, 100))
    (folder / "test.json").write_text(json.dumps(coco(2)))
    pair = open_data(folder, val="test")
    assert (pair.val.split, len(pair.val)) == ("test", 2)
    assert pair.val.problems.counts == {"image in both splits": 2}
    with pytest.raises(InputError, match=r"no holdout split in .* \(it has train and val and test\)"):
        open_data(folder, val="holdout")


# --- what cannot be used: one clear line
# ---------------------------------------------------------------------------------------------------


def _edit(key: str, value: Any) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        content = coco()
        content[key] = value
        (folder / "train.json").write_text(json.dumps(content))

    return edit


def _no_images(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.unlink()


def _all_broken(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.write_bytes(b"x")


def _duplicate_ids(folder: Path) -> None:
    content = coco()
    content["images"][1]["id"] = 1
    (folder / "train.json").write_text(json.dumps(content))


BAD_COCO: dict[str, tuple[Callable[[Path], object], str]] = {
    "not json": (lambda f: (f / "train.json").write_text("{"), r"train.json is not JSON"),
    "not text": (lambda f: (f / "train.json").write_bytes(b"\xff\xfe\xfd"), r"train.json is not JSON"),
    "a list": (lambda f: (f / "train.json").write_text("[]"), r"train.json holds a list; expected a COCO object"),
    "not coco": (
        lambda f: (f / "train.json").write_text('{"a": 1}'),
        r"has no list of images and of annotations and of categories",
    ),
    "no annotations key": (_edit("annotations", None), r"has no list of annotations"),
    "no class": (_edit("categories", []), r"train.json has no category"),
    "nameless class": (_edit("categories", [{"id": 7}]), r"category \{'id': 7\}; expected an object"),
    "class twice": (
        _edit("categories", [*CATEGORIES, {"id": 9, "name": "cat"}]),
        r"category 9 \(cat\) stands there twice",
    ),
    "no image entries": (_edit("images", []), r"train.json has no images"),
    "duplicate ids": (_duplicate_ids, r"image id 1 is of 1.jpg and of 2.jpg"),
    "no image files": (_no_images, r"none of the 3 images of .*train.json found; expected 1.jpg in one of"),
    "all images broken": (_all_broken, r"no usable image \(3 x broken image"),
    "no boxes": (_edit("annotations", []), r"train split of .* has no usable box"),
    "class only in train": (
        _edit("categories", [*CATEGORIES, {"id": 9, "name": "cow"}]),
        r"classes of train and val differ: train alone has \['cow'\]",
    ),
    "class only in val": (
        _edit("categories", CATEGORIES[:1]),
        r"classes of train and val differ: val alone has \['cat'\]",
    ),
    "no val": (
        lambda f: (f / "val.json").unlink(),
        r"no val split in .* \(it has train\); expected train.json and val.json",
    ),
}


@pytest.mark.parametrize("case", BAD_COCO)
def test_unusable_coco(tmp_path: Path, case: str) -> None:
    spoil, message = BAD_COCO[case]
    folder = coco_folder(tmp_path)
    spoil(folder)
    with pytest.raises(InputError, match=message) as error:
        open_data(folder)
    assert "\n" not in str(error.value)


BAD_YAML = {
    "no names": ("train: images/train\nval: images/val\n", r"data.yaml has no names"),
    "no val": ("train: images/train\nnames: [cat]\n", r"data.yaml has no val"),
    "empty": ("", r"holds a NoneType"),
    "a list": ("- 1\n", r"holds a list"),
    "not yaml": ("names: [cat\ntrain: {", r"data.yaml is not yaml"),
    "a python object": ("!!python/object/apply:os.system ['true']", r"data.yaml is not yaml"),
    "names is text": ("train: images/train\nval: images/val\nnames: cat\n", r"names is a str"),
    "names with a gap": (
        "train: images/train\nval: images/val\nnames: {0: cat, 2: dog}\n",
        r"names are numbered \[0, 2\]",
    ),
    "class twice": ("train: images/train\nval: images/val\nnames: [cat, cat]\n", r"names classes twice: \['cat'\]"),
    "wrong nc": ("train: images/train\nval: images/val\nnames: [cat, dog]\nnc: 3\n", r"nc is 3, but there are 2 names"),
    "no folder": ("train: images/trian\nval: images/val\nnames: [cat, dog]\n", r"no images at .*trian"),
    "no labels": ("train: photos\nval: images/val\nnames: [cat, dog]\n", r"no label file for the 1 images"),
    "empty folder": ("train: empty\nval: images/val\nnames: [cat, dog]\n", r"no image in .*empty"),
    "half coco": ("train_json: train.json\n", r"data.yaml has no val_json"),
    "coco file missing": ("train_json: train.json\nval_json: val.json\n", r"no annotation file .*train.json"),
}


@pytest.mark.parametrize("case", BAD_YAML)
def test_unusable_yaml(tmp_path: Path, case: str) -> None:
    text, message = BAD_YAML[case]
    root = yolo_folder(tmp_path)
    write_image(root / "photos" / "1.jpg")
    (root / "empty").mkdir()
    (root / "data.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        open_data(root / "data.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "spec, message",
    [
        ("nowhere", r"no data set at 'nowhere' \(nothing there\); expected digits, digits@160, a folder"),
        ("nowhere.yaml", r"no file nowhere.yaml"),
        ("digits@", r"size '' of data 'digits@'; expected a whole number"),
        ("digits@big", r"size 'big'"),
        ("digits@16", r"digits with size=16; expected 32..2048"),
        ("digits:train=-5", r"train '-5'"),
        ("digits:train=0", r"digits with train=0"),
        ("digits:colour=1", r"option 'colour=1'"),
        ("digits:", r"option ''"),
        ("digits:seed=1,seed=2", r"option 'seed=2'"),
        ("https://host/data.yaml", r"^https://host/data.yaml is an address"),
        ("", r"a data set without a name"),
        (" ", r"a data set without a name"),
    ],
)
def test_unreadable_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        open_data(spec, cache=tmp_path)


def test_two_yamls_in_a_folder_must_be_told_apart(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path)
    (root / "other.yaml").write_text("")
    with pytest.raises(InputError, match="2 yaml files in"):
        open_data(root)


def test_a_pair_of_different_class_order_is_refused(tmp_path: Path) -> None:
    pair = open_data(coco_folder(tmp_path))
    turned = DetectionDataset("x", "val", pair.classes[::-1], pair.val.samples)
    with pytest.raises(InputError, match="orders the classes"):
        DataPair("x", pair.train, turned)


def test_bccd_is_read_as_its_readme_counts_it() -> None:
    folder = SHARED / "data" / "bccd"
    if not folder.is_dir():
        pytest.skip("the optional folder shared/data/bccd is not here")
    pair = open_data(folder)
    assert pair.classes == ("Platelets", "RBC", "WBC") and not pair.problems()
    assert (len(pair.train), pair.train.boxes, len(pair.val), pair.val.boxes) == (205, 2804, 87, 1137)
    test = read_coco(folder / "test.json", [folder / "images"], name="bccd", split="test", classes=pair.classes)
    assert (len(test), test.boxes) == (72, 945)
    assert pair.train.load(0)[0].shape == (480, 640, 3)
