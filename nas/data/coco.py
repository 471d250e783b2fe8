"""COCO data sets: where the json of each split and its images are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from nas.data import yaml_files as yamls
from nas.data.coco_reader import image_folder, load_json, read_categories, read_coco
from nas.data.dataset import DetectionDataset
from nas.data.formats import SPLITS, DataFormat, split_files, whole
from nas.data.images import images_in
from nas.data.problems import Problems
from nas.data.walk import located
from search_spaces.errors import InputError

_LAYOUTS = (
    "{split}.json",
    "annotations/{split}.json",
    "{split}/_annotations.coco.json",
    "annotations/instances_{split}*.json",
    "annotations/person_keypoints_{split}*.json",
)

Files = tuple[Path, list[Path]]
"""A COCO json and the folders where its images may be, the likeliest first."""


class Coco(DataFormat):
    """A json for each split, found by name or named by a yaml."""

    kind = "COCO"
    looked_for = (
        "train.json and val.json, annotations/instances_train*.json and instances_val*.json,"
        " train/_annotations.coco.json and valid/_annotations.coco.json,"
        " or a yaml with train_json and val_json (COCO)"
    )

    def __init__(self, name: str, files: Mapping[str, Files], root: Path | None = None) -> None:
        super().__init__(name, files)
        self._files = files
        self._root = root

    @classmethod
    def find(cls, path: Path) -> Coco | None:
        """Return the data set at ``path``, None if there is none of this format.

        Raises InputError if a description of one is malformed or ambiguous.
        """
        if os.path.isdir(path) and (found := whole([split_files(path, layout) for layout in _LAYOUTS])):
            files = {split: (file, _image_folders(path, file)) for split, file in found.items()}
            return cls(path.resolve().name, files, path)
        described = yamls.yamls_in(path)
        return cls._described(described[0]) if len(described) == 1 else None

    @classmethod
    def _described(cls, path: Path) -> Coco | None:
        try:
            content = yamls.load_yaml(path)
        except InputError:  # YOLO, which most yamls are for, complains
            return None
        keys = {split: f"{split}_json" for split in SPLITS}
        if not any(key in content for key in keys.values()):
            return None
        yamls.need(content, path, keys["train"], keys["val"])
        root = yamls.root_of(content, path)
        files = {split: _yaml_files(content, split, root, path) for split, key in keys.items()}
        return cls(yamls.name_of(path), {split: found for split, found in files.items() if found}, root)

    def read(self, split: str, limit: int | None = None) -> DetectionDataset:
        """Read one split. Raises InputError if it cannot be used."""
        file, folders = self._files[split]
        leads = split == self.splits[0]
        classes = None if leads else self._classes
        data = read_coco(file, folders, name=self.name, split=split, classes=classes, limit=limit, root=self._root)
        if leads:
            self.__dict__["_classes"] = data.classes  # a json of hundreds of megabytes is not read again for them
        return data

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        """Those of the first split, which the others must share."""
        file, _ = self._files[self.splits[0]]
        categories = read_categories(load_json(file)["categories"], file)
        return tuple(categories[id] for id in sorted(categories))

    def strays(self) -> Problems:
        """Return the images beside the listed ones."""
        problems, looked, listed = Problems(), set[Path](), set[Path]()
        for file, folders in self._files.values():
            entries = (entry.get("file_name") for entry in load_json(file)["images"] if isinstance(entry, dict))
            names = [name for name in entries if isinstance(name, str)]
            folder = image_folder(names, folders, file)
            looked.add(folder)
            listed.update(located(folder, name) for name in names)
        for path in sorted({path for folder in looked for path in images_in(folder)} - listed):
            problems.add("image without annotations", path, "in no json, not used")
        return problems


def _image_folders(folder: Path, annotations: Path) -> list[Path]:
    """Where the images of a COCO json in ``folder`` may be: in a folder called as its split, or in one for all."""
    split = annotations.parent.name if annotations.stem.startswith("_") else annotations.stem.rpartition("_")[2]
    return [folder / "images" / split, folder / split, folder / "images", folder]


def _yaml_files(content: Mapping[str, Any], split: str, root: Path, path: Path) -> Files | None:
    """The files of a split that the yaml at ``path`` names; None where it names no json."""
    name = yamls.text_of(content, f"{split}_json", path)
    if name is None:
        return None
    annotations = root / name
    named = [yamls.text_of(content, key, path) for key in (f"{split}_images", "images")]
    folders = [root / folder for folder in named if folder is not None]
    return annotations, folders or [*_image_folders(root, annotations), annotations.parent]
