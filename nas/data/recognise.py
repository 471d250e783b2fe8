"""Recognition of the data set at a path, with hints if there is none, or one without train and val."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from nas.data.formats import FORMATS, DataFormat, expected_formats
from search_spaces.errors import InputError
from search_spaces.foreign_files import UnreadableFile, open_file

_LOOKED_AT = 20
"""Files or folders that are looked at for a hint."""
_HEAD = 1 << 16
"""Bytes of a json that are looked at for the keys of COCO."""
_LEVELS = 3
"""Folders above a file that are looked at."""
_MAX_BYTES = 1 << 40


def recognise(path: Path) -> DataFormat:
    """Return the data set at ``path``: of the first format that finds both train and val, else of the first that finds
    anything.

    Raises:
        InputError: no format finds anything (:func:`nothing_at`), or a description of a data set is malformed.
    """
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
    """Return the error for a path without a data set.

    It states what was looked for, what is there instead, and the folder inside or above that would do.
    """
    inside = deeper(path)
    if not inside and (part := part_of_a_data_set(path)):
        return part
    return InputError(f"no data set in {path}{_holding(path)}", expected_formats(), inside or unsplit(path))


def part_of_a_data_set(path: Path) -> InputError | None:
    """Return the error for a file or a folder in an annotated data set, which is there but not named; None if it is in
    none."""
    empty = os.path.isdir(path) and not any(path.iterdir())
    if empty or not os.path.exists(path) or (folder := _above(path)) is None:
        return None
    kind = "folder" if os.path.isdir(path) else "file"
    return InputError(f"{path} is one {kind} of a data set", "its folder or a yaml", f"did you mean {folder}?")


def deeper(folder: Path) -> str:
    """Return a hint at the folder inside that holds an annotated data set, as an archive often brings one; else ""."""
    inside = sorted(path for path in folder.glob("*") if os.path.isdir(path))[:_LOOKED_AT]
    return next((f"did you mean {path}?" for path in inside if _annotated(path)), "")


def unsplit(folder: Path) -> str:
    """Return a hint at annotations that are not divided into train and val, as labelling tools export them; else ""."""
    for path in _first(folder, "*.json", "annotations/*.json"):
        if _is_coco(path):
            return (
                f"{path} has no name of a split: divide it into train.json and val.json, or name two files in a yaml"
                " as train_json and val_json"
            )
    for path in _first(folder, "ImageSets/Main/*.txt"):
        return f"{path} is no list of a split: write ImageSets/Main/train.txt and val.txt"
    for path in _first(folder, "labels/*.txt", "*.txt"):
        if path.name != "classes.txt" and any(os.path.exists(path.with_suffix(s)) for s in (".jpg", ".png")):
            return _UNSPLIT_YOLO.format(labels=path.parent)
        if path.parent.name == "labels" and path.name != "classes.txt":
            return _UNSPLIT_YOLO.format(labels=path.parent)
    return ""


_UNSPLIT_YOLO = (
    "{labels} has labels without splits: divide them into images/train, images/val, labels/train and labels/val, or"
    " name two lists of images in a yaml as train and val"
)


def _first(folder: Path, *patterns: str) -> Iterator[Path]:
    for pattern in patterns:
        yield from islice(sorted(islice(folder.glob(pattern), 1000)), _LOOKED_AT)


def _is_coco(path: Path) -> bool:
    try:
        with open_file(path, _MAX_BYTES) as file:
            head = file.read(_HEAD)
            file.seek(max(0, file.seek(0, 2) - _HEAD))
            return any(key in head + file.read(_HEAD) for key in (b'"annotations"', b'"categories"'))
    except (UnreadableFile, OSError):
        return False


def _above(path: Path) -> Path | None:
    """The folder above that holds an annotated data set with splits, which the path belongs to."""
    levels = _LEVELS if os.path.isfile(path) else _LEVELS - 1
    return next((folder for folder in list(path.absolute().parents)[:levels] if _annotated(folder)), None)


def _annotated(folder: Path) -> DataFormat | None:
    for name in FORMATS:
        try:
            found = FORMATS[name].find(folder) if FORMATS[name].annotated else None
        except InputError:  # there is something, but it is not the place to complain about it
            continue
        if found is not None and found.splits:
            return found
    return None


def _holding(folder: Path) -> str:
    if not os.path.isdir(folder):
        return ""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        return f" (it cannot be read: {error.strerror})"
    if not names:
        return " (it is empty)"
    return f" (it holds {', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''})"
