"""YOLO text labels: for images/…/a.jpg a file labels/…/a.txt with lines ``class centre-x centre-y width height``, all relative to the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from nas.data.dataset import Annotation, DetectionDataset, Sample, choose, make_sample
from nas.data.pictures import SUFFIXES, BrokenImage, picture_sizes
from nas.data.problems import Problems
from search_spaces.errors import InputError


def read_yolo(sources: Sequence[Path], classes: Sequence[str], *, name: str, split: str, limit: int | None = None) -> DetectionDataset:
    """One split. ``sources`` are folders of pictures (searched in depth) or .txt lists of picture paths; picture ids count from 1 in that order.

    A picture without a label file has no objects; when none of them has one, that is an error.
    """
    problems = Problems()
    paths = [path for source in sources for path in _pictures(source)]
    if len(set(paths)) != len(paths):
        twice = next(path for i, path in enumerate(paths) if path in paths[:i])
        raise InputError(f"{twice} stands twice in the {split} split of {name}", "every picture once")
    if not paths:
        raise InputError(f"no picture in {', '.join(map(str, sources))}", f"files ending in {', '.join(sorted(SUFFIXES))}")
    if not any(label_path(path).is_file() for path in paths):
        raise InputError(f"no label file for the {len(paths)} pictures of {name}/{split}", f"{label_path(paths[0])} and so on")
    samples = [_sample(i + 1, paths[i], classes, problems) for i in choose(len(paths), limit)]
    return DetectionDataset(name, split, classes, [s for s in samples if s is not None], problems)


def label_path(picture: Path) -> Path:
    """Where the labels of a picture are: the last folder called ``images`` becomes ``labels``; beside the picture if there is none."""
    parts = list(picture.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def numbered_classes(sources: Sequence[Path]) -> tuple[str, ...]:
    """Class names "0", "1", … up to the highest index in the labels of these folders, for data sets that name no classes."""
    highest = -1
    for path in {label_path(picture) for source in sources for picture in _pictures(source)}:
        for line in _lines(path) if path.is_file() else []:
            if (index := line.split()[0]).isdecimal():
                highest = max(highest, int(index))
    return tuple(str(i) for i in range(highest + 1))


def _pictures(source: Path) -> list[Path]:
    if source.is_dir():
        return sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
    if source.is_file() and source.suffix == ".txt":
        return [path if path.is_absolute() else source.parent / path for path in map(Path, _lines(source))]
    raise InputError(f"no pictures at {source}", "a folder of pictures, or a .txt that lists them")


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} ({error})", "a text file") from None


def _sample(id: int, path: Path, classes: Sequence[str], problems: Problems) -> Sample | None:
    try:
        size, _ = picture_sizes(path)
    except BrokenImage as error:
        problems.add("missing picture" if not path.is_file() else "broken picture", path, f"{error.reason}, skipped")
        return None
    labels = label_path(path)
    try:
        lines = _lines(labels) if labels.is_file() else []
    except InputError as error:
        problems.add("broken label file", labels, f"{error}, its picture is skipped")
        return None
    objects = [_annotation(line, size, len(classes), f"{labels}:{number}", problems) for number, line in enumerate(lines, 1)]
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
        problems.add("annotation of an unknown class", where, f"class {columns[0]} of {classes} classes (0..{classes - 1}), skipped")
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
