"""Paths that a command reads or writes, checked before the work begins."""

from __future__ import annotations

import contextlib
from pathlib import Path

from search_spaces.errors import InputError

_MADE: list[Path] = []
"""Folders that :func:`new_folder` made in this process, parents first."""


def new_folder(path: Path) -> Path:
    """Make a folder, with its parents, and return its path; an existing one is fine.

    Raises InputError if it cannot be made.
    """
    missing = [folder for folder in (*reversed(path.parents), path) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make folder {path} ({error.strerror})", "a place that you may write to") from None
    _MADE.extend(missing)
    return path


def remove_unused_folders() -> None:
    """Remove the folders that :func:`new_folder` made and that are still empty: what a refused command leaves."""
    while _MADE:
        with contextlib.suppress(OSError):
            _MADE.pop().rmdir()


def new_file(path: Path, ending: str) -> Path:
    """Make the folder of a file that is to be written and return the file's path.

    Raises InputError if the name does not end in ``ending``, by which readers recognise the file, or if the folder
    cannot be made.
    """
    if path.suffix != ending:
        raise InputError(f"--out {path}", f"a file name that ends in {ending}, such as {path.name.rstrip('.')}{ending}")
    new_folder(path.parent)
    return path


def existing(path: Path, what: str) -> Path:
    """Return a path that exists.

    Raises InputError, which calls it ``what``, if it does not.
    """
    if not path.exists():
        raise InputError(f"no such {what}: {path}", hint="check the path")
    return path
