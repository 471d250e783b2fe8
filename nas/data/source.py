"""``open_data``: what a person writes after ``--data`` -> the train and val splits.

=============================  ==============================================================================================
``digits``                     the embedded set, 2,000 + 400 pictures of 128 px
``digits@160:train=500,val=100,seed=1``  the same at 160 px, with other numbers; each part may be left out
a folder, COCO                 ``train.json``, ``val.json`` beside ``images/``; or ``annotations/instances_train*.json`` and ``…val*.json``;
                               or ``train/_annotations.coco.json`` and ``valid/_annotations.coco.json``
a folder, YOLO                 ``images/train``, ``images/val``, ``labels/train``, ``labels/val``; classes in ``classes.txt``, or a yaml inside
a yaml, YOLO                   ``train``, ``val`` (folders of pictures, or .txt lists), ``names`` (list, or index: name); ``path`` is prepended
a yaml, COCO                   ``train_json``, ``val_json``; ``train_images``, ``val_images`` or ``images``; ``path`` is prepended
=============================  ==============================================================================================

Relative paths in a yaml are relative to the yaml. A string that is exactly a ``digits`` spec means the embedded set; write ``./digits`` for a folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.data.coco import read_coco
from nas.data.dataset import DetectionDataset, choose, same_classes
from nas.data.digits import DigitsOptions, digits_folder
from nas.data.transforms import Augmentation
from nas.data.yolo import numbered_classes, read_yolo
from search_spaces.errors import InputError

_DIGITS = re.compile(r"digits(?:@(?P<size>[^:]*))?(?::(?P<options>.*))?")
_VAL_NAMES = ("val", "valid", "validation")


@dataclass(frozen=True, eq=False)
class DataPair:
    """Train and val of one data set, with equal ``classes``; ``fingerprint`` (16 hex digits) changes with its content; ``augmentation`` suits it."""

    name: str
    train: DetectionDataset
    val: DetectionDataset
    augmentation: Augmentation = Augmentation.DEFAULT

    def __post_init__(self) -> None:
        same_classes(self.train.classes, self.val.classes)
        if self.train.classes != self.val.classes:
            raise InputError(f"train orders the classes {self.train.classes}, val {self.val.classes}", "the same order in both")
        if not self.train.boxes:
            raise InputError(f"the train split of {self.name} has no usable box", "at least one", "; ".join(self.train.problems.lines()))
        if not self.val.boxes:
            raise InputError(f"the val split of {self.name} has no usable box", "at least one", "; ".join(self.val.problems.lines()))
        shared = {s.path.resolve() for s in self.train.samples} & {s.path.resolve() for s in self.val.samples}
        if shared:
            self.val.problems.add("picture in both splits", min(shared), "also in train: its accuracy says nothing", len(shared))

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
    """The data set that ``spec`` names (module docstring). ``limit``: at most so many pictures of each split, chosen by chance but always the same.

    ``cache``: where generated data is kept; default :func:`cache_folder`. InputError says what was looked for when nothing fits.
    """
    choose(1, limit)
    if isinstance(spec, str) and (match := _DIGITS.fullmatch(spec)):
        folder = digits_folder(parse_digits(spec, match), cache or cache_folder())
        train, val = ((folder / f"{split}.json", [folder / "images"]) for split in ("train", "val"))
        return _coco_pair(spec, train, val, limit, Augmentation.UNMIRRORED)
    path = Path(spec).expanduser()
    if path.is_dir():
        return _open_folder(path, limit)
    if path.suffix in (".yaml", ".yml"):
        return _open_yaml(path, limit)
    found = "a file of another kind" if path.exists() else "nothing there"
    raise InputError(
        f"no data set at {str(spec)!r} ({found})", "digits, digits@160, a folder with a COCO or YOLO data set, or a .yaml that describes one"
    )


def cache_folder() -> Path:
    """Where generated data is kept: ``NAS_CACHE``, else ``nas`` in the user's cache folder (XDG base directory specification)."""
    if folder := os.environ.get("NAS_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nas"


def parse_digits(spec: str, match: re.Match[str]) -> DigitsOptions:
    """``digits@SIZE:train=N,val=N,seed=N``, all parts optional and whole numbers."""
    values = {"size": match["size"]} if match["size"] is not None else {}
    for part in match["options"].split(",") if match["options"] is not None else []:
        key, equals, value = part.partition("=")
        if key not in ("train", "val", "seed") or not equals or key in values:
            raise InputError(f"option {part!r} of data {spec!r}", "train=N, val=N or seed=N, each once, separated by commas")
        values[key] = value
    numbers = {}
    for key, value in values.items():
        if not value.isascii() or not value.isdecimal():
            raise InputError(f"{key} {value!r} of data {spec!r}", "a whole number", "for example digits@160:train=500,val=100,seed=1")
        numbers[key] = int(value)
    return DigitsOptions(**numbers)


_Split = tuple[Path, list[Path]]
"""A COCO json and the folders where its pictures may be, the likeliest first."""


def _coco_pair(name: str, train: _Split, val: _Split, limit: int | None, augmentation: Augmentation = Augmentation.DEFAULT) -> DataPair:
    """Each split has folders of its own: file names of the two may be equal."""
    first = read_coco(*train, name=name, split="train", limit=limit)
    second = read_coco(*val, name=name, split="val", classes=first.classes, limit=limit)
    return DataPair(name, first, second, augmentation)


def _open_folder(folder: Path, limit: int | None) -> DataPair:
    """COCO before YOLO: a json with boxes is unmistakable, a folder called images is not."""
    name = folder.resolve().name
    for train, val in _coco_files(folder):
        if train.is_file() and val.is_file():
            return _coco_pair(name, (train, _picture_folders(folder, train)), (val, _picture_folders(folder, val)), limit)
    if yamls := sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        if len(yamls) > 1:
            raise InputError(f"{len(yamls)} yaml files in {folder}", "one", f"name the one you mean: {', '.join(map(str, yamls))}")
        return _open_yaml(yamls[0], limit)
    for val_name in _VAL_NAMES:
        train_pictures, val_pictures = folder / "images" / "train", folder / "images" / val_name
        if train_pictures.is_dir() and val_pictures.is_dir():
            classes = _classes_file(folder) or numbered_classes([train_pictures, val_pictures])
            return _yolo_pair(name, [train_pictures], [val_pictures], classes, limit)
    raise InputError(
        f"no data set in {folder}",
        "train.json and val.json, annotations/instances_train*.json and instances_val*.json, a .yaml, or images/train and images/val",
    )


def _coco_files(folder: Path) -> Iterator[tuple[Path, Path]]:
    for val in _VAL_NAMES:
        yield folder / "train.json", folder / f"{val}.json"
        yield folder / "annotations" / "train.json", folder / "annotations" / f"{val}.json"
        yield folder / "train" / "_annotations.coco.json", folder / val / "_annotations.coco.json"
    trains, vals = (sorted((folder / "annotations").glob(f"instances_{split}*.json")) for split in ("train", "val"))
    if trains and vals:
        yield trains[-1], vals[-1]  # the newest year, where several stand there


def _picture_folders(folder: Path, annotations: Path) -> list[Path]:
    """Where the pictures of a COCO json in ``folder`` may be: in a folder called as its split, or in one for all."""
    split = annotations.parent.name if annotations.stem.startswith("_") else annotations.stem.removeprefix("instances_")
    return [folder / "images" / split, folder / split, folder / "images", folder]


def _open_yaml(path: Path, limit: int | None) -> DataPair:
    content = _load_yaml(path)
    root = path.parent / str(content.get("path") or ".")
    name = path.stem if path.stem not in ("data", "dataset") else path.resolve().parent.name
    if "train_json" in content or "val_json" in content:
        _need(content, path, "train_json", "val_json")
        train, val = (_yaml_split(content, split, root) for split in ("train", "val"))
        return _coco_pair(name, train, val, limit)
    val_key = next((key for key in _VAL_NAMES if key in content), "val")
    _need(content, path, "train", val_key, "names")
    classes = _names(content, path)
    return _yolo_pair(name, _sources(content["train"], root), _sources(content[val_key], root), classes, limit)


def _yaml_split(content: Mapping[str, Any], split: str, root: Path) -> _Split:
    annotations = root / str(content[f"{split}_json"])
    folders = [root / str(content[key]) for key in (f"{split}_images", "images") if content.get(key)]
    return annotations, folders or [*_picture_folders(root, annotations), annotations.parent]


def _load_yaml(path: Path) -> dict[str, Any]:
    import yaml  # only here: digits and COCO need no PyYAML

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"no file {path}", "a yaml that describes a data set") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} ({error})", "a yaml that describes a data set") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not yaml ({' '.join(str(error).split())[:120]})", "a yaml that describes a data set") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}", "keys train, val and names, or train_json and val_json")
    return content


def _need(content: Mapping[str, Any], path: Path, *keys: str) -> None:
    if lacking := [key for key in keys if not content.get(key)]:
        raise InputError(f"{path} has no {' and no '.join(lacking)}", "train, val and names (YOLO), or train_json and val_json (COCO)")


def _names(content: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """``names`` as a list, or as index: name without gaps; ``nc``, where it stands there, must agree."""
    names = content["names"]
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise InputError(f"{path}: names are numbered {list(names)}", f"0..{len(names) - 1} without gaps")
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list):
        raise InputError(f"{path}: names is a {type(names).__name__}", "a list of class names, or index: name")
    if content.get("nc", len(names)) != len(names):
        raise InputError(f"{path}: nc is {content['nc']}, but there are {len(names)} names", "the same number")
    return tuple(str(name) for name in names)


def _sources(entry: Any, root: Path) -> list[Path]:
    """One path or a list of them. Exports of a well-known labelling service write ``../train/images`` for a folder beside the yaml: tolerated."""
    paths = []
    for text in map(str, entry if isinstance(entry, list) else [entry]):
        path = root / text
        beside = root / text.removeprefix("../")
        paths.append(beside if not path.exists() and beside.exists() else path)
    return paths


def _classes_file(folder: Path) -> tuple[str, ...]:
    """The lines of ``classes.txt``; none where it is absent."""
    for path in (folder / "classes.txt", folder / "labels" / "classes.txt"):
        if path.is_file():
            return tuple(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    return ()


def _yolo_pair(name: str, train: list[Path], val: list[Path], classes: tuple[str, ...], limit: int | None) -> DataPair:
    first = read_yolo(train, classes, name=name, split="train", limit=limit)
    return DataPair(name, first, read_yolo(val, classes, name=name, split="val", limit=limit))
