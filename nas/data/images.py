"""Image files: their size from the header (Pillow), their pixels (OpenCV). Whatever is wrong with one is a
:class:`BrokenImage`."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from nas.data.walk import Found, walk
from search_spaces.errors import InputError
from search_spaces.foreign_files import UnreadableFile, open_file, read_bytes

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
UNREAD = frozenset(
    {".gif", ".jfif", ".jpe", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".mpo", ".dng", ".ppm", ".pgm", ".psd"}
)
"""Suffixes of images that are not read. A folder that has some is reported."""
MOST_PIXELS = 1 << 27
"""Of one image: 134 million, 400 MB decoded. Several are decoded at a time, and an image reduced to a network's
input from there shows nothing small."""

DEPTHS = (8, 12)
"""Bits that cameras and microscopes write into files of 16. Where all values fit into one, they are taken for such.

10 bits are none of them: a dark image of 12 bits would be four times as bright as the others of its camera.
"""
MAX_BYTES = 1 << 30
"""Of one image file: the largest image, stored without compression, takes 400 MB (800 MB with 16 bits a channel)."""

_PLUGINS = (BmpImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin)
"""Imported here, and not by Pillow when the first threads open images at once."""
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
_ORIENTATION = 0x0112  # Exif 2.3 table 4
_BITS_PER_SAMPLE = 258  # TIFF 6.0
_TIFF = (b"II*\0", b"MM\0*")
_SIDEWAYS = frozenset({5, 6, 7, 8})  # orientations that swap width and height

# What Pillow and OpenCV would print of a damaged file, a BrokenImage says with the file's name.
warnings.filterwarnings("ignore", module=r"PIL\.")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


class BrokenImage(InputError):
    """An image that is missing, unreadable, too large, or not of the size its annotations were made for."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}", "a readable image", "replace the file, or remove it from the data set")
        self.path = path
        self.reason = reason


Size = tuple[int, int]
"""(width, height) in pixels."""


def find_images(folder: Path, recursive: bool = True) -> Found:
    """Find all image files below ``folder`` by their suffixes, also in linked folders.

    Hidden files (macOS writes ``._a.jpg`` beside ``a.jpg``) and system folders are passed over.
    """
    found = walk(folder, lambda name: is_image(name) or _suffix(name) in UNREAD, recursive)
    files = tuple(path for path in found.files if is_image(path.name))
    return replace(found, files=files, unread=tuple(path for path in found.files if not is_image(path.name)))


def images_in(folder: Path) -> Iterator[Path]:
    """Iterate over the files of :func:`find_images`, in the order of their paths."""
    return iter(find_images(folder).files)


def is_image(name: str) -> bool:
    """Return whether a file name has the suffix of an image."""
    return _suffix(name) in SUFFIXES


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def image_sizes(path: Path) -> tuple[Size, Size]:
    """Return (width, height) in pixels as shown and as stored, from the header where possible.

    As shown: with the Exif orientation applied, as :func:`read_image` does. Decoding a whole data set only to learn its
    sizes would take minutes. Raises BrokenImage if the file cannot be read or has too many pixels.
    """
    try:
        with open_file(path, MAX_BYTES) as file:
            sizes = _header(file, path)
    except UnreadableFile as error:
        raise _broken(path, error) from None
    return sizes or (_shape(read_image(path)),) * 2


def annotated_size(path: Path, width: object, height: object) -> Size:
    """Return the (width, height) that the boxes refer to.

    That is the size that the annotations state, if the file agrees, or the size of the file where they state nothing
    usable. Raises BrokenImage if the file is of another size or cannot be read.
    """
    shown, stored = image_sizes(path)
    if not (_is_side(width) and _is_side(height)):
        return shown
    size = (int(width), int(height))  # type: ignore[call-overload]
    if size not in (shown, stored):
        raise BrokenImage(path, size_mismatch(shown, size))
    return size


def read_image(path: Path, size: Size | None = None) -> NDArray[np.uint8]:
    """Decode an image: RGB uint8 [H, W, 3].

    Exif orientation is applied, unless the annotations were made for the stored, unturned image. Grey and palette
    become RGB, CMYK is converted, alpha is dropped, of several pages or frames the first is taken. Of 16 bits a
    channel the upper eight stay; of an image that uses the lower 8 or 12 bits only, the upper eight of these.

    Args:
        path: of the file.
        size: (width, height) that the annotations were made for; an image of another size is broken.

    Raises:
        BrokenImage: the file cannot be read, is no image, has too many pixels, or is not of ``size``.
    """
    try:
        data = read_bytes(path, MAX_BYTES)
    except UnreadableFile as error:
        raise _broken(path, error) from None
    if not data:
        raise BrokenImage(path, "is an empty file")
    sizes = _header(io.BytesIO(data), path)
    flags = cv2.IMREAD_COLOR_RGB
    if sizes and size is not None and size != sizes[0]:
        if size != sizes[1]:
            raise BrokenImage(path, size_mismatch(sizes[0], size))
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    rgb = _decode(data, path, flags, "is no image of a known kind" if sizes is None else "is cut off or damaged")
    if size is not None and _shape(rgb) != size:
        raise BrokenImage(path, size_mismatch(_shape(rgb), size))
    return rgb


def size_mismatch(found: Size, declared: Size) -> str:
    """Return the sentence for an image that is not of the size its annotations state."""
    return f"is {found[0]}x{found[1]} pixels, but its annotations are for {declared[0]}x{declared[1]}"


def _header(file: BinaryIO, path: Path) -> tuple[Size, Size] | None:
    """(shown, stored) sizes; None where Pillow cannot tell, which may still be an image of a kind that only OpenCV
    reads."""
    try:
        with Image.open(file, formats=_FORMATS) as image:
            width, height = image.size
            sideways = (
                image.format != "TIFF" and _orientation(image) in _SIDEWAYS
            )  # of a TIFF both libraries know the turned one only
    except Image.DecompressionBombError:
        raise BrokenImage(path, _too_large("")) from None
    except Exception:  # noqa: BLE001 - damaged headers raise types of all kinds
        return None
    if width * height > MOST_PIXELS:
        raise BrokenImage(path, _too_large(f" ({width}x{height})"))
    return ((height, width) if sideways else (width, height)), (width, height)


def _orientation(image: Image.Image) -> int:
    """Exif orientation, 1 (upright) where there is none; not ``getexif()`` of a PNG, which decodes the pixels to look
    behind them."""
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif") or b"")
        return int(exif.get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - a damaged Exif block does not make the pixels unreadable
        return 1


def _too_large(size: str) -> str:
    return f"has too many pixels{size}, at most {MOST_PIXELS / 1e6:.0f} million are decoded; cut it into tiles"


def _decode(data: bytes, path: Path, flags: int, otherwise: str) -> NDArray[np.uint8]:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise BrokenImage(path, f"cannot be decoded ({str(error).splitlines()[0][:80]})") from None
    if data.startswith(_TIFF) and (of_tiff := _from_pillow(data)) is not None:
        return of_tiff
    if image is None:
        raise BrokenImage(path, "has floating-point pixels; convert it to 8 bits" if _is_float(data) else otherwise)
    if image.max(initial=0) <= 1 << (DEPTHS[-1] - 8):  # equal: OpenCV rounds a TIFF to 8 bits
        image = _brightened(data, flags, image)
    return np.asarray(image, np.uint8)


def _is_float(data: bytes) -> bool:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return False
    return image is not None and bool(np.issubdtype(image.dtype, np.floating))


def _from_pillow(data: bytes) -> NDArray[np.uint8] | None:
    """A TIFF with 8-bit alpha, whose colours OpenCV would multiply by the alpha; None for all others."""
    try:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
            bits = image.tag_v2.get(_BITS_PER_SAMPLE, ())  # type: ignore[attr-defined]
            eight = image.mode in ("RGBA", "LA") and set(bits) == {8}
            return np.array(image.convert("RGB")) if eight else None
    except Exception:  # noqa: BLE001 - damaged files raise exceptions of all kinds
        return None


def _brightened(data: bytes, flags: int, image: NDArray[Any]) -> NDArray[Any]:
    """The same image from its lower bits, where it has 16 bits a channel and uses no more than one of ``DEPTHS``."""
    try:
        # as BGR: OpenCV 4 swaps the colours of a 16-bit TIFF wrongly
        bgr = flags & ~cv2.IMREAD_COLOR_RGB | cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
        deep = cv2.imdecode(np.frombuffer(data, np.uint8), bgr)
    except cv2.error:
        return image
    if deep is None or deep.dtype != np.uint16:
        return image
    bits = next((bits for bits in DEPTHS if not deep.max(initial=0) >> bits), None)
    return image if bits is None else np.ascontiguousarray(np.right_shift(deep[..., ::-1], bits - 8, dtype=np.uint16))


def _broken(path: Path, error: UnreadableFile) -> BrokenImage:
    return BrokenImage(path, "no such image" if error.missing else error.reason)


def _shape(rgb: NDArray[np.uint8]) -> Size:
    return rgb.shape[1], rgb.shape[0]


def _is_side(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < MOST_PIXELS
