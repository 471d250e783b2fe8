"""What a person names as images: files, folders, patterns, videos."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from nas.data import images as images
from nas.inference.video import SUFFIXES as VIDEOS

_MAGIC = frozenset("*?[")


def find_inputs(words: Sequence[str], recursive: bool = False) -> list[Path]:
    """Files in the order named, each once; those of a folder or pattern sorted. ``recursive``: the folders in a
    folder too.

    What is not there, and a folder without images or videos, is kept, so that whoever reads it can say so.
    """
    return list(dict.fromkeys(path for word in words for path in _found(word, recursive)))


def _found(word: str, recursive: bool) -> Iterator[Path]:
    path = Path(word)
    if path.is_dir():
        inside = [p for p in (path.rglob("*") if recursive else path.iterdir()) if is_visual(p) and p.is_file()]
        yield from sorted(inside) or [path]
    elif not path.exists() and _MAGIC & set(word):
        matching = [Path(name) for name in sorted(glob.glob(word, recursive=True))]
        yield from [p for p in matching if is_visual(p)] or matching or [path]
    else:
        yield path


def is_visual(path: Path) -> bool:
    """Whether its name says image or video."""
    return path.suffix.lower() in images.SUFFIXES or is_video(path)


def is_video(path: Path) -> bool:
    """Whether its name says video."""
    return path.suffix.lower() in VIDEOS
