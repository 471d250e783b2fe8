"""Pipes, devices and endless files in a data set: named and left out like any broken file, at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nas.data.source import open_data
from search_spaces.errors import InputError
from tests._data import coco_folder, voc_folder, yolo_folder

ZERO = Path("/dev/zero")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to(ZERO)


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 42)  # takes no space


ODD: dict[str, tuple[Callable[[Path], None], str]] = {
    "pipe": (_pipe, "is a named pipe and no regular file"),
    "device": (_device, "is a device and no regular file"),
    "huge": (_huge, "is larger than"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("make, name", [(coco_folder, "images/2.jpg"), (voc_folder, "JPEGImages/a.jpg")])
def test_as_an_image_it_is_broken(tmp_path: Path, make: Callable[[Path], Path], name: str, kind: str) -> None:
    put, reason = ODD[kind]
    path = make(tmp_path) / name
    path.unlink()
    put(path)
    data = open_data(tmp_path).train
    assert data.problems.counts == {"broken image": 1}
    assert reason in next(iter(data.problems)).message


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize(
    "make, name",
    [
        (coco_folder, "train.json"),
        (coco_folder, "val.json"),
        (yolo_folder, "data.yaml"),
        (voc_folder, "ImageSets/Main/train.txt"),
        (voc_folder, "classes.txt"),
    ],
)
def test_as_a_description_it_is_an_error(tmp_path: Path, make: Callable[[Path], Path], name: str, kind: str) -> None:
    put, reason = ODD[kind]
    path = make(tmp_path) / name
    path.unlink(missing_ok=True)
    put(path)
    with pytest.raises(InputError) as error:
        open_data(tmp_path)
    assert reason in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("make, name", [(yolo_folder, "labels/train/0.txt"), (voc_folder, "Annotations/a.xml")])
def test_as_the_labels_of_one_image_it_is_named(
    tmp_path: Path, make: Callable[[Path], Path], name: str, kind: str
) -> None:
    put, reason = ODD[kind]
    path = make(tmp_path) / name
    path.unlink()
    put(path)
    data = open_data(tmp_path).train
    (problem,) = data.problems
    assert reason in problem.message and "skipped" in problem.message and len(data) == 1


def test_a_huge_regular_image_of_zeros_is_not_read(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path)
    path = folder / "images" / "1.jpg"
    shutil.copy(path, folder / "images" / "kept.jpg")
    with path.open("ab") as file:
        file.truncate(1 << 42)
    assert open_data(folder).train.problems.counts == {"broken image": 1}
