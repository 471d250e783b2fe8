"""A yaml that describes a data set: found, read, and its entries checked.

Scalars stay text as written. YAML 1.1 would read the class names ``no``, ``010`` and ``12:30`` as False, 8 and 750. The
file is read as a stream of events, so that nesting and aliases are bounded: an alias is a reference to one value and
is never unfolded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nas.data.walk import files_in
from search_spaces.errors import InputError
from search_spaces.foreign_files import MIB, UnreadableFile, read_text
from search_spaces.text import brief

MAX_BYTES = 4 * MIB
"""Of one yaml: 100,000 class names fit."""
MAX_DEPTH = 50
"""Of lists and mappings inside one another."""
SUFFIXES = (".yaml", ".yml")

_EXPECTED = "a yaml that describes a data set"
_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map", "merge")
)
_MERGE = "<<"
_NULL = frozenset({"", "~", "null", "Null", "NULL"})


def yamls_in(path: Path) -> list[Path]:
    """Return the yaml that ``path`` is, or those in the folder that it is, without hidden ones."""
    if path.suffix.lower() in SUFFIXES and not os.path.isdir(path):
        return [path]
    return files_in(path, *SUFFIXES)


def load_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping that a file holds: lists, mappings with text keys, and text for every scalar.

    Raises:
        InputError: the file cannot be read, is no yaml, or holds something else than a mapping.
    """
    import yaml  # only here: digits, COCO and VOC folders need no PyYAML

    loader = yaml.CBaseLoader if yaml.__with_libyaml__ else yaml.BaseLoader
    try:
        content = _build(yaml.parse(read_text(path, MAX_BYTES), Loader=loader))
    except UnreadableFile as error:
        got = f"no file {path}" if error.missing else f"cannot read {path} ({error.reason})"
        raise InputError(got, _EXPECTED) from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path} is not yaml ({' '.join(str(error).split())[:120]})", _EXPECTED) from None
    if not isinstance(content, dict):
        kind = "NoneType" if content in _NULL_VALUES else type(content).__name__
        raise InputError(f"{path} holds a {kind}", "keys train, val and names, or train_json and val_json")
    return content


_NULL_VALUES: tuple[object, ...] = (None, *_NULL)


def _build(events: Iterable[Any]) -> Any:
    """Return the value that a stream of yaml events describes; None where it holds no document.

    Raises:
        ValueError: the document is nested too deep, has a tag of another program, a key that is no text or stands there
            twice, an alias of nothing, or is one of several.
    """
    root: list[Any] = []
    stack: list[_Open] = [_Open(root)]
    anchors: dict[str, Any] = {}
    for event in events:
        kind = type(event).__name__
        if kind in ("SequenceEndEvent", "MappingEndEvent"):
            stack.pop()
        elif kind == "AliasEvent":
            if event.anchor not in anchors:
                raise ValueError(f"alias {event.anchor[:40]!r} of nothing")
            stack[-1].add(anchors[event.anchor])
        elif kind in ("ScalarEvent", "SequenceStartEvent", "MappingStartEvent"):
            if event.tag not in _TAGS | {None, "!"}:
                raise ValueError(f"tag {event.tag[:60]!r} is not read here")
            value = event.value if kind == "ScalarEvent" else [] if kind == "SequenceStartEvent" else {}
            stack[-1].add(value)
            if event.anchor is not None:
                anchors[event.anchor] = value
            if kind != "ScalarEvent":
                stack.append(_Open(value))
                if len(stack) > MAX_DEPTH:
                    raise ValueError(f"nested more than {MAX_DEPTH} deep")
    if len(root) > 1:
        raise ValueError("several documents in one file")
    return root[0] if root else None


class _Open:
    """A list or mapping that is being filled; of a mapping, keys and values come in turn."""

    def __init__(self, container: list[Any] | dict[str, Any]) -> None:
        self.container = container
        self.key: str | None = None
        self.keys: set[str] = set()

    def add(self, value: Any) -> None:
        """Take the next item, key or value."""
        if isinstance(self.container, list):
            self.container.append(value)
        elif self.key is None:
            if not isinstance(value, str):
                raise ValueError(f"a key that is a {type(value).__name__}")
            if value in self.keys:  # PyYAML takes the last, and one class or one split would be lost
                raise ValueError(f"key {value[:40]!r} stands there twice")
            self.key = value
            if value != _MERGE:
                self.keys.add(value)
        else:
            if self.key == _MERGE and isinstance(value, dict):  # defaults for the keys that the mapping lacks
                for name in value:
                    self.container.setdefault(name, value[name])
            else:
                self.container[self.key] = value
            self.key = None


def given(content: Mapping[str, Any], key: str) -> Any:
    """Return the value of ``key``; None where it is missing, empty or null."""
    value = content.get(key)
    return None if value is None or value == [] or value == {} or (isinstance(value, str) and value in _NULL) else value


def text_of(content: Mapping[str, Any], key: str, path: Path) -> str | None:
    """Return the text of ``key``, None where there is none. Raises InputError if it is a list or a mapping."""
    value = given(content, key)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{path}: {key} is {brief(value)}", "text")
    return value


def number_of(content: Mapping[str, Any], key: str, path: Path) -> int | None:
    """Return the whole number of ``key``, None where there is none. Raises InputError if it is no whole number."""
    text = text_of(content, key, path)
    if text is not None and not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise InputError(f"{path}: {key} is {brief(text)}", "a whole number")
    return None if text is None else int(text)


def root_of(content: Mapping[str, Any], path: Path) -> Path:
    """Return the folder that the entries of the yaml at ``path`` are relative to: its ``path``, else its own.

    Raises InputError if ``path`` is no text.
    """
    return path.parent / (text_of(content, "path", path) or ".")


def name_of(path: Path) -> str:
    """Return the name of the data set: that of the yaml, or of its folder where the yaml has a usual name."""
    return path.stem if path.stem not in ("data", "dataset") else path.resolve().parent.name


def need(content: Mapping[str, Any], path: Path, *keys: str) -> None:
    """Check that all ``keys`` have a value. Raises InputError with the names of those that have none."""
    if lacking := [key for key in keys if given(content, key) is None]:
        raise InputError(
            f"{path} has no {' and no '.join(lacking)}",
            "train, val and names (YOLO), or train_json and val_json (COCO)",
        )
