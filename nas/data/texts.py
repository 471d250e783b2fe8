"""Text files of data sets: lists of images, labels, class names."""

from __future__ import annotations

from pathlib import Path

from search_spaces.errors import InputError


def lines_of(path: Path) -> list[str]:
    """The lines that are not empty, stripped; a byte order mark is dropped."""
    try:
        return [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} ({error})", "a text file") from None


def class_names(*places: Path) -> tuple[str, ...]:
    """The lines of the first of ``places`` that exists; none where no one does."""
    return next((tuple(lines_of(path)) for path in places if path.is_file()), ())
