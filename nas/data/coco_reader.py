"""Reading COCO json: {"images": [...], "annotations": [...], "categories": [...]}, boxes as [x, y, width, height] in
pixels (cocodataset.org, format).

One bad entry does not spoil a file: it is left out and counted in the problems of the split.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.data.dataset import Annotation, DetectionDataset, Sample, choose, make_sample, same_classes
from nas.data.images import BrokenImage, annotated_size
from nas.data.problems import Problems
from nas.data.values import flag_of, number_of
from nas.data.walk import leads_out, located
from search_spaces.errors import InputError
from search_spaces.foreign_files import UnreadableFile, read_bytes
from search_spaces.text import brief

MAX_BYTES = 4 << 30
"""Of one json. The largest public sets (Objects365, Open Images) have 1 to 3 GB."""
MAX_DIGITS = 100
"""Of an integer: a longer one is read as a float. Python's time to read an integer grows with the square of its
digits."""
MAX_ID = 2**53
"""Ids up to here are kept: numeric libraries keep ids as float64, which holds integers up to 2^53 exactly."""

_PARTS = ("images", "annotations", "categories")

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class _Image:
    """An entry of ``images``: its id in the file, the id of its sample, its name, and what the file says of its size."""

    key: int
    id: int
    name: str
    entry: Entry


def read_coco(
    annotations: Path,
    folders: Sequence[Path],
    *,
    name: str,
    split: str,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    root: Path | None = None,
) -> DetectionDataset:
    """Read one split.

    Image ids are those of the file, unless one is negative or over :data:`MAX_ID`: then images are numbered from 1.

    Args:
        annotations: the json.
        folders: where the images may be; the first folder that has any of them counts.
        name: of the data set.
        split: of the data set.
        classes: those of the train split, whose order counts; by default the categories in the order of their ids.
        limit: at most so many images, chosen by :func:`nas.data.dataset.choose`.
        root: folder of the data set; images outside of it and of the image folder are used and counted as a problem.

    Raises:
        InputError: the json cannot be read, has no usable category or image, two images of one id, or other classes
            than ``classes``; or none of its images is there.
    """
    content = load_json(annotations)
    categories = read_categories(content["categories"], annotations)
    names = [categories[id] for id in sorted(categories)]
    if classes is not None:
        same_classes(classes, names, split)
        names = list(classes)
    problems = Problems()
    images = _images(content["images"], annotations, problems)
    folder = image_folder([image.name for image in images], folders, annotations)
    index = {category: label for label, category in enumerate(names)}
    labels = {id: index[category] for id, category in categories.items()}
    objects = _annotations(content["annotations"], {image.key for image in images}, labels, annotations, problems)
    samples = []
    for chosen in choose(len(images), limit):
        image = images[chosen]
        path = located(folder, image.name)
        if root is not None and leads_out(path, root) and leads_out(path, folder):
            message = f"file_name {brief(image.name)} leads out of {root}, used all the same"
            problems.add("image outside the data set", path, message)
        sample = _sample(image, path, objects.get(image.key, []), annotations, problems)
        if sample is not None:
            samples.append(sample)
    return DetectionDataset(name, split, names, samples, problems)


def load_json(path: Path) -> dict[str, Any]:
    """Read a COCO file and check that its three lists are lists.

    Raises:
        InputError: the file cannot be read, is no JSON, or lacks a list.
    """
    try:
        content = json.loads(read_bytes(path, MAX_BYTES), parse_int=_integer)
    except UnreadableFile as error:
        got = f"no annotation file {path}" if error.missing else f"cannot read {path} ({error.reason})"
        raise InputError(got, "a COCO json") from None
    except (ValueError, RecursionError) as error:  # the first is JSONDecodeError and UnicodeDecodeError alike
        raise InputError(f"{path} is not JSON ({str(error)[:120]})", "a COCO json") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}", f"a COCO object with {', '.join(_PARTS)}")
    if lacking := [part for part in _PARTS if not isinstance(content.get(part), list)]:
        raise InputError(f"{path} has no list of {' and of '.join(lacking)}", f"a COCO object with {', '.join(_PARTS)}")
    return content


def read_categories(entries: Sequence[Any], path: Path) -> dict[int, str]:
    """Return category id -> name.

    Raises InputError for a malformed or repeated category, or if there is none.
    """
    table: dict[int, str] = {}
    names: set[str] = set()
    for entry in entries:
        id = _id(entry.get("id")) if isinstance(entry, dict) else None
        if id is None or not isinstance(entry.get("name"), str):
            raise InputError(f"{path}: category {brief(entry)}", "an object with an integer id and a name")
        if id in table or entry["name"] in names:
            raise InputError(
                f"{path}: category {brief(id)} ({entry['name'][:80]}) stands there twice", "every category once"
            )
        table[id] = entry["name"]
        names.add(entry["name"])
    if not table:
        raise InputError(f"{path} has no category", "at least one")
    return table


def image_folder(names: Sequence[str], folders: Sequence[Path], path: Path) -> Path:
    """Return the first folder that has one of the images of the json at ``path``.

    All names are tried, so that a few missing images do not hide the rest.

    Raises:
        InputError: no folder has any of them.
    """
    for folder in folders:
        if os.path.isdir(folder) and any(os.path.isfile(located(folder, name)) for name in names):
            return folder
    looked = ", ".join(str(folder) for folder in folders)
    first = names[0][:200] if names else "images"
    raise InputError(f"none of the {len(names)} images of {path} found", f"{first} in one of {looked}")


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= MAX_DIGITS else float(text)


def _id(value: object) -> int | None:
    """The whole number that ``value`` is; None for anything else."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _images(entries: Sequence[Any], path: Path, problems: Problems) -> list[_Image]:
    found: dict[int, Entry] = {}
    for entry in entries:
        id = _id(entry.get("id")) if isinstance(entry, dict) else None
        if id is None or not isinstance(entry.get("file_name"), str):
            problems.add(
                "malformed image entry", path, f"image {brief(entry)} lacks an integer id or a file_name, skipped"
            )
        elif id in found:
            twice = " and of ".join(name[:80] for name in (found[id]["file_name"], entry["file_name"]))
            raise InputError(f"{path}: image id {brief(id)} is of {twice}", "every id once")
        else:
            found[id] = entry
    if not found:
        raise InputError(f"{path} has no images", "at least one entry under images", "; ".join(problems.lines()))
    kept = all(0 <= id <= MAX_ID for id in found)
    return [_Image(id, id if kept else i, e["file_name"], e) for i, (id, e) in enumerate(found.items(), 1)]


def _annotations(
    entries: Sequence[Any], images: set[int], labels: Mapping[int, int], path: Path, problems: Problems
) -> dict[int, list[Annotation]]:
    """Image id of the file -> its objects. Masks are not read: the box and the flag of a crowd are all that evaluation
    needs."""
    objects: dict[int, list[Annotation]] = defaultdict(list)
    for entry in entries:
        image, label = (_id(entry.get(key)) if isinstance(entry, dict) else None for key in ("image_id", "category_id"))
        if flaw := _flaw(entry, image in images, label in labels):
            kind, reason = flaw
            problems.add(kind, path, f"annotation {_shown(entry)} {reason}, skipped")
            continue
        assert image is not None and label is not None
        x, y, width, height = (number_of(v) or 0.0 for v in entry["bbox"])
        area, score = number_of(entry.get("area")), number_of(entry.get("score"))
        for key, value, instead in (("area", area, "that of its box"), ("score", score, "1")):
            if value is None and entry.get(key) is not None:
                kind = f"{key} that is not a number"
                problems.add(
                    kind, path, f"annotation {_shown(entry)} has {key} {brief(entry[key])}, {instead} is taken"
                )
        objects[image].append(
            Annotation(
                (x, y, x + width, y + height),
                labels[label],
                bool(flag_of(entry.get("iscrowd"))),
                area if area is not None and area > 0 else None,
                1.0 if score is None else score,
            )
        )
    return objects


def _flaw(entry: Any, known_image: bool, known_class: bool) -> tuple[str, str] | None:
    """The kind of problem with an annotation, and what to say of it; None for a good one."""
    box = entry.get("bbox") if isinstance(entry, dict) else None
    if not isinstance(box, list) or len(box) != 4 or any(number_of(v) is None for v in box):
        return "annotation without a box", "has no bbox of 4 numbers"
    if not known_image:
        return "annotation of an unknown image", f"is of image {brief(entry.get('image_id'))}"
    if not known_class:
        return "annotation of an unknown class", f"has category {brief(entry.get('category_id'))}"
    if flag_of(entry.get("iscrowd")) is None:
        return "malformed annotation", f"has iscrowd {brief(entry['iscrowd'])}"
    area, score = number_of(entry.get("area")), number_of(entry.get("score"))
    if area is not None and not math.isfinite(area):
        return "malformed annotation", f"has area {brief(entry['area'])}"
    if score is not None and not 0 <= score <= 1:
        return "malformed annotation", f"has score {brief(entry['score'])}"
    return None


def _shown(entry: Any) -> str:
    """An annotation for a message; its outline would be all that is seen of it."""
    return brief({k: v for k, v in entry.items() if k != "segmentation"} if isinstance(entry, dict) else entry)


def _sample(image: _Image, path: Path, objects: list[Annotation], json_path: Path, problems: Problems) -> Sample | None:
    try:
        size = annotated_size(path, image.entry.get("width"), image.entry.get("height"))
    except BrokenImage as error:
        problems.add("broken image" if os.path.exists(path) else "missing image", path, f"{error.reason}, skipped")
        return None
    return make_sample(image.id, path, size, objects, problems, where=f"{json_path.name}, {image.name}")
