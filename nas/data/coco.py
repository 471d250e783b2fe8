"""COCO json: {"images": [...], "annotations": [...], "categories": [...]}, boxes as [x, y, width, height] in pixels
(cocodataset.org: format)."""

from __future__ import annotations

import json
import os
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from nas.data import yaml_files as yamls
from nas.data.dataset import Annotation, DetectionDataset, Sample, choose, make_sample, same_classes
from nas.data.formats import SPLITS, DataFormat, split_files, whole
from nas.data.images import BrokenImage, annotated_size, images_in
from nas.data.problems import Problems
from search_spaces.errors import InputError
from search_spaces.foreign_files import UnreadableFile, read_bytes

_PARTS = ("images", "annotations", "categories")
_LAYOUTS = (
    "{split}.json",
    "annotations/{split}.json",
    "{split}/_annotations.coco.json",
    "annotations/instances_{split}*.json",
)

MAX_BYTES = 4 << 30
"""Of one json. The largest public sets (Objects365, Open Images) have 1 to 3 GB."""

Files = tuple[Path, list[Path]]
"""A COCO json and the folders where its images may be, the likeliest first."""


class Coco(DataFormat):
    """A json for each split, found by name or named by a yaml."""

    kind = "COCO"
    looked_for = (
        "train.json and val.json, annotations/instances_train*.json and instances_val*.json, train/_annotations.coco.json and valid/_annotations.coco.json,"
        " or a yaml with train_json and val_json (COCO)"
    )

    def __init__(self, name: str, files: Mapping[str, Files]) -> None:
        super().__init__(name, files)
        self._files = files

    @classmethod
    def find(cls, path: Path) -> Coco | None:
        if path.is_dir() and (found := whole([split_files(path, layout) for layout in _LAYOUTS])):
            return cls(
                path.resolve().name, {split: (file, _image_folders(path, file)) for split, file in found.items()}
            )
        described = yamls.yamls_in(path)
        return cls._described(described[0]) if len(described) == 1 else None

    @classmethod
    def _described(cls, path: Path) -> Coco | None:
        try:
            content = yamls.load_yaml(path)
        except InputError:  # YOLO, which most yamls are for, complains
            return None
        keys = {split: f"{split}_json" for split in SPLITS}
        if not any(key in content for key in keys.values()):
            return None
        yamls.need(content, path, keys["train"], keys["val"])
        root = yamls.root_of(content, path)
        return cls(
            yamls.name_of(path),
            {split: _yaml_files(content, split, root) for split, key in keys.items() if content.get(key)},
        )

    def read(self, split: str, limit: int | None = None) -> DetectionDataset:
        file, folders = self._files[split]
        leads = split == self.splits[0]
        data = read_coco(
            file, folders, name=self.name, split=split, classes=None if leads else self._classes, limit=limit
        )
        if leads:
            self.__dict__["_classes"] = data.classes  # a json of hundreds of megabytes is not read again for them
        return data

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        """Those of the first split, which the others must share."""
        file, _ = self._files[self.splits[0]]
        categories = _categories(load_json(file)["categories"], file)
        return tuple(categories[id] for id in sorted(categories))

    def strays(self) -> Problems:
        """Images beside the listed ones."""
        problems, looked, listed = Problems(), set[Path](), set[Path]()
        for file, folders in self._files.values():
            images = [
                entry
                for entry in load_json(file)["images"]
                if isinstance(entry, dict) and isinstance(entry.get("file_name"), str)
            ]
            folder = _folder(images, folders, file)
            looked.add(folder)
            listed.update(_located(folder, image["file_name"]) for image in images)
        for path in sorted({path for folder in looked for path in images_in(folder)} - listed):
            problems.add("image without annotations", path, "in no json, not used")
        return problems


def read_coco(
    annotations: Path,
    folders: Sequence[Path],
    *,
    name: str,
    split: str,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
) -> DetectionDataset:
    """One split. Images are looked for in the first of ``folders`` that has any of them.

    Classes are the categories in the order of their ids, or in the order of ``classes`` (those of the train split),
    which must be the same set.
    """
    content = load_json(annotations)
    categories = _categories(content["categories"], annotations)
    names = [categories[id] for id in sorted(categories)]
    if classes is not None:
        same_classes(classes, names, split)
    names = list(names if classes is None else classes)
    problems = Problems()
    images = _images(content["images"], annotations, problems)
    folder = _folder(images, folders, annotations)
    labels = {id: names.index(category) for id, category in categories.items()}
    objects = _annotations(content["annotations"], {i["id"] for i in images}, labels, annotations, problems)
    samples = []
    for index in choose(len(images), limit):
        sample = _sample(images[index], folder, objects.get(images[index]["id"], []), annotations, problems)
        if sample is not None:
            samples.append(sample)
    return DetectionDataset(name, split, names, samples, problems)


def load_json(path: Path) -> dict[str, Any]:
    """The content of a COCO file, its three lists checked to be lists."""
    try:
        content = json.loads(read_bytes(path, MAX_BYTES))
    except UnreadableFile as error:
        got = f"no annotation file {path}" if error.missing else f"cannot read {path} ({error.reason})"
        raise InputError(got, "a COCO json") from None
    except (ValueError, RecursionError) as error:  # the first is JSONDecodeError and UnicodeDecodeError alike
        raise InputError(f"{path} is not JSON ({error})", "a COCO json") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}", f"a COCO object with {', '.join(_PARTS)}")
    if lacking := [part for part in _PARTS if not isinstance(content.get(part), list)]:
        raise InputError(f"{path} has no list of {' and of '.join(lacking)}", f"a COCO object with {', '.join(_PARTS)}")
    return content


def _categories(entries: list[Any], path: Path) -> dict[int, str]:
    """Category id -> name."""
    table: dict[int, str] = {}
    for entry in entries:
        if not isinstance(entry, dict) or not _is_id(entry.get("id")) or not isinstance(entry.get("name"), str):
            raise InputError(f"{path}: category {_short(entry)}", "an object with an integer id and a name")
        if entry["id"] in table or entry["name"] in table.values():
            raise InputError(
                f"{path}: category {entry['id']} ({entry['name']}) stands there twice", "every category once"
            )
        table[entry["id"]] = entry["name"]
    if not table:
        raise InputError(f"{path} has no category", "at least one")
    return table


def _images(entries: list[Any], path: Path, problems: Problems) -> list[dict[str, Any]]:
    images: dict[int, dict[str, Any]] = {}
    for entry in entries:
        if not isinstance(entry, dict) or not _is_id(entry.get("id")) or not isinstance(entry.get("file_name"), str):
            problems.add(
                "malformed image entry", path, f"image {_short(entry)} lacks an integer id or a file_name, skipped"
            )
        elif entry["id"] in images:
            twice = (images[entry["id"]]["file_name"], entry["file_name"])
            raise InputError(f"{path}: image id {entry['id']} is of {twice[0]} and of {twice[1]}", "every id once")
        else:
            images[entry["id"]] = entry
    if not images:
        raise InputError(f"{path} has no images", "at least one entry under images")
    return list(images.values())


def _annotations(
    entries: list[Any], images: set[int], labels: dict[int, int], path: Path, problems: Problems
) -> dict[int, list[Annotation]]:
    """Image id -> its objects. A crowd's run-length mask is not read: its box and the flag say all that evaluation
    needs."""
    objects: dict[int, list[Annotation]] = defaultdict(list)
    for entry in entries:
        box = entry.get("bbox") if isinstance(entry, dict) else None
        if not isinstance(box, list) or len(box) != 4 or not all(_is_number(v) for v in box):
            problems.add(
                "annotation without a box", path, f"annotation {_short(entry)} has no bbox of 4 numbers, skipped"
            )
        elif entry.get("image_id") not in images:
            problems.add(
                "annotation of an unknown image",
                path,
                f"annotation {_short(entry)} is of image {entry.get('image_id')}, skipped",
            )
        elif entry.get("category_id") not in labels:
            problems.add(
                "annotation of an unknown class",
                path,
                f"annotation {_short(entry)} has category {entry.get('category_id')}, known are {_short(sorted(labels))}, skipped",
            )
        else:
            x, y, width, height = (float(v) for v in box)
            area = float(entry["area"]) if _is_number(entry.get("area")) and entry["area"] > 0 else None
            label = labels[entry["category_id"]]
            score = float(entry["score"]) if _is_number(entry.get("score")) else 1.0
            objects[entry["image_id"]].append(
                Annotation((x, y, x + width, y + height), label, bool(entry.get("iscrowd")), area, score)
            )
    return objects


def _folder(images: list[dict[str, Any]], folders: Sequence[Path], path: Path) -> Path:
    """The first folder that has one of the images. All names are tried before giving up: a few missing ones must
    not hide the rest."""
    for folder in folders:
        if folder.is_dir() and any(os.path.isfile(_located(folder, image["file_name"])) for image in images):
            return folder
    looked = ", ".join(str(folder) for folder in folders)
    first = images[0]["file_name"] if images else "images"
    raise InputError(f"none of the {len(images)} images of {path} found", f"{first} in one of {looked}")


def _located(folder: Path, name: str) -> Path:
    """The file of that name, also where the json was written on a system that separates by ``\\`` or composes accents
    otherwise."""
    slashes = name.replace("\\", "/")
    names = (name, slashes, unicodedata.normalize("NFC", slashes), unicodedata.normalize("NFD", slashes))
    return folder / next((form for form in names if os.path.exists(folder / form)), name)


def _image_folders(folder: Path, annotations: Path) -> list[Path]:
    """Where the images of a COCO json in ``folder`` may be: in a folder called as its split, or in one for all."""
    split = annotations.parent.name if annotations.stem.startswith("_") else annotations.stem.removeprefix("instances_")
    return [folder / "images" / split, folder / split, folder / "images", folder]


def _yaml_files(content: Mapping[str, Any], split: str, root: Path) -> Files:
    annotations = root / str(content[f"{split}_json"])
    folders = [root / str(content[key]) for key in (f"{split}_images", "images") if content.get(key)]
    return annotations, folders or [*_image_folders(root, annotations), annotations.parent]


def _sample(
    image: dict[str, Any], folder: Path, objects: list[Annotation], json_path: Path, problems: Problems
) -> Sample | None:
    path = _located(folder, image["file_name"])
    try:
        size = annotated_size(path, image.get("width"), image.get("height"))
    except BrokenImage as error:
        problems.add("broken image" if os.path.exists(path) else "missing image", path, f"{error.reason}, skipped")
        return None
    return make_sample(image["id"], path, size, objects, problems, where=f"{json_path.name}, {image['file_name']}")


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _short(value: object) -> str:
    """An entry of a file for one line of an error."""
    if isinstance(value, dict):
        value = {k: v for k, v in value.items() if k != "segmentation"}
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
