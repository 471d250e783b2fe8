"""YOLO data sets: for images/…/a.jpg a file labels/…/a.txt, described by a yaml or found by the names of folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from nas.data import yaml_files as yamls
from nas.data.dataset import Annotation, DetectionDataset, Sample, choose, make_sample
from nas.data.formats import SPLITS, DataFormat, split_files, whole
from nas.data.images import SUFFIXES, BrokenImage, find_images, image_sizes
from nas.data.problems import Problems
from nas.data.texts import class_names, lines_of
from nas.data.walk import Found, files_in, leads_out, located, plainly_spelled
from nas.data.yolo_labels import LabelReader, find_labels, has_image, label_path, numbered_classes
from search_spaces.errors import InputError
from search_spaces.text import brief

_LAYOUTS = ("images/{split}", "{split}/images")
_LISTS = ("classes.txt", "train.txt", "val.txt", "test.txt")
"""Text files that are no labels."""


@dataclass(frozen=True)
class _Labels:
    """What the labels mean: class names, and the shape of key points where the data set has them."""

    classes: tuple[str, ...]
    keypoints: tuple[int, int] | None = None
    root: Path | None = None
    """Folder that the yaml names as the data set's; None without a yaml."""


class Yolo(DataFormat):
    """Folders of images and of labels; splits and class names from a yaml, else from the folders' names and
    ``classes.txt``, else numbers."""

    kind = "YOLO"
    looked_for = "a yaml with train, val and names, or images/train, images/val, labels/train and labels/val (YOLO)"

    def __init__(self, name: str, sources: Mapping[str, list[Path]], labels: _Labels) -> None:
        super().__init__(name, sources)
        self._sources = sources
        self._named = labels

    @classmethod
    def find(cls, path: Path) -> Yolo | None:
        """Return the data set at ``path``, None if there is none of this format.

        Raises InputError if a description of one is malformed or ambiguous.
        """
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
        if not splits:
            return None
        names = class_names(path / "classes.txt", path / "labels" / "classes.txt")
        return cls(path.resolve().name, {split: [folder] for split, folder in splits.items()}, _Labels(names))

    @classmethod
    def _described(cls, path: Path) -> Yolo | None:
        content = yamls.load_yaml(path)
        keys = {split: next((name for name in names if name in content), names[0]) for split, names in SPLITS.items()}
        if not {keys["train"], keys["val"], "names"} & {key.lower() for key in content}:  # need() names the right case
            return None
        yamls.need(content, path, keys["train"], keys["val"], "names")
        root = yamls.root_of(content, path)
        sources = {split: _sources(content, key, path, root) for split, key in keys.items()}
        if not all(os.path.exists(source) for source in sources["test"]):
            sources["test"] = []  # exports name a test split whether there is one or not
        labels = _Labels(_names(content, path), _keypoints(content, path), root)
        return cls(yamls.name_of(path), {split: found for split, found in sources.items() if found}, labels)

    def read(self, split: str, limit: int | None = None) -> DetectionDataset:
        """Read one split. Raises InputError if it cannot be used."""
        return read_yolo(
            self._sources[split],
            self._classes,
            name=self.name,
            split=split,
            limit=limit,
            keypoints=self._named.keypoints,
            root=self._named.root,
        )

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        return self._named.classes or numbered_classes(self._images())

    def _images(self) -> list[Path]:
        """The images of all splits, each once."""
        found = [path for sources in self._sources.values() for source in sources for path in _images(source).files]
        return list(dict.fromkeys(found))

    def strays(self) -> Problems:
        """Return images without a label file and label files without an image."""
        problems, users, folders = Problems(), dict[Path, Path](), dict[Path, Path]()
        real = cache(os.path.realpath)
        for image in self._images():
            labels = find_labels(image)
            if labels is None and os.path.exists(image):
                problems.add("image without a label file", image, "taken to show nothing")
            place = labels or label_path(image)
            folder = Path(real(place.parent))  # one folder may be spelled in several ways
            folders.setdefault(folder, place.parent)
            other = users.setdefault(folder / place.name, image)
            if labels is not None and other is not image and not _same_file(other, image):
                problems.add("label file of several images", labels, f"one is {image.name}, all are used")
        for folder, spelled in sorted(folders.items()):
            for path in files_in(folder, ".txt"):
                if path not in users and path.name not in _LISTS:
                    kind = "label file of an image in no list" if has_image(path) else "label file without an image"
                    problems.add(kind, spelled / path.name, "not used")
        return problems


def _same_file(one: Path, two: Path) -> bool:
    try:
        return os.path.samefile(one, two)
    except (OSError, ValueError):
        return False


def read_yolo(
    sources: Sequence[Path],
    classes: Sequence[str],
    *,
    name: str,
    split: str,
    limit: int | None = None,
    keypoints: tuple[int, int] | None = None,
    root: Path | None = None,
) -> DetectionDataset:
    """Read one split. Image ids count from 1 in the order of the sources.

    An image without a label file has no objects; the remarks of the data set count such images.

    Args:
        sources: folders of images (searched in depth) or .txt lists of image paths.
        classes: class names in the order of their numbers.
        name: of the data set.
        split: of the data set.
        limit: at most so many images, chosen by :func:`nas.data.dataset.choose`.
        keypoints: ``kpt_shape`` of the yaml.
        root: folder of the data set; what lies outside is used, and reported. None reports nothing.

    Raises:
        InputError: there is no image, one is listed twice, or none has a label file.
    """
    found = [_images(source) for source in sources]
    paths = [path for part in found for path in part.files]
    path, times = Counter(paths).most_common(1)[0] if paths else (None, 0)
    if times > 1:
        raise InputError(f"{path} stands twice in the {split} split of {name}", "every image once")
    if not paths:
        raise InputError(
            f"no image in {', '.join(map(str, sources))}", f"files ending in {', '.join(sorted(SUFFIXES))}"
        )
    labels = [find_labels(path) for path in paths]
    if not any(labels):
        raise InputError(
            f"no label file for the {len(paths)} images of {name}/{split}", f"{label_path(paths[0])} and so on"
        )
    chosen = choose(len(paths), limit)
    reader, problems, read = _samples(paths, labels, chosen, len(classes), keypoints)
    if reader.misread:
        reader, problems, read = _samples(paths, labels, chosen, len(classes), keypoints, tracked=True)
    if root is not None:
        _report_outside(sources, found, root, problems)
    if lacking := sum(label is None and os.path.exists(path) for path, label in zip(paths, labels, strict=True)):
        problems.notes.append(f"{lacking} of {len(paths)} images have no label file and are taken to show nothing")
    problems.notes.extend(reader.remarks())
    for part in found:
        problems.notes.extend(part.remarks())
    return DetectionDataset(name, split, classes, read, problems)


def _samples(
    paths: Sequence[Path],
    labels: Sequence[Path | None],
    chosen: Sequence[int],
    classes: int,
    keypoints: tuple[int, int] | None,
    tracked: bool = False,
) -> tuple[LabelReader, Problems, list[Sample]]:
    problems = Problems()
    reader = LabelReader(classes, keypoints, problems, tracked)
    read = [_sample(i + 1, paths[i], labels[i], reader, problems) for i in chosen]
    return reader, problems, [sample for sample in read if sample is not None]


def _report_outside(sources: Sequence[Path], found: Sequence[Found], root: Path, problems: Problems) -> None:
    """Report folders and listed images outside the folder of the data set."""
    for source, part in zip(sources, found, strict=True):
        if leads_out(source, root):
            problems.notes.append(f"images of {source}, outside {root}")
            continue
        for path in part.files:
            if leads_out(path, root):
                message = f"listed in {source}, leads out of {root}, used all the same"
                problems.add("image outside the data set", path, message)


def _sample(id: int, path: Path, labels: Path | None, reader: LabelReader, problems: Problems) -> Sample | None:
    try:
        size, _ = image_sizes(path)
    except BrokenImage as error:
        problems.add("broken image" if os.path.exists(path) else "missing image", path, f"{error.reason}, skipped")
        return None
    try:
        objects: list[Annotation] = [] if labels is None else reader.read(labels, size)
    except InputError as error:
        problems.add("broken label file", labels, f"{error}, its image is skipped")
        return None
    return make_sample(id, path, size, objects, problems, where=labels or path)


def _images(source: Path) -> Found:
    """The images of a folder, or those that a .txt lists. Raises InputError for anything else."""
    if os.path.isdir(source):
        return find_images(source)
    if source.suffix.lower() == ".txt" and os.path.lexists(source):
        listed = lines_of(source, errors="surrogateescape")  # a file name may be of any bytes
        return Found(tuple(plainly_spelled(located(source.parent, name)) for name in listed), (), ())
    raise InputError(f"no images at {source}", "a folder of images, or a .txt that lists them")


def _names(content: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """``names`` as a list, or as index: name without gaps; ``nc``, where it stands there, must agree."""
    names = content["names"]
    if isinstance(names, dict):
        numbers = [str(i) for i in range(len(names))]
        if set(names) != set(numbers):
            raise InputError(f"{path}: names are numbered {_numbers(names)}", f"0..{len(names) - 1} without gaps")
        names = [names[number] for number in numbers]
    if not isinstance(names, list):
        raise InputError(f"{path}: names is a {type(names).__name__}", "a list of class names, or index: name")
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise InputError(
            f"{path}: one of the names is a {type(wrong[0]).__name__}", "a list of class names, or index: name"
        )
    count = yamls.number_of(content, "nc", path)
    if count is not None and count != len(names):
        raise InputError(f"{path}: nc is {count}, but there are {len(names)} names", "the same number")
    return tuple(names)


def _numbers(names: Mapping[str, Any]) -> str:
    return f"[{', '.join(key[:40] for key in list(names)[:20])}]"


def _keypoints(content: Mapping[str, Any], path: Path) -> tuple[int, int] | None:
    """``kpt_shape``: [number of points, 2 or 3]; None where it is missing."""
    shape = yamls.given(content, "kpt_shape")
    if shape is None:
        return None
    texts = shape if isinstance(shape, list) and len(shape) == 2 else []
    if not all(isinstance(t, str) and t.isascii() and t.isdecimal() and len(t) < 5 for t in texts) or not texts:
        raise InputError(f"{path}: kpt_shape is {brief(shape)}", "[number of key points, 2 or 3]")
    points, numbers = map(int, texts)
    if numbers not in (2, 3):
        raise InputError(f"{path}: kpt_shape is {brief(shape)}", "[number of key points, 2 or 3]")
    return points, numbers


def _sources(content: Mapping[str, Any], key: str, path: Path, root: Path) -> list[Path]:
    """The paths of a split, one or a list of them. Exports of a well-known labelling service write ``../train/images``
    for a folder beside the yaml: tolerated."""
    entry = yamls.given(content, key)
    texts = entry if isinstance(entry, list) else [] if entry is None else [entry]
    found = []
    for text in texts:
        if not isinstance(text, str):
            raise InputError(
                f"{path}: {key} is {brief(entry)}", "a folder, a .txt that lists images, or a list of them"
            )
        place, beside = located(root, text), located(root, text.removeprefix("../"))
        found.append(beside if not os.path.exists(place) and os.path.exists(beside) else place)
    return found
