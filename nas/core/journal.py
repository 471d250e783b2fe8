"""A journal: a file of JSON lines, the settings first. What a kill tears is the last line, which is dropped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.core.atomic import atomic_write
from search_spaces.errors import InputError
from search_spaces.json_checks import JsonObject, parse_json


class Journal:
    """The lines of one journal."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Mapping[str, Any]]:
        """The whole lines; what a kill has left of another is cut off the file, so that the next one does not go on
        in it. InputError for damage."""
        try:
            content = self.path.read_bytes()
            whole, end, torn = content.rpartition(b"\n")
            if end and torn:
                os.truncate(self.path, len(whole) + len(end))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror}") from None
        lines = whole.split(b"\n") if end else [torn] * bool(torn)
        return [self._parse(line, i) for i, line in enumerate(lines, 1)]

    def start(self, settings: Mapping[str, Any]) -> None:
        """A new journal with its first line."""
        atomic_write(self.path, json.dumps(settings) + "\n")

    def append(self, line: Mapping[str, Any]) -> None:
        """Keep a line; once this returns, a kill loses nothing of it."""
        try:
            with self.path.open("ab") as file:
                file.write(json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(
                f"cannot write {self.path}: {error.strerror}", hint="the same command goes on once that is mended"
            ) from None

    def _parse(self, line: bytes, number: int) -> Mapping[str, Any]:
        hint = "remove that line, or choose another --out"
        where = f"line {number} of {self.path} is damaged"
        return JsonObject.of(parse_json(line, where, hint), where).entries
