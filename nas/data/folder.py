"""A folder of images and nothing else: for prediction, or to be labelled by a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nas.data.dataset import DetectionDataset, choose, make_sample
from nas.data.formats import DataFormat
from nas.data.images import SUFFIXES, BrokenImage, find_images, image_sizes, images_in
from nas.data.problems import Problems
from search_spaces.errors import InputError

SPLIT = "images"
"""What its one split is called."""


class Images(DataFormat):
    """Images at any depth of a folder; no sample has a box."""

    kind = "images without annotations"
    looked_for = "a folder of images"
    annotated = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder.resolve().name, {SPLIT: folder})
        self._folder = folder

    @classmethod
    def find(cls, path: Path) -> Images | None:
        """Return the data set at ``path``, None if there is none of this format."""
        return cls(path) if os.path.isdir(path) and any(images_in(path)) else None

    def read(self, split: str, limit: int | None = None) -> DetectionDataset:
        """Read one split. Raises InputError if it cannot be used."""
        return read_images(self._folder, name=self.name, limit=limit)


def read_images(
    folder: Path, classes: Sequence[str] = (), *, name: str = "", limit: int | None = None
) -> DetectionDataset:
    """Read the images below ``folder`` in the order of their paths, ids from 1, without boxes.

    ``classes`` are those that a model will mark in them. ``limit``: at most so many images. Raises InputError if there
    is no image.
    """
    found = find_images(folder)
    paths = found.files
    if not paths:
        raise InputError(f"no image in {folder}", f"files ending in {', '.join(sorted(SUFFIXES))}")
    problems, samples = Problems(), []
    problems.notes.extend(found.remarks())
    for index in choose(len(paths), limit):
        try:
            size, _ = image_sizes(paths[index])
        except BrokenImage as error:
            problems.add("broken image", paths[index], f"{error.reason}, skipped")
        else:
            samples.append(make_sample(index + 1, paths[index], size, [], problems))
    return DetectionDataset(name or folder.resolve().name, SPLIT, classes, samples, problems)
