"""A yaml that describes a data set: found, read, and its entries checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search_spaces.errors import InputError
from search_spaces.foreign_files import MIB, UnreadableFile, read_text

MAX_BYTES = 4 * MIB
"""Of one yaml: 100,000 class names fit."""
SUFFIXES = (".yaml", ".yml")


def yamls_in(path: Path) -> list[Path]:
    """The yaml that ``path`` is, or those in the folder that it is."""
    if path.suffix in SUFFIXES and not path.is_dir():
        return [path]
    return sorted(file for suffix in SUFFIXES for file in path.glob(f"*{suffix}"))


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping that the file holds."""
    import yaml  # only here: digits, COCO and VOC folders need no PyYAML

    try:
        content = yaml.safe_load(read_text(path, MAX_BYTES))
    except UnreadableFile as error:
        got = f"no file {path}" if error.missing else f"cannot read {path} ({error.reason})"
        raise InputError(got, "a yaml that describes a data set") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(
            f"{path} is not yaml ({' '.join(str(error).split())[:120]})", "a yaml that describes a data set"
        ) from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds a {type(content).__name__}", "keys train, val and names, or train_json and val_json"
        )
    return content


def root_of(content: Mapping[str, Any], path: Path) -> Path:
    """The folder that the entries of the yaml at ``path`` are relative to: its ``path``, else its own."""
    return path.parent / str(content.get("path") or ".")


def name_of(path: Path) -> str:
    """What the data set is called: as the yaml, or as its folder where the yaml has a name that all have."""
    return path.stem if path.stem not in ("data", "dataset") else path.resolve().parent.name


def need(content: Mapping[str, Any], path: Path, *keys: str) -> None:
    """An error that names the keys that are missing or empty."""
    if lacking := [key for key in keys if not content.get(key)]:
        raise InputError(
            f"{path} has no {' and no '.join(lacking)}",
            "train, val and names (YOLO), or train_json and val_json (COCO)",
        )
