"""Picture files: their size from the header, their pixels by OpenCV. Whatever is wrong with one is a :class:`BrokenImage`."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import InputError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # ITU T.81 table B.1: C4, C8, CC are tables, not frames
_ORIENTATION = 0x0112  # Exif 2.3 table 4
_SIDEWAYS = frozenset({5, 6, 7, 8})  # orientations that swap width and height


class BrokenImage(InputError):
    """A picture that is missing, unreadable, or not of the size its annotations were made for."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}", "a readable picture", "replace the file, or remove it from the data set")
        self.path = path
        self.reason = reason


Size = tuple[int, int]
"""(width, height) in pixels."""


def picture_sizes(path: Path) -> tuple[Size, Size]:
    """(width, height) in pixels as shown (Exif orientation applied, as :func:`read_picture` gives it) and as stored; from the header where possible.

    PNG and JPEG headers are read here because decoding a whole data set only to learn its sizes takes minutes.
    """
    try:
        with path.open("rb") as file:
            head = file.read(24)
            if head.startswith(b"\x89PNG\r\n\x1a\n"):
                size = struct.unpack(">II", head[16:24])
                return size, size
            if head.startswith(b"\xff\xd8"):
                return _jpeg_sizes(file, path)
    except FileNotFoundError:
        raise BrokenImage(path, "no such picture") from None
    except OSError as error:
        raise BrokenImage(path, f"cannot be read ({error.strerror})") from None
    except struct.error:
        raise BrokenImage(path, "cut off within its header") from None
    height, width = read_picture(path).shape[:2]
    return (width, height), (width, height)


def read_picture(path: Path, size: Size | None = None) -> NDArray[np.uint8]:
    """RGB uint8 [H, W, 3]. ``size`` (width, height) is what the annotations were made for: another one is broken.

    Exif orientation is applied, unless the annotations were made for the stored, unturned picture.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except FileNotFoundError:
        raise BrokenImage(path, "no such picture") from None
    except OSError as error:
        raise BrokenImage(path, f"cannot be read ({error.strerror})") from None
    rgb = _decode(data, path, cv2.IMREAD_COLOR_RGB)
    if size is None or rgb.shape[1::-1] == size:
        return rgb
    unturned = _decode(data, path, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if unturned.shape[1::-1] == size:
        return unturned
    raise BrokenImage(path, size_mismatch(rgb.shape[1::-1], size))


def size_mismatch(found: Size, declared: Size) -> str:
    """The sentence for a picture that is not of the size its annotations name."""
    return f"is {found[0]}x{found[1]} pixels, but its annotations are for {declared[0]}x{declared[1]}"


def _decode(data: NDArray[np.uint8], path: Path, flags: int) -> NDArray[np.uint8]:
    try:
        image = cv2.imdecode(data, flags) if data.size else None
    except cv2.error as error:  # larger than OpenCV's limit on pixels, for one
        raise BrokenImage(path, f"cannot be decoded ({str(error).splitlines()[0][:80]})") from None
    if image is None:
        raise BrokenImage(path, "cannot be decoded" if data.size else "is an empty file")
    return np.asarray(image, np.uint8)


def _jpeg_sizes(file: BinaryIO, path: Path) -> tuple[Size, Size]:
    """Walk the segments (ITU T.81 annex B) up to the frame header."""
    file.seek(2)
    sideways = False
    while True:
        prefix, marker = struct.unpack(">BB", file.read(2))
        while marker == 0xFF:  # fill bytes
            (marker,) = struct.unpack(">B", file.read(1))
        (length,) = struct.unpack(">H", file.read(2))
        if prefix != 0xFF or marker == 0xD9 or length < 2:
            raise BrokenImage(path, "is not a complete JPEG")
        if marker in _START_OF_FRAME:
            height, width = struct.unpack(">xHH", file.read(5))
            return ((height, width) if sideways else (width, height)), (width, height)
        if marker == 0xE1:
            segment = file.read(length - 2)
            sideways = sideways or _exif_orientation(segment) in _SIDEWAYS
        else:
            file.seek(length - 2, 1)


def _exif_orientation(segment: bytes) -> int:
    """The orientation tag of an APP1 segment; 1 (upright) where there is none."""
    tiff = segment[6:]
    if not segment.startswith(b"Exif\0\0") or tiff[:2] not in (b"II", b"MM"):
        return 1
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (offset,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, offset)
        for entry in range(count):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, offset + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return int(value)
    except struct.error:  # a damaged Exif block does not make the pixels unreadable
        return 1
    return 1
