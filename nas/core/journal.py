"""Journals: files of JSON lines with the settings first. An incomplete last line is dropped when one is read."""

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
    """Reads and appends the lines of one journal."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Mapping[str, Any]]:
        """Return the complete lines; none where there is no file.

        An incomplete line after complete ones, which an interrupted process left, is removed from the file. Raises
        InputError if the file cannot be read or a line is damaged.
        """
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
        """Begin a new journal with the settings as its first line."""
        atomic_write(self.path, json.dumps(settings) + "\n")

    def append(self, line: Mapping[str, Any]) -> None:
        """Append a line and flush it to disk, so that it survives an interruption.

        Raises InputError if the file cannot be written.
        """
        try:
            with self.path.open("ab") as file:
                file.write(json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(
                f"cannot write {self.path}: {error.strerror}", hint="the same command resumes once that is mended"
            ) from None

    def _parse(self, line: bytes, number: int) -> Mapping[str, Any]:
        hint = "remove that line, or choose another --out"
        where = f"line {number} of {self.path} is damaged"
        return JsonObject.of(parse_json(line, where, hint), where).entries
