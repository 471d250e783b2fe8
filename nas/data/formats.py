"""The formats of data sets. A new one is one file here and one line in the table (or an entry point of the group).

``find`` of a format recognises a data set at a path, or returns None; ``read`` reads one of its splits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from nas.data.dataset import DetectionDataset
from nas.data.problems import Problems
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
        """Return the data set at ``path`` (a folder or a file), None if there is none of this format.

        No more is read than is needed to tell. Raises InputError if a description of a data set is malformed.
        """

    @abstractmethod
    def read(self, split: str, limit: int | None = None) -> DetectionDataset:
        """Read one of ``splits``; all have the same classes in the same order.

        ``limit``: at most so many images, chosen by :func:`nas.data.dataset.choose`. Raises InputError if the split
        cannot be used.
        """

    def strays(self) -> Problems:
        """Return files of the data set that no split uses: images without annotations, annotations without an image."""
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


def expected_formats() -> str:
    """Return what the annotated formats look for, in one phrase."""
    formats = (FORMATS[name] for name in FORMATS)
    return "; or ".join(format.looked_for for format in formats if format.annotated)


def split_files(folder: Path, pattern: str) -> dict[str, Path]:
    """Return split -> the file or folder that ``pattern`` (``images/{split}``) gives for it.

    Of several the last by name counts (the newest year). Case does not matter: labelling tools write ``Train`` for
    train, Windows ``TRAIN.JSON``.
    """
    found = {}
    for split, names in SPLITS.items():
        patterns = [_any_case(pattern.format(split=name)) for name in names]
        hits = [hit for text in patterns for hit in sorted(folder.glob(text), reverse=True)]
        if hits:
            found[split] = hits[0]
    return found


def _any_case(pattern: str) -> str:
    return "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in pattern)


def whole(found: Sequence[dict[str, Path]]) -> dict[str, Path]:
    """Return, of the findings of several layouts, the first with train and val, else the first with one of them."""
    for wanted in ({"train", "val"}, {"train"}, {"val"}):
        if fitting := next((files for files in found if wanted <= set(files)), None):
            return fitting
    return {}
