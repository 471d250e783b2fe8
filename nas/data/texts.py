"""Text files of data sets: lists of images, labels, class names."""

from __future__ import annotations

import os
from pathlib import Path

from search_spaces.errors import InputError
from search_spaces.foreign_files import MIB, UnreadableFile, read_text

MAX_BYTES = 64 * MIB
"""Of one text file: a list of a million long paths takes 60 MB."""


def lines_of(path: Path, errors: str = "strict") -> list[str]:
    """Return the lines that are not empty, stripped; a byte order mark is dropped.

    ``errors``: what happens to bytes that are not UTF-8, as of ``bytes.decode``.

    Raises:
        InputError: the file cannot be read, or is not UTF-8 where ``errors`` is "strict".
    """
    try:
        text = read_text(path, MAX_BYTES, errors=errors)
    except UnreadableFile as error:
        raise InputError(f"cannot read {path} ({error.reason})", "a text file") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def class_names(*places: Path) -> tuple[str, ...]:
    """Return the lines of the first of ``places`` that exists; none where none does.

    Raises InputError if that file cannot be read.
    """
    return next((tuple(lines_of(path)) for path in places if os.path.lexists(path)), ())
