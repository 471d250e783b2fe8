"""Paths that a command reads or writes, checked before the work begins."""

from __future__ import annotations

from pathlib import Path

from search_spaces.errors import InputError


def new_folder(path: Path) -> Path:
    """Make a folder, with its parents, and return its path; an existing one is fine.

    Raises InputError if it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make folder {path} ({error.strerror})", "a place that you may write to") from None
    return path


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
