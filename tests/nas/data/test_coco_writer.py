"""The one writer of COCO objects: what it writes is read again, whatever the names and numbers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from nas.data.coco_reader import read_coco
from nas.data.coco_writer import CocoWriter
from nas.data.source import open_data
from nas.data.write import write_coco
from search_spaces.errors import InputError
from search_spaces.text import json_text
from tests._data import coco, coco_folder, write_image


def test_content_is_coco() -> None:
    writer = CocoWriter(["cat", "dog"], {"description": "two images"})
    assert writer.add("a.jpg", (40, 30), [[1, 2, 4, 6], [0, 0, 40, 30]], [1, 0], crowd=[False, True]) == 1
    assert writer.add("b.jpg", (40, 30), [], []) == 2
    assert writer.add("c.jpg", (40, 30), [[1, 2, 4, 6]], [1], areas=[7], scores=[0.5], id=9) == 9
    assert writer.content() == {
        "info": {"description": "two images"},
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 40, "height": 30},
            {"id": 2, "file_name": "b.jpg", "width": 40, "height": 30},
            {"id": 9, "file_name": "c.jpg", "width": 40, "height": 30},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [0, 0, 40, 30], "area": 1200, "iscrowd": 1},
            {"id": 3, "image_id": 9, "category_id": 2, "bbox": [1, 2, 3, 4], "area": 7, "iscrowd": 0, "score": 0.5},
        ],
    }
    assert json.loads(writer.text()) == writer.content()


@pytest.mark.parametrize("spoiled", [{"boxes": [[0, 0, np.nan, 1]]}, {"areas": [np.inf]}, {"scores": [np.nan]}])
def test_what_is_not_finite_is_refused(spoiled: dict[str, list[float]]) -> None:
    good: dict[str, list[object]] = {"boxes": [[0, 0, 1, 1]], "areas": [1], "scores": [0.5]}
    with pytest.raises(InputError, match=r"a box, area or score of a.jpg is not finite"):
        CocoWriter(["cat"]).add("a.jpg", (4, 3), labels=[0], **{**good, **spoiled})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["ä.jpg", "猫.jpg", os.fsdecode(b"z\xe9.jpg"), '"\n.jpg'])
def test_any_file_name_comes_through(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "a.jpg").rename(tmp_path / name)
    writer = CocoWriter(["cat"])
    writer.add(name, (40, 30), [[1, 2, 4, 6]], [0])
    (tmp_path / "a.json").write_text(writer.text(), "utf-8")
    data = read_coco(tmp_path / "a.json", [tmp_path], name="a", split="train")
    assert data.samples[0].path == tmp_path / name and not data.problems


def test_readable_where_it_can_be() -> None:
    assert json_text({"a": "ä"}) == '{"a": "ä"}' and json.loads(json_text(["\udce9", "ä"])) == ["\udce9", "ä"]


def test_a_data_set_with_a_name_that_is_not_unicode_is_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"z\xe9.jpg")
    train = coco()
    train["images"][0]["file_name"] = name
    (tmp_path / "a").mkdir()
    write_image(tmp_path / "a" / "images" / "x.jpg").rename(tmp_path / "a" / "images" / name)
    val = coco(2, 100)
    for content in (train, val):
        for image in content["images"]:
            if image["file_name"] != name:
                write_image(tmp_path / "a" / "images" / image["file_name"])
    for split, content in (("train", train), ("val", val)):
        (tmp_path / "a" / f"{split}.json").write_text(json.dumps(content))
    write_coco(tmp_path / "a", tmp_path / "b")
    data = open_data(tmp_path / "b")
    assert data.fingerprint == open_data(tmp_path / "a").fingerprint
    assert data.train.samples[0].path.name == name and not data.problems()


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    data = open_data(coco_folder(tmp_path / "a")).train
    names = {s.id: f"images/{s.path.name}" for s in data.samples}
    (tmp_path / "a" / "again.json").write_text(data.coco(names).text())
    again = read_coco(tmp_path / "a" / "again.json", [tmp_path / "a"], name="again", split="train")
    assert again.fingerprint == data.fingerprint
