"""The formats of data sets. A new one is one file here and one line in the table (or an entry point of the group).

A format looks at a path and either knows what is there (``find``) or leaves it to the next one; then it reads one
split at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from nas.data.dataset import DetectionDataset
from nas.data.problems import Problems
from search_spaces.errors import InputError
from search_spaces.registry import Registry

SPLITS: Mapping[str, tuple[str, ...]] = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""Split -> what files and folders of it are called."""


class DataFormat(ABC):
    """A data set that was found on disk: ``name``, and the ``splits`` it has, of ``train``, ``val`` and ``test``."""

    kind: ClassVar[str]
    """What people call the format."""
    looked_for: ClassVar[str]
    """What ``find`` goes by, for the error where nothing fits."""
    annotated: ClassVar[bool] = True

    def __init__(self, name: str, splits: Mapping[str, Any]) -> None:
        self.name = name
        self.splits = tuple(splits)

    @classmethod
    @abstractmethod
    def find(cls, path: Path) -> DataFormat | None:
        """The data set at ``path`` (a folder or a file), or None if there is none of this format; it reads no more
        than it needs to tell."""

    @abstractmethod
    def read(self, split: str, limit: int | None = None) -> DetectionDataset:
        """One of ``splits``; all have the same classes in the same order. ``limit``: at most so many images, chosen
        by :func:`nas.data.dataset.choose`."""

    def strays(self) -> Problems:
        """Files of the data set that no split uses: images without annotations, annotations without a image."""
        return Problems()


FORMATS: Registry[type[DataFormat]] = Registry(
    "nas.datasets",
    {
        "coco": "nas.data.coco:Coco",
        "voc": "nas.data.voc:Voc",
        "yolo": "nas.data.yolo:Yolo",
        "images": "nas.data.folder:Images",
    },
)
"""In the order in which they are asked. COCO before YOLO: a json with boxes is unmistakable, a folder called images
is not."""


def recognise(path: Path) -> DataFormat:
    """The data set at ``path``: the first format that finds both train and val, else the first that finds anything."""
    partial = None
    for name in FORMATS:
        found = FORMATS[name].find(path)
        if found is not None and {"train", "val"} <= set(found.splits):
            return found
        partial = partial or found
    if partial is None:
        raise nothing_at(path)
    return partial


def nothing_at(path: Path) -> InputError:
    """The error that names everything that was looked for, what is there instead, and the folder inside that would
    do."""
    return InputError(f"no data set in {path}{_holding(path)}", expected_formats(), deeper(path))


def expected_formats() -> str:
    """What the annotated formats look for, in one phrase."""
    formats = (FORMATS[name] for name in FORMATS)
    return "; or ".join(format.looked_for for format in formats if format.annotated)


def split_files(folder: Path, pattern: str) -> dict[str, Path]:
    """Split -> the file or folder that ``pattern`` (``images/{split}``) gives for it; the last by name (the newest
    year) of several."""
    found = {}
    for split, names in SPLITS.items():
        hits = [hit for name in names for hit in sorted(folder.glob(pattern.format(split=name)), reverse=True)]
        if hits:
            found[split] = hits[0]
    return found


def whole(found: Sequence[dict[str, Path]]) -> dict[str, Path]:
    """Of several layouts' findings the first with train and val, else the first with one of them."""
    for wanted in ({"train", "val"}, {"train"}, {"val"}):
        if fitting := next((files for files in found if wanted <= set(files)), None):
            return fitting
    return {}


def _holding(folder: Path) -> str:
    if not folder.is_dir():
        return ""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        return f" (it cannot be read: {error.strerror})"
    if not names:
        return " (it is empty)"
    return f" (it holds {', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''})"


def deeper(folder: Path) -> str:
    """A hint at the folder inside that holds an annotated data set: an archive often brings a folder of its own."""
    inside = sorted(path for path in folder.glob("*") if path.is_dir())[:20]
    for path in inside:
        for name in FORMATS:
            try:
                if FORMATS[name].annotated and FORMATS[name].find(path) is not None:
                    return f"did you mean {path}?"
            except InputError:  # there is something, but it is not the place to complain about it
                continue
    return ""
