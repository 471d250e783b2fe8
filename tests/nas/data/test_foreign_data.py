"""Data sets as labelling tools, trackers, disks and attackers leave them: read rightly, or counted and told."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from nas.data.check import check
from nas.data.coco_reader import MAX_ID
from nas.data.images import images_in, read_image
from nas.data.problems import MAX_LENGTH, Problems
from nas.data.source import DataPair, open_data
from nas.data.walk import walk
from nas.inference.coco_metrics import Detections, evaluate
from search_spaces.errors import InputError
from tests._data import CATEGORIES, Coco, coco, coco_folder, voc_folder, voc_object, voc_xml, write_image, yolo_folder

# --- COCO: values of any type and size


HUGE = 10**400
SPOILED: dict[str, tuple[Callable[[Coco], object], str]] = {
    "bbox of 400 digits": (lambda a: a.update(bbox=[HUGE, 6, 10, 8]), "box that is not finite"),
    "width of 400 digits": (lambda a: a.update(bbox=[5, 6, HUGE, 8]), "box that is not finite"),
    "area of 400 digits": (lambda a: a.update(area=HUGE), "malformed annotation"),
    "area of 5,000 digits": (lambda a: a.update(area=10**4000), "malformed annotation"),
    "infinite area": (lambda a: a.update(area=float("inf")), "malformed annotation"),
    "score of 400 digits": (lambda a: a.update(score=HUGE), "malformed annotation"),
    "score that is no number": (lambda a: a.update(score=float("nan")), "malformed annotation"),
    "score of 7": (lambda a: a.update(score=7.0), "malformed annotation"),
    "image that is a list": (lambda a: a.update(image_id=[1]), "annotation of an unknown image"),
    "image that is an object": (lambda a: a.update(image_id={"id": 1}), "annotation of an unknown image"),
    "image that is text": (lambda a: a.update(image_id="1"), "annotation of an unknown image"),
    "image of 400 digits": (lambda a: a.update(image_id=HUGE), "annotation of an unknown image"),
    "class that is a list": (lambda a: a.update(category_id=[7]), "annotation of an unknown class"),
    "class that is an object": (lambda a: a.update(category_id={}), "annotation of an unknown class"),
    "class that is a flag": (lambda a: a.update(category_id=True), "annotation of an unknown class"),
    "class of 400 digits": (lambda a: a.update(category_id=HUGE), "annotation of an unknown class"),
    "crowd that is a list": (lambda a: a.update(iscrowd=[0]), "malformed annotation"),
    "crowd that is a word": (lambda a: a.update(iscrowd="maybe"), "malformed annotation"),
    "box of an object": (lambda a: a.update(bbox=[5, 6, {}, 8]), "annotation without a box"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_one_bad_annotation_is_counted_and_left_out(tmp_path: Path, case: str) -> None:
    spoil, kind = SPOILED[case]
    train = coco()
    spoil(train["annotations"][1])
    data = open_data(coco_folder(tmp_path, train)).train
    assert data.problems.counts == {kind: 1} and len(data) == 3 and data.boxes == 2


def test_an_integer_of_5000_digits_in_the_file_itself(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path)
    path = folder / "train.json"
    path.write_text(path.read_text().replace('"bbox": [5,', f'"bbox": [{"9" * 5000},', 1))
    assert open_data(folder).train.problems.counts == {"box that is not finite": 1}


@pytest.mark.parametrize("value", ["12.5", {}, []])
def test_an_area_that_is_no_number_is_told_and_that_of_the_box_taken(tmp_path: Path, value: object) -> None:
    train = coco()
    train["annotations"][0]["area"] = value
    data = open_data(coco_folder(tmp_path, train)).train
    assert data.problems.counts == {"area that is not a number": 1} and data.samples[0].areas.tolist() == [80]


@pytest.mark.parametrize(
    "value, crowd",
    [
        ("0", False),
        ("1", True),
        ("false", False),
        ("True", True),
        (False, False),
        (True, True),
        (0.0, False),
        (1, True),
    ],
)
def test_a_flag_is_read_as_the_number_that_it_says(tmp_path: Path, value: object, crowd: bool) -> None:
    train = coco()
    train["annotations"][0]["iscrowd"] = value
    data = open_data(coco_folder(tmp_path, train)).train
    assert data.samples[0].crowd.tolist() == [crowd] and not data.problems
    assert data.remarks() == (["1 of 3 boxes are ignored (crowd or difficult)"] if crowd else [])


def _renumbered(content: Coco, offset: int) -> Coco:
    for entry in content["images"]:
        entry["id"] = offset + entry["id"]
    for entry in content["annotations"]:
        entry["image_id"] = offset + entry["image_id"]
    return content


@pytest.mark.parametrize("offset", [MAX_ID, 2**64, 2**127, -1000, 10**90])
def test_ids_that_numeric_libraries_cannot_hold_are_replaced(tmp_path: Path, offset: int) -> None:
    """Adjacent ids over 2^53 are one float64, and evaluation would take their images for one."""
    folder = coco_folder(tmp_path, None, _renumbered(coco(4, 100), offset))
    val = open_data(folder).val
    assert [s.id for s in val.samples] == [1, 2, 3, 4]
    exact = {s.id: Detections(s.boxes, np.ones(len(s), np.float32), s.labels) for s in val.samples}
    assert evaluate(val, exact).map == 1


def test_ids_of_usual_size_stay(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path, None, _renumbered(coco(2, 100), MAX_ID - 1000))
    assert [s.id for s in open_data(folder).val.samples] == [MAX_ID - 900, MAX_ID - 895]


@pytest.mark.parametrize("absolute", [False, True])
def test_an_image_outside_the_data_set_is_told(tmp_path: Path, absolute: bool) -> None:
    outside = write_image(tmp_path / "secret.jpg")
    train = coco()
    train["images"][0]["file_name"] = str(outside) if absolute else "../../secret.jpg"
    folder = coco_folder(tmp_path / "shop", coco())
    (folder / "train.json").write_text(json.dumps(train))
    data = open_data(folder).train
    assert data.problems.counts == {"image outside the data set": 1}
    (problem,) = data.problems
    assert "leads out of" in problem.message and str(folder) in problem.message


def test_images_of_a_neighbouring_folder_of_the_set_are_inside(tmp_path: Path) -> None:
    train = coco()
    for entry in train["images"]:
        entry["file_name"] = f"../images/{entry['file_name']}"
    folder = coco_folder(tmp_path, coco())
    (folder / "train.json").write_text(json.dumps(train))
    (folder / "train").mkdir()
    write_image(folder / "train" / "x.jpg")
    assert not open_data(folder).train.problems


@pytest.mark.parametrize("name", ["instances_Train.json", "instances_TRAIN2017.json", "Train.json"])
def test_names_of_labelling_tools(tmp_path: Path, name: str) -> None:
    folder = coco_folder(tmp_path)
    (folder / "annotations").mkdir()
    (folder / "train.json").rename(folder / "annotations" / name)
    (folder / "val.json").rename(folder / "annotations" / name.replace("rain", "est").replace("RAIN", "EST"))
    (folder / "annotations" / name.replace("rain", "est").replace("RAIN", "EST")).rename(
        folder / "annotations" / ("Validation.json" if name == "Train.json" else "instances_Validation.json")
    )
    pair = open_data(folder)
    assert (len(pair.train), len(pair.val)) == (3, 2)


def _one_json(root: Path) -> None:
    folder = coco_folder(root)
    (folder / "annotations").mkdir()
    (folder / "train.json").rename(folder / "annotations" / "instances_default.json")
    (folder / "val.json").unlink()


def _one_list(root: Path) -> None:
    folder = voc_folder(root) / "ImageSets" / "Main"
    (folder / "train.txt").rename(folder / "default.txt")
    (folder / "val.txt").unlink()


def _one_folder(root: Path) -> None:
    write_image(root / "images" / "a.jpg")
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text("0 .5 .5 .1 .1\n")
    (root / "classes.txt").write_text("cat\n")


UNSPLIT: dict[str, tuple[Callable[[Path], None], str]] = {
    "coco": (_one_json, r"instances_default.json has no name of a split: divide it into train.json and val.json"),
    "voc": (_one_list, r"default.txt is no list of a split: write ImageSets/Main/train.txt and val.txt"),
    "yolo": (_one_folder, r"labels has labels without splits: divide them into images/train, images/val"),
}


@pytest.mark.parametrize("case", UNSPLIT)
def test_annotations_without_a_split_name_the_way_out(tmp_path: Path, case: str) -> None:
    build, message = UNSPLIT[case]
    build(tmp_path)
    with pytest.raises(InputError, match=message):
        open_data(tmp_path)


@pytest.mark.parametrize(
    "make, name",
    [
        (coco_folder, "train.json"),
        (coco_folder, "images/1.jpg"),
        (voc_folder, "Annotations/a.xml"),
        (voc_folder, "ImageSets/Main/train.txt"),
        (yolo_folder, "labels/train/0.txt"),
    ],
)
def test_one_file_of_a_data_set_names_its_folder(tmp_path: Path, make: Callable[[Path], Path], name: str) -> None:
    root = make(tmp_path / "shop")
    with pytest.raises(InputError) as error:
        open_data(root / name)
    assert str(error.value) == (
        f"{root / name} is one file of a data set; expected its folder or a yaml; did you mean {root}?"
    )


# --- YOLO: what columns mean, where labels and images are


@pytest.mark.parametrize("shape", [[2, 2], [3, 2], [4, 3], [17, 3]])
def test_key_points_are_no_outlines(tmp_path: Path, shape: list[int]) -> None:
    points = " 0.9 0.9" * (shape[0] * shape[1] // 2) + " 2" * (shape[0] * shape[1] % 2)
    root = yolo_folder(tmp_path, f"0 0.5 0.5 0.5 0.5{points}\n1 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2 0.1 0.1\n")
    with (root / "data.yaml").open("a") as file:
        file.write(f"kpt_shape: {shape}\n")
    data = open_data(root).train
    np.testing.assert_allclose(data.samples[0].boxes, np.array([[10, 7.5, 30, 22.5], [16, 12, 24, 18]]), rtol=1e-6)
    assert data.problems.counts == {"malformed label line": 2} and not data.remarks()


@pytest.mark.parametrize("shape", ["17", "[17]", "[17, 4]", "[a, 2]", "[[17], 3]", "{17: 3}", "[99999999999, 3]"])
def test_a_malformed_shape_of_key_points(tmp_path: Path, shape: str) -> None:
    root = yolo_folder(tmp_path)
    with (root / "data.yaml").open("a") as file:
        file.write(f"kpt_shape: {shape}\n")
    with pytest.raises(InputError, match=r"kpt_shape is .*; expected \[number of key points, 2 or 3\]"):
        open_data(root)


def test_lines_of_a_tracker_are_malformed(tmp_path: Path) -> None:
    lines = "".join(f"0 0.5 0.5 0.2 0.2 0.9{i} {i}\n" for i in range(1, 6))
    data = open_data(yolo_folder(tmp_path, f"0 0.5 0.5 0.5 0.5\n{lines}")).train
    assert data.problems.counts == {"malformed label line": 10} and data.boxes == 2
    assert "a tracker's class, box, confidence, id?" in next(iter(data.problems)).message


def test_an_outline_in_pixels_is_malformed_and_one_reaching_out_is_clipped(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path, "0 0.5 0.5 0.5 0.5\n0 10 10 30 10 20 25\n1 -0.1 0.5 0.5 1.2 0.9 0.3 0.5 0.5\n")
    data = open_data(root).train
    assert data.problems.counts == {"malformed label line": 2, "box reaching out of the image": 2}
    assert data.remarks() == ["2 of 4 label lines are outlines, of which the enclosing box is taken"]


def test_only_triangles_are_told(tmp_path: Path) -> None:
    (remark,) = open_data(yolo_folder(tmp_path, train="0 0.25 0.1 0.75 0.5 0.5 0.9\n")).train.remarks()
    assert remark.startswith("all 2 label lines have 7 columns and are read as outlines of three points")


def test_labels_beside_the_images_of_a_folder_called_images(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path)
    (root / "labels" / "train" / "0.txt").rename(root / "images" / "train" / "0.txt")
    data = open_data(root).train
    assert data.boxes == 2 and not data.problems and not data.remarks()
    assert not len(check(root).problems["files"])


def test_images_without_label_files_are_told_in_one_line(tmp_path: Path) -> None:
    root, lines = yolo_folder(tmp_path), list[str]()
    (root / "labels" / "train" / "0.txt").unlink()
    open_data(root, on_problem=lines.append)
    assert lines == ["train: 1 of 2 images have no label file and are taken to show nothing"]


@pytest.mark.parametrize("folder", [".ipynb_checkpoints", "@eaDir", "__MACOSX", "$RECYCLE.BIN", ".hidden"])
def test_folders_of_other_programs_are_passed_over_and_told(tmp_path: Path, folder: str) -> None:
    root, lines = yolo_folder(tmp_path), list[str]()
    write_image(root / "images" / "train" / folder / "0-checkpoint.png")
    data = open_data(root, on_problem=lines.append).train
    assert len(data) == 2
    assert lines == [f"train: folders that were passed over: {root / 'images' / 'train' / folder}"]
    assert any("passed over" in line for line in check(root).lines())


def test_linked_folders_are_searched_once(tmp_path: Path) -> None:
    images, elsewhere = tmp_path / "images", tmp_path / "elsewhere"
    write_image(images / "b" / "0.png")
    write_image(elsewhere / "1.png")
    (images / "linked").symlink_to(elsewhere)
    (images / "a").symlink_to(images / "b")  # what is there twice counts once, where it is
    (images / "b" / "loop").symlink_to(images)
    (images / "self").symlink_to(images / "self")
    assert [str(p.relative_to(images)) for p in images_in(images)] == ["b/0.png", "linked/1.png"]
    found = walk(images, lambda name: name.endswith(".png"), recursive=False)
    assert not found.files


def test_half_of_the_images_behind_a_link(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path)
    for part in ("images", "labels"):
        (root / part / "train").rename(tmp_path / part / "moved")
        (root / part / "train").mkdir()
        (root / part / "train" / "part").symlink_to(tmp_path / part / "moved")
    data = open_data(root).train
    assert (len(data), data.boxes) == (2, 2)


def test_images_behind_links_out_of_the_data_set_are_counted(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path / "set")
    shutil.move(root / "images" / "train", tmp_path / "elsewhere")
    (root / "images" / "train").symlink_to(tmp_path / "elsewhere")
    (line,) = [line for line in check(root).lines() if "reached by links" in line]
    count = len(open_data(root).train)
    assert line.startswith(f"train: {count} images reached by links out of {root}, all are used, first {root}")


def test_images_behind_links_within_the_data_set_are_not_outside(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path)
    image = root / "images" / "train" / "0.png"
    image.rename(root / "kept.png")
    image.symlink_to(root / "kept.png")
    (tmp_path / "alias").symlink_to(root)
    for place in (root, tmp_path / "alias"):  # the folder itself may be a link
        assert not any("reached by links" in line for line in check(place).lines())


def test_a_folder_of_a_data_set_names_the_data_set(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path)
    for part in ("labels", "labels/train", "images", "images/train"):
        with pytest.raises(InputError, match="is one folder of a data set; expected its folder or a yaml") as error:
            open_data(root / part)
        assert f"did you mean {root}?" in str(error.value)


def test_image_lists_name_files_of_any_bytes(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path)
    name = os.fsdecode(b"z\xe9")
    (root / "images" / "train" / "0.png").rename(root / "images" / "train" / f"{name}.png")
    (root / "labels" / "train" / "0.txt").rename(root / "labels" / "train" / f"{name}.txt")
    (root / "all.txt").write_bytes(b"images/train/z\xe9.png\n..\n/\n\x00\n")
    (root / "data.yaml").write_text("train: all.txt\nval: images/val\nnames: [cat, dog]\n")
    data = open_data(root).train
    assert [s.path.name for s in data.samples] == [f"{name}.png"] and data.boxes == 1


# --- yaml: names as written, nothing unfolded


@pytest.mark.parametrize(
    "names, classes",
    [
        ("[no, yes]", ("no", "yes")),
        ("[on, Off]", ("on", "Off")),
        ("[010, 0x10]", ("010", "0x10")),
        ("[12:30, 1_000]", ("12:30", "1_000")),
        ("[2024-01-01, 1e3]", ("2024-01-01", "1e3")),
        ("[null, ~]", ("null", "~")),
        ("['1', \"2\"]", ("1", "2")),
        ("[1.0, .5]", ("1.0", ".5")),
        ("{0: no, 1: yes}", ("no", "yes")),
        ("{'1': yes, '0': no}", ("no", "yes")),
        ("&n [no, yes]\nnames: *n", ("no", "yes")),
    ],
)
def test_class_names_are_as_written(tmp_path: Path, names: str, classes: tuple[str, ...]) -> None:
    root = yolo_folder(tmp_path)
    head = "other" if names.startswith("&") else "names"
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\n{head}: {names}\nnc: '2'\n")
    assert open_data(root).classes == classes


def test_defaults_by_a_merge_key(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path)
    (root / "data.yaml").write_text(
        "base: &base {train: images/val, val: images/val}\n<<: *base\ntrain: images/train\nnames: [cat, dog]\n"
    )
    pair = open_data(root)
    assert (pair.train.boxes, pair.val.boxes) == (2, 2) and not pair.problems()


BOMB = "\n".join(
    [
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]",
        *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)),
    ]
)


@pytest.mark.parametrize("key", ["train", "val", "path", "nc", "names", "kpt_shape", "test", "train_json", "images"])
@pytest.mark.parametrize("loop", [False, True])
def test_aliases_are_never_unfolded(tmp_path: Path, key: str, loop: bool) -> None:
    root = coco_folder(yolo_folder(tmp_path / "shop")) if key in ("train_json", "images") else yolo_folder(tmp_path)
    entries = (
        {"train_json": "train.json", "val_json": "val.json", "images": "images"}
        if key in ("train_json", "images")
        else {"train": "images/train", "val": "images/val", "names": "[cat, dog]"}
    )
    entries[key] = f"&l [*l, *l]\n{key}: [*l]" if loop else "*a29"
    (root / "data.yaml").write_text(BOMB + "\n" + "".join(f"{k}: {v}\n" for k, v in entries.items()))
    with pytest.raises(InputError) as error:  # unfolded, the list would have 10^29 parts: the test would not end
        open_data(root / "data.yaml")
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "? " * 100_000, "a: *nothing", "a: 1\n---\nb: 2", "[a]: 1"],
)
def test_yaml_out_of_bounds_is_refused(tmp_path: Path, text: str) -> None:
    root = yolo_folder(tmp_path)
    (root / "data.yaml").write_text(text)
    with pytest.raises(InputError, match=r"data.yaml is not yaml \("):
        open_data(root)


# --- numbers and names of any count


def test_a_class_number_does_not_size_memory(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path, train="0 0.5 0.5 0.5 0.5\n20000000 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").unlink()
    data = open_data(root).train
    assert data.classes == ("0", "1") and data.problems.counts == {"annotation of an unknown class": 2}


def _many_yolo(root: Path, names: list[str]) -> None:
    yolo_folder(root, "29999 0.5 0.5 0.5 0.5\n" * 100, "1 0.5 0.5 0.5 0.5\n30001 0.5 0.5 0.5 0.5\n" * 50, names)


def _many_coco(root: Path, names: list[str]) -> None:
    train, val = coco(), coco(2, 100)
    for content in (train, val):
        content["categories"] = [{"id": i, "name": name} for i, name in enumerate(names)]
        content["annotations"] += [{**content["annotations"][0], "category_id": 99999} for _ in range(100)]
    coco_folder(root, train, val)


def _many_voc(root: Path, names: list[str]) -> None:
    text = voc_xml(*(voc_object(name) for name in names[:3000]), *(voc_object("none") for _ in range(100)))
    voc_folder(root, {"train": {"a": text}, "val": {"b": text}})
    (root / "classes.txt").write_text("\n".join(names))


@pytest.mark.parametrize("build", [_many_yolo, _many_coco, _many_voc])
def test_30000_classes_take_no_quadratic_time(tmp_path: Path, build: Callable[[Path, list[str]], None]) -> None:
    build(tmp_path, [f"class number {i}" for i in range(30_000)])
    start = time.process_time()
    pair = open_data(tmp_path)
    assert len(pair.classes) == 30_000
    list(check(tmp_path).lines())
    assert time.process_time() - start < 6


def test_too_many_classes_are_refused(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path)
    content = coco()
    content["categories"] = [*CATEGORIES, *({"id": 10 + i, "name": f"c{i}"} for i in range(100_000))]
    (folder / "train.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="100002 classes; expected at most 100000"):
        open_data(folder)


@pytest.mark.parametrize("where", ["classes", "twice", "order", "names"])
def test_many_or_long_names_make_no_long_error(tmp_path: Path, where: str) -> None:
    train, val = coco(), coco(2, 100)
    more = [{"id": 10 + i, "name": f"{'x' * 1000}{i}"} for i in range(1000)]
    if where == "twice":
        train["categories"] = [{"id": 1, "name": "y" * 10**6}, {"id": 2, "name": "y" * 10**6}]
    elif where == "names":
        train["images"].append({"id": 1, "file_name": "z" * 10**6})
    else:
        train["categories"] = [*CATEGORIES, *more]
    folder = coco_folder(tmp_path, coco(), val)
    (folder / "train.json").write_text(json.dumps(train))
    if where == "order":
        pair = open_data(
            coco_folder(
                tmp_path / "other",
                {**coco(), "categories": more + CATEGORIES},
                {**val, "categories": more + CATEGORIES},
            )
        )
        pair.val.classes = pair.val.classes[::-1]
        with pytest.raises(InputError) as error:
            DataPair("x", pair.train, pair.val)
    else:
        with pytest.raises(InputError) as error:
            open_data(folder)
    assert len(str(error.value)) < 2500


def test_examples_of_problems_are_clipped() -> None:
    problems = Problems()
    problems.add("kind", "w" * 10**6, "m" * 10**6)
    (problem,) = problems
    assert len(problem.where) == len(problem.message) == MAX_LENGTH


def test_class_names_are_unicode_text(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path)
    for split in ("train", "val"):
        path = folder / f"{split}.json"
        path.write_text(path.read_text().replace('"cat"', '"c\\ud800t"'))
    with pytest.raises(InputError, match=r"has a class 'c\\\\?ud800t'; expected class names of Unicode text"):
        open_data(folder)


# --- images and words


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_12_bits_in_16_are_not_black(tmp_path: Path, suffix: str, channels: int) -> None:
    shape: Any = (20, 30) if channels == 1 else (20, 30, 3)
    pixels = np.random.default_rng(0).integers(0, 4096, shape, np.uint16)
    assert cv2.imwrite(str(tmp_path / f"a{suffix}"), pixels)
    rgb = read_image(tmp_path / f"a{suffix}")
    expected = (pixels[:, :, None].repeat(3, 2) if channels == 1 else pixels[:, :, ::-1]) >> 4
    np.testing.assert_array_equal(rgb, expected)


def test_16_bits_and_dark_images_of_8_bits_stay(tmp_path: Path) -> None:
    deep = np.full((20, 30, 3), 4096, np.uint16)
    dark = np.full((20, 30, 3), 9, np.uint8)
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    cv2.imwrite(str(tmp_path / "dark.png"), dark)
    assert (read_image(tmp_path / "deep.png") == 16).all() and (read_image(tmp_path / "dark.png") == 9).all()


def test_counts_agree_with_their_nouns(tmp_path: Path) -> None:
    train, val = coco(1), coco(1, 100)
    for content in (train, val):
        content["categories"] = [{"id": 7, "name": "dog"}]
    lines = list(check(coco_folder(tmp_path, train, val)).lines())
    assert lines[0].endswith("COCO, 1 class") and "train: 1 image, 1 box" in lines


def test_the_verdict_of_an_unusable_set_does_not_end_well(tmp_path: Path) -> None:
    train = coco()
    train["annotations"].clear()
    line = list(check(coco_folder(tmp_path, train)).lines())[-1]
    assert line.startswith("not usable: the train split") and "no problem" not in line


@pytest.mark.parametrize("entry", ["../other/images", "list.txt", "[images/train, ../other/images]"])
def test_yolo_images_outside_the_set_are_used_and_reported(entry: str, tmp_path: Path) -> None:
    folder, other = tmp_path / "shop", tmp_path / "other"
    for place in (folder / "images" / "train", folder / "images" / "val", other / "images"):
        place.mkdir(parents=True)
        write_image(place / f"{place.parent.name}.jpg")
    for place in (folder / "labels" / "train", folder / "labels" / "val", other / "labels"):
        place.mkdir(parents=True)
        for name in ("images", "other"):
            (place / f"{name}.txt").write_text("0 .5 .5 .2 .2\n")
    (folder / "list.txt").write_text("images/train/images.jpg\n../other/images/other.jpg\n")
    (folder / "data.yaml").write_text(f"train: {entry}\nval: images/val\nnames: [a]\n")
    pair = open_data(folder / "data.yaml")
    told = [*pair.train.problems.notes, *(p.message for p in pair.train.problems)]
    assert any(f"{folder}" in line and ("outside" in line or "leads out of" in line) for line in told), told
    assert not [line for line in pair.val.problems.notes if "outside" in line]
    assert any("other.jpg" in str(sample) for sample in pair.train.samples)
