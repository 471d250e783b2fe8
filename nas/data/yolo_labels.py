"""YOLO label files: one line per object, ``class centre-x centre-y width height``, all relative to the image.

What a line means depends on its number of columns, and a data set with key points says so in its yaml
(``kpt_shape``). Without it, 1 + 2k columns with k >= 3 are an outline, of which the enclosing box is taken.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from nas.data.dataset import Annotation
from nas.data.images import SUFFIXES
from nas.data.problems import Problems
from nas.data.texts import lines_of
from nas.data.walk import any_case
from search_spaces.errors import InputError
from search_spaces.text import brief

MAX_REACH = 0.5
"""Of an outline beyond the image, as share of its side. A line with larger numbers is no outline: boxes in pixels, or a
tracker's ``class x y w h confidence id``."""
MAX_NUMBERED = 10_000
"""Classes of a data set that only numbers them. A larger number in a label is an error of that label."""


_LABELS = {"images": "labels", "Images": "Labels", "IMAGES": "LABELS"}


def label_path(image: Path) -> Path:
    """Return where the labels of an image belong.

    The last folder called ``images`` in its path becomes ``labels``, and ``Images`` ``Labels``; without such a folder they
    are beside the image.
    """
    parts = list(image.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] in _LABELS:
            parts[i] = _LABELS[parts[i]]
            break
    return _as_text(Path(*parts))


def find_labels(image: Path) -> Path | None:
    """Return the label file of an image: at :func:`label_path`, else beside the image; None where there is none.

    An image that is reached by a link, and has no labels there, has those of the file that the link leads to.
    """
    own = _labels_at(image)
    return own if own is not None or not os.path.exists(image) else _labels_at(Path(os.path.realpath(image)))


def _labels_at(image: Path) -> Path | None:
    places = map(any_case, (label_path(image), _as_text(image)))
    return next((path for path in places if os.path.lexists(path)), None)


def has_image(labels: Path) -> bool:
    """Return whether an image is where a label file's image belongs: the inverse of :func:`find_labels`."""
    parts, folders = list(labels.parts), {name: image for image, name in _LABELS.items()}
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] in folders:
            parts[i] = folders[parts[i]]
            break
    stems = (os.path.splitext(path)[0] for path in (Path(*parts), labels))
    return any(os.path.exists(stem + s) for stem in stems for suffix in SUFFIXES for s in (suffix, suffix.upper()))


def numbered_classes(images: Sequence[Path]) -> tuple[str, ...]:
    """Return class names "0", "1", … up to the highest number in the labels of ``images``, for data sets without names.

    Numbers from :data:`MAX_NUMBERED` on do not count.
    """
    highest = -1
    for image in images:
        path = find_labels(image)
        try:
            lines = [] if path is None else lines_of(path)
        except InputError:  # the split that it belongs to names it
            continue
        for line in lines:
            number = line.split(maxsplit=1)[0]
            if number.isdecimal() and len(number) <= len(str(MAX_NUMBERED)) and int(number) < MAX_NUMBERED:
                highest = max(highest, int(number))
    return tuple(str(i) for i in range(highest + 1))


def _as_text(image: Path) -> Path:
    return Path(os.path.splitext(image)[0] + ".txt")  # with_suffix fails for a listed path without a name: ".."


class LabelReader:
    """Reads the label files of one split and counts what their lines turn out to be.

    ``classes`` is the number of classes, ``keypoints`` the ``kpt_shape`` of the yaml: (number of points, numbers per
    point), None where the data set has none. ``tracked``: lines in the form of a tracker's are such.
    """

    def __init__(
        self, classes: int, keypoints: tuple[int, int] | None, problems: Problems, tracked: bool = False
    ) -> None:
        self._classes = classes
        self._columns = None if keypoints is None else 5 + keypoints[0] * keypoints[1]
        self._problems = problems
        self._read: Counter[str] = Counter()
        self._tracked = tracked

    def read(self, path: Path, size: tuple[int, int]) -> list[Annotation]:
        """Return the objects of a label file for an image of ``size`` (width, height) in pixels.

        A line that is no object is left out and counted in the problems. Raises InputError if the file cannot be read.
        """
        lines = lines_of(path)
        self._tracked = self._tracked or (self._columns is None and any(map(_is_far, lines)))
        found = []
        for number, line in enumerate(lines, 1):
            annotation = self._annotation(line.split(), size, f"{path}:{number}")
            if annotation is not None:
                found.append(annotation)
        return found

    @property
    def misread(self) -> bool:
        """Return whether a file showed lines of a tracker after such lines of earlier files were read as outlines."""
        return self._tracked and self._read["misread"] > 0

    def remarks(self) -> list[str]:
        """Return what the columns were taken for, where that is a guess."""
        outlines, sevens, lines = self._read["outline"], self._read["seven"], self._read["line"]
        if not outlines:
            return []
        if sevens == lines:
            return [
                f"all {lines} label lines have 7 columns and are read as outlines of three points; lines of a tracker"
                " (class, box, confidence, id) have as many"
            ]
        return [f"{outlines} of {lines} label lines are outlines, of which the enclosing box is taken"]

    def _annotation(self, columns: list[str], size: tuple[int, int], where: str) -> Annotation | None:
        try:
            label, *values = (float(column) for column in columns)
        except ValueError:
            self._skip(where, f"{brief(' '.join(columns[:8]), 60)} is not numbers")
            return None
        outline = self._columns is None and len(values) != 4
        if flaw := self._flaw(columns, values, outline):
            self._skip(where, flaw)
            return None
        if not (label.is_integer() and 0 <= label < self._classes):
            known = f"{self._classes} classes (0..{self._classes - 1})"
            self._problems.add("annotation of an unknown class", where, f"class {columns[0][:40]} of {known}, skipped")
            return None
        self._read.update(line=1, outline=int(outline), seven=int(len(columns) == 7 and outline))
        self._read.update(misread=int(outline and _is_tracked(values)))
        x1, y1, x2, y2 = _enclosing(values) if outline else _corners(values)
        width, height = size
        return Annotation((x1 * width, y1 * height, x2 * width, y2 * height), int(label))

    def _flaw(self, columns: Sequence[str], values: Sequence[float], outline: bool) -> str:
        """What is wrong with the columns of a line; "" for a good one."""
        if self._columns is not None and len(columns) not in (5, self._columns):
            return f"{len(columns)} columns instead of 5 or {self._columns} (kpt_shape)"
        if outline and (len(values) < 6 or len(values) % 2):
            return f"{len(columns)} columns instead of 5"
        if outline and (_reaches_out(values) or (self._tracked and _is_tracked(values))):
            what = "a tracker's class, box, confidence, id?" if len(columns) == 7 else "pixels instead of shares?"
            return f"{len(columns)} columns that are no outline within the image ({what})"
        return ""

    def _skip(self, where: str, message: str) -> None:
        self._problems.add("malformed label line", where, f"{message}, skipped")


def _corners(values: Sequence[float]) -> tuple[float, float, float, float]:
    """xyxy of a box given as centre and sides; further numbers (key points) do not matter."""
    x, y, w, h = values[:4]
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def _enclosing(values: Sequence[float]) -> tuple[float, float, float, float]:
    if not all(map(math.isfinite, values)):  # min and max would hide a NaN, depending on where it stands
        return (math.nan,) * 4
    return min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2])


def _reaches_out(values: Sequence[float]) -> bool:
    return any(math.isfinite(value) and not -MAX_REACH <= value <= 1 + MAX_REACH for value in values)


def _is_tracked(values: Sequence[float]) -> bool:
    """Whether the numbers after the class have the form of a tracker's: box, confidence and a whole number."""
    return len(values) == 6 and all(0 <= value <= 1 for value in values[:5]) and values[5].is_integer()


def _is_far(line: str) -> bool:
    """Whether a line has the form of a tracker's and is no outline within the image."""
    try:
        _, *values = map(float, line.split())
    except ValueError:
        return False
    return _is_tracked(values) and _reaches_out(values)
