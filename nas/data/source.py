"""``open_data``: what a person writes after ``--data`` -> the train and val splits.

=============================
============================================================================================== ``digits``
       the embedded set, 2,000 + 400 images of 128 px ``digits@160:train=500,val=100,seed=1``  the same at 160 px,
       with other numbers; each part may be left out
a folder, COCO                 ``train.json``, ``val.json`` beside ``images/``; or
``annotations/instances_train*.json`` and ``…val*.json``;
                               or ``train/_annotations.coco.json`` and ``valid/_annotations.coco.json``
a folder, Pascal VOC           ``Annotations/*.xml``, ``JPEGImages/``, ``ImageSets/Main/train.txt`` and ``val.txt``;
or ``train/*.xml`` and
                               ``valid/*.xml`` beside images; classes in ``classes.txt``, else all that occur
a folder, YOLO                 ``images/train``, ``images/val``, ``labels/train``, ``labels/val``; classes in
``classes.txt``, or a yaml inside a yaml, YOLO                   ``train``, ``val`` (folders of images, or .txt
lists), ``names`` (list, or index: name); ``path`` is prepended a yaml, COCO                   ``train_json``,
``val_json``; ``train_images``, ``val_images`` or ``images``; ``path`` is prepended =============================
==============================================================================================

The formats are :data:`nas.data.formats.FORMATS`. Relative paths in a yaml are relative to the yaml. A string that is
exactly a ``digits`` spec means the embedded set; write ``./digits`` for a folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from nas.data.coco import Coco
from nas.data.dataset import DetectionDataset, choose, same_classes
from nas.data.digits import DigitsOptions, digits_folder
from nas.data.formats import DataFormat, deeper, expected_formats, recognise
from nas.data.transforms import Augmentation
from nas.data.yaml_files import SUFFIXES
from search_spaces.errors import InputError

_DIGITS = re.compile(r"digits(?:@(?P<size>[^:]*))?(?::(?P<options>.*))?")


@dataclass(frozen=True, eq=False)
class DataPair:
    """Train and val of one data set, with equal ``classes``; ``fingerprint`` (16 hex digits) changes with its
    content; ``augmentation`` suits it."""

    name: str
    train: DetectionDataset
    val: DetectionDataset
    augmentation: Augmentation = Augmentation.DEFAULT

    def __post_init__(self) -> None:
        same_classes(self.train.classes, self.val.classes)
        if self.train.classes != self.val.classes:
            raise InputError(
                f"train orders the classes {self.train.classes}, val {self.val.classes}", "the same order in both"
            )
        for data in (self.train, self.val):
            if data.boxes == data.ignored:
                ignored = f" ({data.ignored} ignored: crowd or difficult)" if data.ignored else ""
                raise InputError(
                    f"the {data.split} split of {self.name} has no usable box{ignored}",
                    "at least one",
                    "; ".join(data.problems.lines()),
                )
        shared = {s.path.resolve() for s in self.train.samples} & {s.path.resolve() for s in self.val.samples}
        if shared:
            self.val.problems.add(
                "image in both splits", min(shared), "also in train: its accuracy says nothing", len(shared)
            )

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.train.fingerprint} {self.val.fingerprint}".encode()).hexdigest()[:16]

    def problems(self) -> list[str]:
        """One line per kind of problem and split, each with its count and first case."""
        return [f"{d.split}: {line}" for d in (self.train, self.val) for line in d.problems.lines()]


def open_data(spec: str | Path, *, limit: int | None = None, cache: Path | None = None) -> DataPair:
    """The data set that ``spec`` names (module docstring). ``limit``: at most so many images of each split, chosen
    by chance but always the same.

    ``cache``: where generated data is kept; default :func:`cache_folder`. InputError says what was looked for when
    nothing fits.
    """
    choose(1, limit)
    found = find_data(spec, cache)
    check_splits(found, spec)
    train = found.read("train", limit=limit)
    return DataPair(
        found.name,
        train,
        found.read("val", limit=limit),
        Augmentation.UNMIRRORED if is_digits(spec) else Augmentation.DEFAULT,
    )


def open_split(
    spec: str | Path, split: str, *, limit: int | None = None, cache: Path | None = None
) -> DetectionDataset:
    """One split of what ``spec`` names: ``train``, ``val``, ``test`` where there is one, ``images`` of a folder
    without annotations."""
    choose(1, limit)
    found = find_data(spec, cache)
    if split not in found.splits:
        raise InputError(f"no {split} split in {spec}", f"one of {', '.join(found.splits) or 'none, it has no split'}")
    return found.read(split, limit=limit)


def with_split(data: DataPair, spec: str | Path, split: str, *, limit: int | None = None) -> DataPair:
    """The data set with another of its splits in the place of val."""
    return data if split == data.val.split else replace(data, val=open_split(spec, split, limit=limit))


def find_data(spec: str | Path, cache: Path | None = None) -> DataFormat:
    """The data set that ``spec`` names, not read yet."""
    if isinstance(spec, str) and (match := _DIGITS.fullmatch(spec)):
        folder = digits_folder(parse_digits(spec, match), cache or cache_folder())
        return Coco(spec, {split: (folder / f"{split}.json", [folder / "images"]) for split in ("train", "val")})
    path = Path(spec).expanduser()
    if not path.exists() and path.suffix not in SUFFIXES:
        raise InputError(
            f"no data set at {str(spec)!r} (nothing there)",
            "digits, digits@160, a folder with a COCO, YOLO or Pascal VOC data set, or a .yaml that describes one",
        )
    return recognise(path)


def check_splits(found: DataFormat, spec: str | Path) -> None:
    """An error unless there is a train and a val split."""
    if not found.annotated:
        raise InputError(
            f"{spec} has images but no annotations, good for prediction only",
            expected_formats(),
            deeper(Path(spec).expanduser()),
        )
    if lacking := [split for split in ("train", "val") if split not in found.splits]:
        has = f"it has {' and '.join(found.splits)}" if found.splits else "it has none"
        raise InputError(f"no {' and no '.join(lacking)} split in {spec} ({has})", found.looked_for)


def is_digits(spec: str | Path) -> bool:
    """Whether the embedded data set is meant."""
    return isinstance(spec, str) and _DIGITS.fullmatch(spec) is not None


def cache_folder() -> Path:
    """Where generated data is kept: ``NAS_CACHE``, else ``nas`` in the user's cache folder (XDG base directory
    specification)."""
    if folder := os.environ.get("NAS_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nas"


def parse_digits(spec: str, match: re.Match[str]) -> DigitsOptions:
    """``digits@SIZE:train=N,val=N,seed=N``, all parts optional and whole numbers."""
    values = {"size": match["size"]} if match["size"] is not None else {}
    for part in match["options"].split(",") if match["options"] is not None else []:
        key, equals, value = part.partition("=")
        if key not in ("train", "val", "seed") or not equals or key in values:
            raise InputError(
                f"option {part!r} of data {spec!r}", "train=N, val=N or seed=N, each once, separated by commas"
            )
        values[key] = value
    numbers = {}
    for key, value in values.items():
        if not value.isascii() or not value.isdecimal():
            raise InputError(
                f"{key} {value!r} of data {spec!r}", "a whole number", "for example digits@160:train=500,val=100,seed=1"
            )
        numbers[key] = int(value)
    return DigitsOptions(**numbers)
