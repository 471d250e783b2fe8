"""YOLO text labels: for images/…/a.jpg a file labels/…/a.txt with lines ``class centre-x centre-y width height``, all
relative to the image."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from nas.data import yaml_files as yamls
from nas.data.dataset import Annotation, DetectionDataset, Sample, choose, make_sample
from nas.data.formats import SPLITS, DataFormat, split_files, whole
from nas.data.images import SUFFIXES, BrokenImage, image_sizes, images_in
from nas.data.problems import Problems
from nas.data.texts import class_names, lines_of
from search_spaces.errors import InputError

_LAYOUTS = ("images/{split}", "{split}/images")


class Yolo(DataFormat):
    """Folders of images and of labels; splits and class names from a yaml, else from the folders' names and
    ``classes.txt``, else numbers."""

    kind = "YOLO"
    looked_for = "a yaml with train, val and names, or images/train, images/val, labels/train and labels/val (YOLO)"

    def __init__(self, name: str, sources: Mapping[str, list[Path]], classes: tuple[str, ...]) -> None:
        super().__init__(name, sources)
        self._sources = sources
        self._named = classes

    @classmethod
    def find(cls, path: Path) -> Yolo | None:
        described = yamls.yamls_in(path)
        if len(described) > 1:
            raise InputError(
                f"{len(described)} yaml files in {path}",
                "one",
                f"name the one you mean: {', '.join(map(str, described[:5]))}",
            )
        if described and (found := cls._described(described[0])):
            return found
        splits = whole([split_files(path, layout) for layout in _LAYOUTS])
        names = class_names(path / "classes.txt", path / "labels" / "classes.txt")
        return (
            cls(path.resolve().name, {split: [folder] for split, folder in splits.items()}, names) if splits else None
        )

    @classmethod
    def _described(cls, path: Path) -> Yolo | None:
        content = yamls.load_yaml(path)
        keys = {split: next((name for name in names if name in content), names[0]) for split, names in SPLITS.items()}
        if not {keys["train"], keys["val"], "names"} & set(content):
            return None
        yamls.need(content, path, keys["train"], keys["val"], "names")
        root = yamls.root_of(content, path)
        sources = {split: _sources(content[key], root) for split, key in keys.items() if content.get(key)}
        if not all(
            source.exists() for source in sources.get("test", [])
        ):  # exports name a test split whether there is one or not
            del sources["test"]
        return cls(yamls.name_of(path), sources, _names(content, path))

    def read(self, split: str, limit: int | None = None) -> DetectionDataset:
        return read_yolo(self._sources[split], self._classes, name=self.name, split=split, limit=limit)

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        return self._named or numbered_classes([source for sources in self._sources.values() for source in sources])

    def strays(self) -> Problems:
        """Images without a label file, label files without a image."""
        problems = Problems()
        labels = {
            label_path(path): path
            for sources in self._sources.values()
            for source in sources
            for path in _images(source)
        }
        for label, image in labels.items():
            if not label.is_file():
                problems.add("image without a label file", image, "taken to show nothing")
        for folder in sorted({label.parent for label in labels}):
            for path in sorted(folder.glob("*.txt")):
                if path not in labels and path.name not in ("classes.txt", "train.txt", "val.txt", "test.txt"):
                    problems.add("label file without a image", path, "not used")
        return problems


def read_yolo(
    sources: Sequence[Path], classes: Sequence[str], *, name: str, split: str, limit: int | None = None
) -> DetectionDataset:
    """One split. ``sources`` are folders of images (searched in depth) or .txt lists of image paths; image ids
    count from 1 in that order.

    A image without a label file has no objects; when none of them has one, that is an error.
    """
    problems = Problems()
    paths = [path for source in sources for path in _images(source)]
    path, times = Counter(paths).most_common(1)[0] if paths else (None, 0)
    if times > 1:
        raise InputError(f"{path} stands twice in the {split} split of {name}", "every image once")
    if not paths:
        raise InputError(
            f"no image in {', '.join(map(str, sources))}", f"files ending in {', '.join(sorted(SUFFIXES))}"
        )
    if not any(label_path(path).is_file() for path in paths):
        raise InputError(
            f"no label file for the {len(paths)} images of {name}/{split}", f"{label_path(paths[0])} and so on"
        )
    samples = [_sample(i + 1, paths[i], classes, problems) for i in choose(len(paths), limit)]
    return DetectionDataset(name, split, classes, [s for s in samples if s is not None], problems)


def label_path(image: Path) -> Path:
    """Where the labels of a image are: the last folder called ``images`` becomes ``labels``; beside the image if
    there is none."""
    parts = list(image.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def numbered_classes(sources: Sequence[Path]) -> tuple[str, ...]:
    """Class names "0", "1", … up to the highest index in the labels of these folders, for data sets that name no
    classes."""
    highest = -1
    for path in {label_path(image) for source in sources for image in _images(source)}:
        for line in lines_of(path) if path.is_file() else []:
            if (index := line.split()[0]).isdecimal():
                highest = max(highest, int(index))
    return tuple(str(i) for i in range(highest + 1))


def _images(source: Path) -> list[Path]:
    if source.is_dir():
        return list(images_in(source))
    if source.suffix == ".txt" and os.path.lexists(source):
        return [path if path.is_absolute() else source.parent / path for path in map(Path, lines_of(source))]
    raise InputError(f"no images at {source}", "a folder of images, or a .txt that lists them")


def _names(content: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """``names`` as a list, or as index: name without gaps; ``nc``, where it stands there, must agree."""
    names = content["names"]
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise InputError(f"{path}: names are numbered {list(names)[:20]}", f"0..{len(names) - 1} without gaps")
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list):
        raise InputError(f"{path}: names is a {type(names).__name__}", "a list of class names, or index: name")
    if wrong := [name for name in names if not isinstance(name, (str, int, float))]:
        raise InputError(
            f"{path}: one of the names is a {type(wrong[0]).__name__}", "a list of class names, or index: name"
        )
    if content.get("nc", len(names)) != len(names):
        raise InputError(f"{path}: nc is {content['nc']}, but there are {len(names)} names", "the same number")
    return tuple(str(name) for name in names)


def _sources(entry: Any, root: Path) -> list[Path]:
    """One path or a list of them. Exports of a well-known labelling service write ``../train/images`` for a folder
    beside the yaml: tolerated."""
    paths = []
    for text in map(str, entry if isinstance(entry, list) else [entry]):
        path = root / text
        beside = root / text.removeprefix("../")
        paths.append(beside if not path.exists() and beside.exists() else path)
    return paths


def _sample(id: int, path: Path, classes: Sequence[str], problems: Problems) -> Sample | None:
    try:
        size, _ = image_sizes(path)
    except BrokenImage as error:
        problems.add("broken image" if os.path.exists(path) else "missing image", path, f"{error.reason}, skipped")
        return None
    labels = label_path(path)
    try:
        lines = lines_of(labels) if os.path.lexists(labels) else []
    except InputError as error:
        problems.add("broken label file", labels, f"{error}, its image is skipped")
        return None
    objects = [
        _annotation(line, size, len(classes), f"{labels}:{number}", problems) for number, line in enumerate(lines, 1)
    ]
    return make_sample(id, path, size, [o for o in objects if o is not None], problems, where=labels)


def _annotation(line: str, size: tuple[int, int], classes: int, where: str, problems: Problems) -> Annotation | None:
    """One line; 1 + 2k columns with k >= 3 are an outline, of which the enclosing box is taken."""
    columns = line.split()
    try:
        label, values = float(columns[0]), [float(value) for value in columns[1:]]
    except ValueError:
        problems.add("malformed label line", where, f"{line[:60]!r} is not numbers, skipped")
        return None
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        problems.add("malformed label line", where, f"{len(columns)} columns instead of 5, skipped")
        return None
    if label not in range(classes):
        problems.add(
            "annotation of an unknown class",
            where,
            f"class {columns[0]} of {classes} classes (0..{classes - 1}), skipped",
        )
        return None
    width, height = size
    box: tuple[float, ...]
    if len(values) == 4:
        x, y, w, h = values
        box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    elif not all(map(math.isfinite, values)):  # min and max would hide a NaN, depending on where it stands
        box = (math.nan,) * 4
    else:
        box = (min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2]))
    return Annotation((box[0] * width, box[1] * height, box[2] * width, box[3] * height), int(label))
