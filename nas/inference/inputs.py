"""Images and videos by name: files, folders, patterns."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from nas.data import images as images
from nas.data.walk import walk
from nas.inference.video import SUFFIXES as VIDEOS
from search_spaces.errors import InputError

_MAGIC = frozenset("*?[")


def find_inputs(words: Sequence[str], recursive: bool = False) -> list[Path]:
    """Return the files that ``words`` name, in that order and each once; those of a folder or pattern are sorted.

    With ``recursive`` the folders in a folder are searched too, linked ones included; hidden folders and those of
    operating systems are not. A path that does not exist and a folder without images or videos are kept, so that the
    reader can report them.

    Raises InputError for the address of a stream (``rtsp://…``).
    """
    return list(dict.fromkeys(path for word in words for path in _found(word, recursive)))


def _found(word: str, recursive: bool) -> Iterator[Path]:
    if "://" in word:
        raise InputError(
            f"{word} is the address of a stream", "images, videos, folders or patterns", "record it to a file first"
        )
    path = Path(word)
    if path.is_dir():
        inside = walk(path, lambda name: is_visual(Path(name)), recursive).files
        yield from [file for file in inside if file.is_file()] or [path]
    elif is_pattern(word):
        matching = [Path(name) for name in sorted(glob.glob(word, recursive=True))]
        yield from [p for p in matching if is_visual(p)] or matching or [path]
    else:
        yield path


def is_pattern(word: str) -> bool:
    """Return whether ``word`` is a pattern and not the name of a file that has such characters."""
    return bool(_MAGIC & set(word)) and not Path(word).exists()


def is_visual(path: Path) -> bool:
    """Return whether the suffix is that of an image or a video."""
    return path.suffix.lower() in images.SUFFIXES or is_video(path)


def is_video(path: Path) -> bool:
    """Return whether the suffix is that of a video."""
    return path.suffix.lower() in VIDEOS
