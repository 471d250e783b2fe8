"""Text files of data sets: lists of images, labels, class names."""

from __future__ import annotations

import os
from pathlib import Path

from search_spaces.errors import InputError
from search_spaces.foreign_files import MIB, UnreadableFile, read_text

MAX_BYTES = 64 * MIB
"""Of one text file: a list of a million long paths takes 60 MB."""


def lines_of(path: Path) -> list[str]:
    """The lines that are not empty, stripped; a byte order mark is dropped."""
    try:
        text = read_text(path, MAX_BYTES)
    except UnreadableFile as error:
        raise InputError(f"cannot read {path} ({error.reason})", "a text file") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def class_names(*places: Path) -> tuple[str, ...]:
    """The lines of the first of ``places`` that exists; none where no one does."""
    return next((tuple(lines_of(path)) for path in places if os.path.lexists(path)), ())
