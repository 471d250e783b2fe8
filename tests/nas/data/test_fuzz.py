"""Mutated data sets: whatever stands in a file, reading it ends in a data set or in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nas.data.source import DataPair, open_data
from tests._data import coco, coco_folder, voc_folder, yolo_folder
from tests._fuzz import bounded, json_bytes, json_mutations, mutations

COUNT = 300


def opened(folder: Path) -> DataPair:
    """A data set with everything that a training reads of it at its start."""
    data = open_data(folder)
    assert len(data.fingerprint) == 16 and all("\n" not in line for line in (*data.problems(), *data.remarks()))
    for split in (data.train, data.val):
        for sample in split.samples:
            assert (sample.boxes >= 0).all() and (sample.boxes[:, 2:] <= (sample.width, sample.height)).all()
            assert ((sample.scores >= 0) & (sample.scores <= 1)).all() and (sample.areas < 1e13).all()
    return data


@pytest.mark.parametrize("seed", [0, 1])
def test_coco_with_other_values(tmp_path: Path, seed: int) -> None:
    folder = coco_folder(tmp_path)
    used = 0
    for content in json_mutations(coco(), COUNT // 2, seed):
        (folder / "train.json").write_bytes(json_bytes(content))
        with bounded():
            used += opened(folder) is not None
    assert COUNT // 10 < used < COUNT // 2, "mutations that spoil nothing, or everything, test nothing"


@pytest.mark.parametrize(
    "make, name",
    [
        (coco_folder, "train.json"),
        (yolo_folder, "labels/train/0.txt"),
        (yolo_folder, "data.yaml"),
        (voc_folder, "Annotations/a.xml"),
        (voc_folder, "ImageSets/Main/train.txt"),
    ],
)
def test_mutated_text(tmp_path: Path, make: Callable[[Path], Path], name: str) -> None:
    folder = make(tmp_path)
    path = folder / name
    used = 0
    for content in mutations(path.read_bytes(), COUNT, 0):
        path.write_bytes(content)
        with bounded():
            used += opened(folder) is not None
    assert used > COUNT // 100


def test_mutated_labels_without_class_names(tmp_path: Path) -> None:
    folder = yolo_folder(tmp_path, train="0 0.5 0.5 0.5 0.5\n1 0.1 0.1 0.1 0.4 0.4 0.4\n")
    (folder / "data.yaml").unlink()
    path = folder / "labels" / "train" / "0.txt"
    for content in mutations(path.read_bytes(), COUNT, 0):
        path.write_bytes(content)
        with bounded():
            opened(folder)


def test_mutated_images(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path)
    path = folder / "images" / "1.jpg"
    for content in mutations(path.read_bytes(), 60, 0):
        path.write_bytes(content)
        with bounded():
            data = open_data(folder).train
            if len(data) == 3:
                data.load(0)
