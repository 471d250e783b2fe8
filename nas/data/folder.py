"""A folder of pictures and nothing else: for prediction, or to be labelled by a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas.data.dataset import DetectionDataset, choose, make_sample
from nas.data.formats import DataFormat
from nas.data.images import SUFFIXES, BrokenImage, picture_sizes, pictures_in
from nas.data.problems import Problems
from search_spaces.errors import InputError

SPLIT = "pictures"
"""What its one split is called."""


class Pictures(DataFormat):
    """Pictures at any depth of a folder; no sample has a box."""

    kind = "pictures without annotations"
    looked_for = "a folder of pictures"
    annotated = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder.resolve().name, {SPLIT: folder})
        self._folder = folder

    @classmethod
    def find(cls, path: Path) -> Pictures | None:
        return cls(path) if path.is_dir() and any(pictures_in(path)) else None

    def read(self, split: str, limit: int | None = None) -> DetectionDataset:
        return read_pictures(self._folder, name=self.name, limit=limit)


def read_pictures(
    folder: Path, classes: Sequence[str] = (), *, name: str = "", limit: int | None = None
) -> DetectionDataset:
    """The pictures below ``folder`` in the order of their paths, ids from 1, without boxes; ``classes`` are those
    that a model will mark in them."""
    paths = list(pictures_in(folder))
    if not paths:
        raise InputError(f"no picture in {folder}", f"files ending in {', '.join(sorted(SUFFIXES))}")
    problems, samples = Problems(), []
    for index in choose(len(paths), limit):
        try:
            size, _ = picture_sizes(paths[index])
        except BrokenImage as error:
            problems.add("broken picture", paths[index], f"{error.reason}, skipped")
        else:
            samples.append(make_sample(index + 1, paths[index], size, [], problems))
    return DetectionDataset(name or folder.resolve().name, SPLIT, classes, samples, problems)
