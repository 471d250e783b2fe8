"""The files below a folder: linked folders too, hidden folders and those of other programs not.

File managers, notebooks and network disks put copies and thumbnails beside images (``.ipynb_checkpoints``, ``@eaDir``,
``__MACOSX``). Taken for images of the data set, they would be trained on as background.
"""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SYSTEM_FOLDERS = frozenset(
    {
        *("__macosx", "__pycache__", "lost+found", "~snapshot"),
        *("$recycle.bin", "recycler", "recycled", "system volume information", "found.000"),
        *("@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot"),
    }
)
"""Folders of operating systems and network disks, in lower case."""
MAX_SHOWN = 3
"""Files or folders named in a remark."""


@dataclass(frozen=True)
class Found:
    """What :func:`walk` found.

    Attributes:
        files: in the order of their paths.
        passed_over: folders that were not searched.
        unreadable: folders that could not be listed.
        unread: images of kinds that are not read.
    """

    files: tuple[Path, ...]
    passed_over: tuple[Path, ...]
    unreadable: tuple[Path, ...]
    unread: tuple[Path, ...] = ()

    def remarks(self) -> list[str]:
        """Return a line for folders that were passed over, one for those that could not be listed, one for ``unread``."""
        lines = (
            (self.passed_over, f"folders that were passed over: {_some(self.passed_over)}"),
            (self.unreadable, f"folders that could not be read: {_some(self.unreadable)}"),
            (self.unread, f"images of kinds that are not read ({len(self.unread)}): {_some(self.unread)}"),
        )
        return [line for paths, line in lines if paths]


def _some(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - MAX_SHOWN} more" if len(paths) > MAX_SHOWN else ""
    return ", ".join(map(str, paths[:MAX_SHOWN])) + more


def is_passed_over(name: str) -> bool:
    """Return whether a file or folder of this name is hidden or of a system."""
    return name.startswith(".") or name.casefold() in SYSTEM_FOLDERS


def walk(folder: Path, wanted: Callable[[str], bool], recursive: bool = True) -> Found:
    """Find the files below ``folder`` whose names are ``wanted`` and not hidden.

    Links to folders are followed. A folder that is reached twice (by a link to it, or by a link to a folder above) is
    searched once, in the place where it is and not where a link is.
    """
    files: list[Path] = []
    passed_over: list[Path] = []
    unreadable: list[Path] = []
    seen: set[tuple[int, int]] = set()
    queue, links = [folder], list[Path]()
    while queue or links:
        # links wait until all real folders are searched
        current = queue.pop() if queue else links.pop(0)
        try:
            status = os.stat(current)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(current) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except (OSError, ValueError):
            unreadable.append(current)
            continue
        for entry in listed:
            path = current / entry.name
            if _is_folder(entry):
                if is_passed_over(entry.name):
                    passed_over.append(path)
                elif recursive:
                    (links if entry.is_symlink() else queue).append(path)
            elif wanted(entry.name) and not is_passed_over(entry.name):
                files.append(path)
    return Found(tuple(sorted(files)), tuple(sorted(passed_over)), tuple(sorted(unreadable)))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle
        return False


def files_in(folder: Path, *suffixes: str) -> list[Path]:
    """Return the files directly in ``folder`` with one of ``suffixes`` (lower case), in any case, without hidden ones.

    macOS writes ``._a.xml`` beside ``a.xml``, Windows ``A.XML``.
    """
    return sorted(p for p in folder.glob("*") if p.suffix.lower() in suffixes and not is_passed_over(p.name))


def any_case(path: Path) -> Path:
    """Return ``path``, or the path with its suffix in upper case where only that exists."""
    upper = path.with_name(path.stem + path.suffix.upper()) if path.suffix else path
    return upper if not os.path.lexists(path) and os.path.lexists(upper) else path


def located(folder: Path, name: str) -> Path:
    r"""Return the file of that name, also where the name was written on a system that separates folders by ``\`` or
    composes accents otherwise."""
    slashes = name.replace("\\", "/")
    names = (name, slashes, unicodedata.normalize("NFC", slashes), unicodedata.normalize("NFD", slashes))
    return folder / next((form for form in names if os.path.exists(folder / form)), name)


def plainly_spelled(path: Path) -> Path:
    """Return ``path`` without ``..``, where that names the same file; behind a link to a folder, ``..`` may not."""
    plain = Path(os.path.normpath(path)) if ".." in path.parts else path
    with contextlib.suppress(OSError, ValueError):
        return plain if plain == path or os.path.samefile(plain, path) else path
    return path


def is_inside(path: Path, folder: Path) -> bool:
    """Return whether ``path`` lies below ``folder`` by its name; links are not followed."""
    place, top = os.path.abspath(path), os.path.abspath(folder)
    return os.path.commonpath((place, top)) == top


def leads_out(path: Path, folder: Path) -> bool:
    """Return whether ``path`` is outside ``folder`` both by its name and where links lead."""
    return not is_inside(path, folder) and not is_inside(path.resolve(), folder.resolve())
