"""Bad data as people have it: each case gives the one line that says what was got, what was expected and what to do,
or the problem by name and count."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas.data.source import open_data
from search_spaces.errors import InputError
from tests._data import coco, coco_folder, voc_folder, voc_object, voc_xml, write_image, yolo_folder

Build = Callable[[Path], object]


def voc_with(text: str) -> Build:
    """A VOC set in which one annotation file holds ``text``."""
    return lambda root: (voc_folder(root) / "Annotations" / "a.xml").write_text(text)


def coco_with(edit: Callable[[dict[str, Any]], object]) -> Build:
    def build(root: Path) -> None:
        content = coco()
        edit(content)
        (coco_folder(root) / "train.json").write_text(json.dumps(content))

    return build


def yolo_with(label: str) -> Build:
    """A YOLO set in which one label file holds ``label`` after a good line."""
    return lambda root: (yolo_folder(root) / "labels" / "train" / "0.txt").write_text(f"0 0.5 0.5 0.5 0.5\n{label}\n")


def removed(make: Callable[[Path], Path], *names: str) -> Build:
    def build(root: Path) -> None:
        make(root)
        for name in names:
            path = root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return build


def written(make: Callable[[Path], Path], name: str, text: str | bytes) -> Build:
    def build(root: Path) -> None:
        path = make(root) / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    return build


def empty(root: Path) -> Path:
    root.mkdir()
    return root


def other_files(root: Path) -> None:
    for name in "edcba":
        (root / name).mkdir(parents=True)


def images_only(root: Path) -> None:
    write_image(root / "a.jpg")


def one_folder_too_high(root: Path) -> None:
    coco_folder(root / "shop-v2")
    (root / "readme.txt").write_text("unpacked here")


def two_devkits(root: Path) -> None:
    for year in ("VOC2007", "VOC2012"):
        voc_folder(root / year)


def same_list_twice(root: Path) -> None:
    (yolo_folder(root) / "all.txt").write_text("images/train/0.png\nimages/train/0.png\n")
    (root / "data.yaml").write_text("train: all.txt\nval: images/val\nnames: [cat, dog]\n")


def only_difficult(root: Path) -> None:
    hard = voc_xml(voc_object(extra="<difficult>1</difficult>"))
    voc_folder(root, {"train": {"a": hard}, "val": {"b": hard}})


REFUSED: dict[str, tuple[Build, str, str, str]] = {
    # case: (builder, what was got, what was expected, what to do next); the folder's name is {root}
    "an empty folder": (empty, "no data set in {root} (it is empty)", "train.json and val.json", ""),
    "other files": (
        other_files,
        "no data set in {root} (it holds a, b, c, d and 1 more)",
        "or train/*.xml and valid/*.xml beside images (Pascal VOC); or a yaml with train, val and names, or images/train",
        "",
    ),
    "one folder too high": (
        one_folder_too_high,
        "{root} has images but no annotations",
        "train.json",
        "did you mean {root}/shop-v2?",
    ),
    "images without annotations": (
        images_only,
        "{root} has images but no annotations, good for prediction only",
        "train.json",
        "",
    ),
    "an archive": (lambda root: root.write_bytes(b"PK"), "no data set in {root}", "train.json and val.json", ""),
    "coco without val": (
        removed(coco_folder, "val.json"),
        "no val split in {root} (it has train)",
        "train.json and val.json",
        "",
    ),
    "coco without train": (
        removed(coco_folder, "train.json"),
        "no train split in {root} (it has val)",
        "train.json and val.json",
        "",
    ),
    "coco with a class only in val": (
        coco_with(lambda c: c["categories"].pop(1)),
        "the classes of train and val differ: val alone has ['cat']",
        "the same classes in both",
        "",
    ),
    "coco cut off": (
        written(coco_folder, "train.json", '{"images": ['),
        "{root}/train.json is not JSON",
        "a COCO json",
        "",
    ),
    "coco nested without end": (
        written(coco_folder, "train.json", "[" * 100_000),
        "{root}/train.json is not JSON",
        "a COCO json",
        "",
    ),
    "coco without images": (
        removed(coco_folder, "images"),
        "none of the 3 images of {root}/train.json found",
        "1.jpg in one of",
        "",
    ),
    "coco whose images are all broken": (
        lambda root: [path.write_bytes(b"") for path in (coco_folder(root) / "images").iterdir()],
        "the train split of {name} has no usable image (3 x broken image, first in {root}/images/1.jpg: is an empty file, skipped)",
        "at least one readable image",
        "",
    ),
    "coco of crowds only": (
        coco_with(lambda c: [a.update(iscrowd=1) for a in c["annotations"]]),
        "the train split of {name} has no usable box (3 ignored: crowd or difficult)",
        "at least one",
        "",
    ),
    "voc without lists": (
        removed(voc_folder, "ImageSets"),
        "no train and no val split in {root} (it has none)",
        "ImageSets/Main/train.txt",
        "",
    ),
    "voc without val": (
        removed(voc_folder, "ImageSets/Main/val.txt"),
        "no val split in {root} (it has train)",
        "ImageSets/Main/train.txt and val.txt",
        "",
    ),
    "voc with an empty list": (
        written(voc_folder, "ImageSets/Main/train.txt", "\n"),
        "train.txt lists no image",
        "one name a line",
        "",
    ),
    "voc with a list of other bytes": (
        written(voc_folder, "ImageSets/Main/train.txt", b"\xff\xfe\x00"),
        "cannot read {root}",
        "a text file",
        "",
    ),
    "voc without images": (
        removed(voc_folder, "JPEGImages"),
        "has no usable image (2 x missing image, first in {root}/JPEGImages/a: no such image, skipped)",
        "at least one readable image",
        "",
    ),
    "voc whose objects are all difficult": (
        only_difficult,
        "has no usable box (1 ignored: crowd or difficult)",
        "at least one",
        "",
    ),
    "several vocs": (
        two_devkits,
        "2 VOC data sets in {root}",
        "one",
        "name the one you mean: {root}/VOC2007, {root}/VOC2012",
    ),
    "yolo without labels": (
        removed(yolo_folder, "labels"),
        "no label file for the 2 images of",
        "{root}/labels/train/0.txt and so on",
        "",
    ),
    "yolo whose folder has moved": (
        removed(yolo_folder, "images/val"),
        "no images at {root}/images/val",
        "a folder of images",
        "",
    ),
    "yolo with an image listed twice": (
        same_list_twice,
        "0.png stands twice in the train split",
        "every image once",
        "",
    ),
    "yolo with a name that is a list": (
        written(yolo_folder, "data.yaml", "train: images/train\nval: images/val\nnames: [cat, [dog]]"),
        "{root}/data.yaml: one of the names is a list",
        "a list of class names, or index: name",
        "",
    ),
    "yolo without class names": (
        written(yolo_folder, "data.yaml", "train: images/train\nval: images/val\nnames: []"),
        "{root}/data.yaml has no names",
        "train, val and names (YOLO)",
        "",
    ),
    "two yamls": (written(yolo_folder, "other.yaml", "a: b"), "2 yaml files in {root}", "one", "name the one you mean"),
    "a yaml of something else": (
        written(empty, "data.yaml", "services: []"),
        "no data set in {root} (it holds data.yaml)",
        "a yaml with train_json and val_json (COCO)",
        "",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unusable_data_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    build, got, expected, hint = REFUSED[case]
    root = tmp_path / "shop"
    build(root)
    with pytest.raises(InputError) as error:
        open_data(root)
    line = str(error.value)
    got, expected, hint = (part.format(root=root, name="shop") for part in (got, expected, hint))
    assert "\n" not in line and len(line) < 1000
    before, _, after = line.partition("; expected ")
    assert got in before and expected in after and hint in after


NAMED: dict[str, tuple[Build, dict[str, int], str]] = {
    # case: (builder, problem of the train split with its count, a part of the message)
    "voc file that is cut off": (
        voc_with("<annotation><object>"),
        {"broken annotation file": 1},
        "is not XML that is read here",
    ),
    "voc file that is empty": (voc_with(""), {"broken annotation file": 1}, "is not XML that is read here"),
    "voc file of another kind": (
        voc_with("<html></html>"),
        {"broken annotation file": 1},
        "holds <html>; expected <annotation>",
    ),
    "voc file in an unknown encoding": (
        voc_with('<?xml version="1.0" encoding="klingon"?><annotation/>'),
        {"broken annotation file": 1},
        "its image is skipped",
    ),
    "voc file that is missing": (
        removed(voc_folder, "Annotations/a.xml"),
        {"missing annotation file": 1},
        "its image is skipped",
    ),
    "voc image that is missing": (
        removed(voc_folder, "JPEGImages/a.jpg"),
        {"missing image": 1},
        "no such image, skipped",
    ),
    "voc object without a name": (
        voc_with(voc_xml(voc_object(name=" "), voc_object())),
        {"malformed object": 1},
        "object 1 has no name, skipped",
    ),
    "voc object without a box": (
        voc_with(voc_xml(voc_object(), "<object><name>cat</name></object>")),
        {"malformed object": 1},
        "object 2 has no bndbox, skipped",
    ),
    "voc corner that is no number": (
        voc_with(voc_xml(voc_object(), voc_object(box=("six", 7, 15, 14)))),
        {"box that is not finite": 1},
        "dropped",
    ),
    "voc corners exchanged": (
        voc_with(voc_xml(voc_object(), voc_object(box=(15, 14, 6, 7)))),
        {"box without area": 1},
        "dropped",
    ),
    "voc box reaching out": (
        voc_with(voc_xml(voc_object(), voc_object(box=(6, 7, 55, 14)))),
        {"box reaching out of the image": 1},
        "of 40x30 pixels, clipped",
    ),
    "voc size of another image": (
        voc_with(voc_xml(voc_object(), size=(400, 300))),
        {"broken image": 1},
        "is 40x30 pixels, but its annotations are for 400x300",
    ),
    "coco box beyond the image": (
        coco_with(lambda c: c["annotations"][0].update(bbox=[41, 0, 5, 5])),
        {"box outside the image": 1},
        "(41, 0, 46, 5) of 40x30 pixels, dropped",
    ),
    "coco box of numbers as text": (
        coco_with(lambda c: c["annotations"][0].update(bbox=["5", 6, 10, 8])),
        {"annotation without a box": 1},
        "has no bbox of 4 numbers, skipped",
    ),
    "coco image that is absent": (
        removed(coco_folder, "images/2.jpg"),
        {"missing image": 1},
        "no such image, skipped",
    ),
    "coco image of zero bytes": (
        written(coco_folder, "images/2.jpg", b""),
        {"broken image": 1},
        "is an empty file, skipped",
    ),
    "coco image that is a web page": (
        written(coco_folder, "images/2.jpg", "<html>404"),
        {"broken image": 1},
        "is no image of a known kind, skipped",
    ),
    "coco id that is no number": (
        coco_with(lambda c: c["images"].append({"id": "one", "file_name": "1.jpg"})),
        {"malformed image entry": 1},
        "lacks an integer id or a file_name, skipped",
    ),
    "yolo boxes in pixels": (yolo_with("0 120 80 30 30"), {"box outside the image": 1}, "dropped"),
    "yolo class by name": (yolo_with("cat 0.5 0.5 0.1 0.1"), {"malformed label line": 1}, "is not numbers, skipped"),
    "yolo class counted from one": (
        yolo_with("2 0.5 0.5 0.1 0.1"),
        {"annotation of an unknown class": 1},
        "class 2 of 2 classes (0..1), skipped",
    ),
    "yolo with commas": (yolo_with("0,0.5,0.5,0.1,0.1"), {"malformed label line": 1}, "skipped"),
    "yolo with a confidence": (
        yolo_with("0 0.5 0.5 0.1 0.1 0.9"),
        {"malformed label line": 1},
        "6 columns instead of 5, skipped",
    ),
    "yolo label of other bytes": (
        written(yolo_folder, "labels/train/0.txt", b"\xff\xfe\x00"),
        {"broken label file": 1},
        "its image is skipped",
    ),
}


@pytest.mark.parametrize("case", NAMED)
def test_bad_parts_are_named_and_the_rest_is_used(tmp_path: Path, case: str) -> None:
    build, counts, message = NAMED[case]
    build(tmp_path / "shop")
    data = open_data(tmp_path / "shop").train
    assert data.problems.counts == counts and data.boxes >= 1
    (problem,) = data.problems
    assert message in problem.message and "\n" not in str(problem) and Path(problem.where).name != ""
