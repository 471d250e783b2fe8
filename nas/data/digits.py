"""``digits``: the embedded data set. Images composed of the 1,797 real handwritten digits that scikit-learn ships,
written as a COCO data set.

Source of the digits: ``sklearn.datasets.load_digits``, the test part of E. Alpaydin and C. Kaynak, Optical
Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998 (CC BY 4.0); 8 x 8 pixels, values 0..16.
Train and val images are drawn from disjoint digits.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nas.data.coco_writer import CocoWriter
from search_spaces.errors import InputError
from search_spaces.text import json_text

CLASSES = tuple(str(digit) for digit in range(10))
VERSION = 2
"""Counts up whenever the images would come out differently, so that an old cache is not mistaken for the new set."""

VAL_SHARE = 0.25
"""Share of the digits (not of the images) that only val images show."""
HEIGHTS = (28 / 128, 68 / 128)
"""Height of a digit as a share of the image, log-uniform."""
MOST_IOU = 0.1
MOST_COVERED = 0.2
"""Of the smaller of two digits, at most this share of its box lies in the other's."""
GROUND, INK_COLOUR = (0.0, 120.0), (60.0, 255.0)
"""Range of the colour channels of background and digits: ink is lighter than the ground, as in the scans the digits
come from."""
LEAST_CONTRAST = 80.0
"""Least difference of luma (0..255) between a digit and the ground under it."""
INK = 0.5
"""Opacity from which a pixel counts as ink: the box is tight around it."""
TRIES = 20
"""Digits tried for each one wanted, and colours for each digit."""
PLACES = 6
"""Places tried for each digit."""

Image = NDArray[np.float32]


@dataclass(frozen=True)
class DigitsOptions:
    """Which images: side in pixels, how many of each split, and the seed of everything random."""

    size: int = 128
    train: int = 2000
    val: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (("size", 32, 2048), ("train", 1, 10**6), ("val", 1, 10**6), ("seed", 0, 2**32)):
            if not low <= getattr(self, name) <= high:
                raise InputError(f"digits with {name}={getattr(self, name)}", f"{low}..{high}")

    @property
    def folder(self) -> str:
        """Return the name of the cache folder: all that decides the content."""
        return f"digits-v{VERSION}-{self.size}px-{self.train}-{self.val}-seed{self.seed}"


@dataclass(frozen=True)
class Drawn:
    """One digit in an image: its class, box xyxy in pixels (int), and its index in scikit-learn's table."""

    label: int
    box: tuple[int, int, int, int]
    source: int


def digits_folder(options: DigitsOptions, cache: Path) -> Path:
    """Return the folder (train.json, val.json, images/) in ``cache``; generate it if it is not there.

    The folder is written beside and then renamed, so that it appears complete or not at all. Of several processes that
    generate it concurrently, the first wins. Raises InputError if the folder cannot be written.
    """
    final = cache / options.folder
    if final.is_dir():
        return final
    partial = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{options.folder}-", dir=cache))
        write_digits(options, partial)
        partial.chmod(0o755)  # mkdtemp's 0700 would hide the cache from everyone else who shares it
        try:
            os.rename(partial, final)
        except OSError:
            if not final.is_dir():
                raise
    except OSError as error:
        raise InputError(
            f"cannot write the digits data set to {cache} ({error.strerror or error})",
            "a folder with write permission and free space",
            "point NAS_CACHE to another one",
        ) from None
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    return final


def write_digits(options: DigitsOptions, folder: Path) -> None:
    """Generate both splits into an existing folder."""
    digits, labels = _table()
    (folder / "images").mkdir()
    for number, (split, sources) in enumerate(split_digits(labels, options.seed).items()):
        count = options.train if split == "train" else options.val
        drawn: list[list[Drawn]] = []
        for i in range(count):
            rng = np.random.default_rng((VERSION, options.seed, number, i))
            rgb, objects = compose(digits, labels, sources, options.size, rng)
            _, encoded = cv2.imencode(".jpg", rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
            (folder / "images" / _file_name(split, i)).write_bytes(encoded.tobytes())
            drawn.append(objects)
        (folder / f"{split}.json").write_text(_coco(split, drawn, options))


def _table() -> tuple[Image, NDArray[np.int64]]:
    """(digits [1797, 8, 8] with ink 0..1, labels [1797])."""
    from sklearn.datasets import load_digits

    table = load_digits()
    return (table.images / 16).astype(np.float32), table.target.astype(np.int64)


def split_digits(labels: NDArray[np.int64], seed: int) -> dict[str, NDArray[np.int64]]:
    """Split the digits with ``labels`` [1797] into train and val and return the indices of each, [N].

    The splits are disjoint and together all digits; every class has the same proportion in both.
    """
    rng = np.random.default_rng((VERSION, seed))
    train, val = [], []
    for label in range(len(CLASSES)):
        indices = rng.permutation(np.flatnonzero(labels == label))
        cut = round(len(indices) * VAL_SHARE)
        val.append(indices[:cut])
        train.append(indices[cut:])
    return {"train": np.concatenate(train), "val": np.concatenate(val)}


def _file_name(split: str, index: int) -> str:
    return f"{split}_{index + 1:06d}.jpg"


def _coco(split: str, drawn: Sequence[Sequence[Drawn]], options: DigitsOptions) -> str:
    """COCO of one split; every annotation has the index of its ``digit`` in scikit-learn's table."""
    source = "composed of scikit-learn's load_digits (UCI Optical Recognition of Handwritten Digits)"
    info = {"description": f"{options.folder} {split}: {source}", "license": "CC BY 4.0"}
    writer = CocoWriter(CLASSES, info)
    for i, objects in enumerate(drawn):
        boxes, labels = [d.box for d in objects], [d.label for d in objects]
        writer.add(_file_name(split, i), (options.size, options.size), boxes, labels)
    content = writer.content()
    sources = [d.source for objects in drawn for d in objects]
    for entry, digit in zip(content["annotations"], sources, strict=True):
        entry["digit"] = digit
    return json_text(content)


def compose(
    digits: Image, labels: NDArray[np.int64], sources: NDArray[np.int64], size: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[Drawn]]:
    """Compose one image: uint8 RGB [size, size, 3] and the 2 to 8 digits in it.

    Args:
        digits: float32 [1797, 8, 8], ink 0..1.
        labels: int64 [1797].
        sources: indices of the digits that this split may show, as objects and as unlabelled fragments.
        size: side in pixels.
        rng: source of all randomness.
    """
    canvas = _ground(size, rng)
    for _ in range(rng.integers(0, 2)):
        _draw_fragment(canvas, digits[rng.choice(sources)], rng)
    wanted = int(rng.integers(2, 9))
    drawn: list[Drawn] = []
    for attempt in range(TRIES * wanted):
        if len(drawn) == wanted:
            break
        source = int(rng.choice(sources))
        shrink = 1 - attempt / (TRIES * wanted)  # a crowded image gets smaller ones, not endless tries
        ink = warp_digit(digits[source], _height(size, rng, shrink), rng)
        box = _position(ink, size, [d.box for d in drawn], rng)
        if box is not None:
            _blend(canvas, ink, box, rng)
            drawn.append(Drawn(int(labels[source]), box, source))
    return _finish(canvas, rng), drawn


def _height(size: int, rng: np.random.Generator, shrink: float) -> float:
    low, high = (math.log(share * size) for share in HEIGHTS)
    return math.exp(rng.uniform(low, low + (high - low) * shrink))


def warp_digit(digit: Image, height: float, rng: np.random.Generator) -> Image:
    """Warp an 8 x 8 digit and return its opacity 0..1, float32 [h, w], cropped to its ink.

    The result is about ``height`` pixels high, slightly turned, slanted and stretched.
    """
    angle, slant, stretch = rng.uniform(-0.2, 0.2), rng.uniform(-0.12, 0.12), rng.uniform(0.85, 1.25)
    unit = height / 8
    shape = np.array([[unit * stretch, unit * slant], [0, unit]])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = turn @ shape
    side = math.ceil(height * 1.6)
    padded = np.zeros((12, 12), np.float32)
    padded[2:10, 2:10] = digit
    shift = side / 2 - linear @ np.full(2, 5.5)  # the middle of the digit comes to the middle of the result
    ink = cv2.warpAffine(padded, np.column_stack([linear, shift]), (side, side), flags=cv2.INTER_CUBIC)
    edge = rng.uniform(0.35, 0.6)  # where in the grey slope of the scan the stroke ends: thick or thin pens
    soft = rng.uniform(0.12, 0.3)
    opacity = np.clip((ink - edge) / soft + 0.5, 0, 1).astype(np.float32)
    rows, columns = np.flatnonzero((opacity >= INK).any(1)), np.flatnonzero((opacity >= INK).any(0))
    return opacity[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _position(
    ink: Image, size: int, taken: Sequence[tuple[int, int, int, int]], rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """A box xyxy for it, wholly in the image, or None where it would cover or be covered too much."""
    height, width = ink.shape
    if height > size or width > size:
        return None
    for _ in range(PLACES):
        x, y = int(rng.integers(0, size - width + 1)), int(rng.integers(0, size - height + 1))
        box = (x, y, x + width, y + height)
        if all(_apart(box, other) for other in taken):
            return box
    return None


def _apart(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    both = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return both <= MOST_COVERED * min(areas) and both <= MOST_IOU * (sum(areas) - both)


def _blend(canvas: Image, ink: Image, box: tuple[int, int, int, int], rng: np.random.Generator) -> None:
    x1, y1, x2, y2 = box
    ground = canvas[y1:y2, x1:x2]
    colour = _contrasting(ground.reshape(-1, 3).mean(0), rng)
    alpha = (ink * np.float32(rng.uniform(0.8, 1.0)))[:, :, None]
    ground += alpha * (colour - ground)


def _luma(colour: Image) -> float:
    """Rec. 601 luma of an RGB colour, 0..255."""
    return float(colour @ np.array([0.299, 0.587, 0.114], np.float32))


def _contrasting(ground: Image, rng: np.random.Generator) -> Image:
    """A random colour lighter than the ground; white when chance finds none."""
    for _ in range(TRIES):
        colour = _colour(rng, INK_COLOUR)
        if _luma(colour) - _luma(ground) >= LEAST_CONTRAST:
            return colour
    return np.full(3, 255, np.float32)


def _colour(rng: np.random.Generator, channels: tuple[float, float]) -> Image:
    return rng.uniform(*channels, 3).astype(np.float32)


def _ground(size: int, rng: np.random.Generator) -> Image:
    """A cluttered background, float32 RGB [size, size, 3]: a gradient, stains, blobs and lines."""
    axis = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    slope = np.clip(0.5 + axis * math.cos(angle) + axis[:, None] * math.sin(angle), 0, 1)[:, :, None]
    first = _colour(rng, GROUND)
    second = first + rng.normal(0, 30, 3).astype(np.float32)
    canvas = np.ascontiguousarray(first + slope * (second - first), np.float32)
    for cells, strength in ((4, 18), (16, 9)):
        stains = rng.normal(0, rng.uniform(0, strength), (cells, cells, 3)).astype(np.float32)
        canvas += cv2.resize(stains, (size, size), interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(0, 5)):
        _draw_blob(canvas, rng)
    for _ in range(rng.integers(0, 6)):
        _draw_line(canvas, rng)
    return np.clip(canvas, 0, 255)


def _draw_blob(canvas: Image, rng: np.random.Generator) -> None:
    """A half transparent disc, or a piece of an outline; never a closed outline, which would be a zero."""
    size = len(canvas)
    centre = tuple(int(v) for v in rng.integers(0, size, 2))
    axes = tuple(max(1, int(v)) for v in rng.uniform(0.03, 0.22, 2) * size)
    filled = rng.random() < 0.6
    thickness = -1 if filled else max(1, round(size * rng.uniform(0.008, 0.03)))
    sweep = 360.0 if filled else float(rng.uniform(40, 150))
    mask = np.zeros((size, size), np.uint8)
    cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 360)), 0, sweep, 255, thickness, cv2.LINE_AA)
    _tint(canvas, mask, rng.uniform(0.25, 0.7), rng)


def _draw_line(canvas: Image, rng: np.random.Generator) -> None:
    """A straight line or a bent one; strokes of another kind than digits."""
    size = len(canvas)
    points = rng.uniform(-0.1, 1.1, (int(rng.integers(2, 4)), 2)) * size
    mask = np.zeros((size, size), np.uint8)
    cv2.polylines(
        mask, [points.astype(np.int32)], False, 255, max(1, round(size * rng.uniform(0.006, 0.025))), cv2.LINE_AA
    )
    _tint(canvas, mask, rng.uniform(0.3, 0.8), rng)


def _tint(canvas: Image, mask: NDArray[np.uint8], opacity: float, rng: np.random.Generator) -> None:
    """A random colour where ``mask`` (0..255) is."""
    x, y, width, height = cv2.boundingRect(mask)
    ground = canvas[y : y + height, x : x + width]
    alpha = mask[y : y + height, x : x + width, None] * np.float32(opacity / 255)
    ground += alpha * (_colour(rng, GROUND) - ground)


def _draw_fragment(canvas: Image, digit: Image, rng: np.random.Generator) -> None:
    """A third of a digit, small and faint: a stroke that is no digit."""
    ink = warp_digit(digit, float(rng.uniform(0.12, 0.3)) * len(canvas), rng)
    third = max(1, len(ink) // 3)
    ink = (ink[:third] if rng.random() < 0.5 else ink[-third:]) * np.float32(rng.uniform(0.4, 0.7))
    box = _position(ink, len(canvas), (), rng)
    if box is not None:
        _blend(canvas, ink, box, rng)


def _finish(canvas: Image, rng: np.random.Generator) -> NDArray[np.uint8]:
    """What a camera adds: blur at times, noise, exposure."""
    if rng.random() < 0.3:
        canvas = cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.4, 0.9)) * len(canvas) / 128).astype(np.float32)
    canvas = canvas + rng.standard_normal(canvas.shape, np.float32) * np.float32(rng.uniform(1, 7))
    canvas = (canvas - 128) * np.float32(rng.uniform(0.75, 1.1)) + np.float32(128 + rng.uniform(-15, 15))
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
