"""COCO json: {"images": [...], "annotations": [...], "categories": [...]}, boxes as [x, y, width, height] in pixels (cocodataset.org: format)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas.data.dataset import Annotation, DetectionDataset, Sample, choose, make_sample, same_classes
from nas.data.pictures import BrokenImage, picture_sizes, size_mismatch
from nas.data.problems import Problems
from search_spaces.errors import InputError

_PARTS = ("images", "annotations", "categories")


def read_coco(
    annotations: Path,
    folders: Sequence[Path],
    *,
    name: str,
    split: str,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
) -> DetectionDataset:
    """One split. Pictures are looked for in the first of ``folders`` that has any of them.

    Classes are the categories in the order of their ids, or in the order of ``classes`` (those of the train split), which must be the same set.
    """
    content = load_json(annotations)
    categories = _categories(content["categories"], annotations)
    names = [categories[id] for id in sorted(categories)]
    if classes is not None:
        same_classes(classes, names)
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
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"no annotation file {path}", "a COCO json") from None
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})", "a COCO json") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError alike
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
            raise InputError(f"{path}: category {entry['id']} ({entry['name']}) stands there twice", "every category once")
        table[entry["id"]] = entry["name"]
    if not table:
        raise InputError(f"{path} has no category", "at least one")
    return table


def _images(entries: list[Any], path: Path, problems: Problems) -> list[dict[str, Any]]:
    images: dict[int, dict[str, Any]] = {}
    for entry in entries:
        if not isinstance(entry, dict) or not _is_id(entry.get("id")) or not isinstance(entry.get("file_name"), str):
            problems.add("malformed picture entry", path, f"picture {_short(entry)} lacks an integer id or a file_name, skipped")
        elif entry["id"] in images:
            twice = (images[entry["id"]]["file_name"], entry["file_name"])
            raise InputError(f"{path}: picture id {entry['id']} is of {twice[0]} and of {twice[1]}", "every id once")
        else:
            images[entry["id"]] = entry
    if not images:
        raise InputError(f"{path} has no pictures", "at least one entry under images")
    return list(images.values())


def _annotations(entries: list[Any], images: set[int], labels: dict[int, int], path: Path, problems: Problems) -> dict[int, list[Annotation]]:
    """Picture id -> its objects. A crowd's run-length mask is not read: its box and the flag say all that evaluation needs."""
    objects: dict[int, list[Annotation]] = defaultdict(list)
    for entry in entries:
        box = entry.get("bbox") if isinstance(entry, dict) else None
        if not isinstance(box, list) or len(box) != 4 or not all(_is_number(v) for v in box):
            problems.add("annotation without a box", path, f"annotation {_short(entry)} has no bbox of 4 numbers, skipped")
        elif entry.get("image_id") not in images:
            problems.add("annotation of an unknown picture", path, f"annotation {_short(entry)} is of picture {entry.get('image_id')}, skipped")
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
            objects[entry["image_id"]].append(Annotation((x, y, x + width, y + height), label, bool(entry.get("iscrowd")), area, score))
    return objects


def _folder(images: list[dict[str, Any]], folders: Sequence[Path], path: Path) -> Path:
    """The first folder that has one of the pictures. All names are tried before giving up: a few missing ones must not hide the rest."""
    for folder in folders:
        if folder.is_dir() and any((folder / image["file_name"]).is_file() for image in images):
            return folder
    looked = ", ".join(str(folder) for folder in folders)
    raise InputError(f"none of the {len(images)} pictures of {path} found", f"{images[0]['file_name']} in one of {looked}")


def _sample(image: dict[str, Any], folder: Path, objects: list[Annotation], json_path: Path, problems: Problems) -> Sample | None:
    path = folder / image["file_name"]
    try:
        size = _size(image, path)
    except BrokenImage as error:
        problems.add("missing picture" if not path.is_file() else "broken picture", path, f"{error.reason}, skipped")
        return None
    return make_sample(image["id"], path, size, objects, problems, where=f"{json_path.name}, {image['file_name']}")


def _size(image: dict[str, Any], path: Path) -> tuple[int, int]:
    """(width, height) that the boxes refer to: what the json says, if the file agrees; what the file says, if the json says nothing."""
    shown, stored = picture_sizes(path)
    width, height = image.get("width", 0), image.get("height", 0)
    if not (_is_number(width) and _is_number(height) and width > 0 and height > 0):
        return shown
    size = (int(width), int(height))
    if size not in (shown, stored):
        raise BrokenImage(path, size_mismatch(shown, size))
    return size


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
