"""Transforms of images with boxes to canvases of one size, fixed (letterbox) or random (augmentation).

One :class:`Placement` defines the geometry of an image. It maps pixels and boxes to the canvas, and detections back to
the image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import InputError
from search_spaces.image_size import AnySize, ImageSize
from search_spaces.json_checks import check_like
from search_spaces.registry import unknown

PAD = 114
"""Grey of the border; the value YOLO-NAS (and every YOLO since v5) was trained with."""

AREA, LINEAR = "area", "linear"
INTERPOLATIONS = (AREA, LINEAR)
"""How images are shrunk: by averaging areas, or by linear interpolation as Ultralytics does it."""

Recolour = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Pixels [H, W, 3] -> the same in other colours."""


@dataclass(frozen=True)
class Placement:
    """Where an image lies on a canvas of ``size``: canvas x = image x * scale_x + left, then
    turned, then mirrored if ``mirrored``.

    ``left`` and ``top`` are whole pixels and may be negative (the image reaches out). The two scales differ by
    rounding only. ``turn``: where there is one, the rows of the 2 x 2 matrix that rotates and shears the image
    about ``pivot``, a point of the canvas. A box that was turned is the upright one around its corners. ``linear``:
    images are shrunk by linear interpolation, as for networks that were trained so, and not by averaging areas.
    """

    size: ImageSize
    scale_x: float
    scale_y: float
    left: int
    top: int
    mirrored: bool = False
    linear: bool = False
    turn: tuple[float, float, float, float] | None = None
    pivot: tuple[float, float] = (0.0, 0.0)

    def boxes(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map boxes [N, 4] xyxy from pixels of the image to pixels of the canvas, not clipped."""
        placed = np.asarray(boxes, np.float64).reshape(-1, 4) * self._scales + self._offsets
        if self.turn is not None:
            placed = self._turned(placed, self._matrix)
        if self.mirrored:
            placed[:, [0, 2]] = self.size.width - placed[:, [2, 0]]
        return placed.astype(np.float32)

    def inverse(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map boxes [N, 4] xyxy from pixels of the canvas to pixels of the image, not clipped."""
        placed = np.array(boxes, np.float64).reshape(-1, 4)
        if self.mirrored:
            placed[:, [0, 2]] = self.size.width - placed[:, [2, 0]]
        if self.turn is not None:
            placed = self._turned(placed, np.linalg.inv(self._matrix))
        return ((placed - self._offsets) / self._scales).astype(np.float32)

    def paste(self, rgb: NDArray[np.uint8], recolour: Recolour = lambda pixels: pixels) -> NDArray[np.uint8]:
        """Lay an image uint8 [H, W, 3] on a canvas uint8 [height, width, 3] of ``size`` with border :data:`PAD`.

        ``recolour`` changes the image, not the border.
        """
        height, width = rgb.shape[:2]
        new_width, new_height = max(1, round(width * self.scale_x)), max(1, round(height * self.scale_y))
        if (new_width, new_height) != (width, height):
            # averaging when shrinking: plain bilinear would skip pixels and make thin strokes flicker
            method = cv2.INTER_AREA if new_width < width and not self.linear else cv2.INTER_LINEAR
            rgb = np.asarray(cv2.resize(rgb, (new_width, new_height), interpolation=method), np.uint8)
        if self.turn is not None:
            canvas = self._lay_turned(recolour(rgb))
            return np.ascontiguousarray(canvas[:, ::-1]) if self.mirrored else canvas
        canvas = np.full((*self.size, 3), PAD, np.uint8)
        x1, y1, x2, y2 = self._seen(width, height)
        part = rgb[y1 - self.top : y2 - self.top, x1 - self.left : x2 - self.left]
        if self.mirrored:  # before the colours: OpenCV rounds the last pixels of a row in another way
            x1, x2, part = self.size.width - x2, self.size.width - x1, part[:, ::-1]
        canvas[y1:y2, x1:x2] = recolour(part)
        return canvas

    def _lay_turned(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """OpenCV counts from the centre of the first pixel, boxes from its edge: half a pixel is added before and
        taken off after."""
        matrix, pivot = self._matrix, np.array(self.pivot)
        shift = matrix @ (np.array([self.left, self.top]) + 0.5 - pivot) + pivot - 0.5
        affine = np.column_stack([matrix, shift])
        border = (PAD, PAD, PAD)
        return np.asarray(
            cv2.warpAffine(
                np.ascontiguousarray(rgb), affine, self.size.shape[::-1], flags=cv2.INTER_LINEAR, borderValue=border
            ),
            np.uint8,
        )

    def _turned(self, boxes: NDArray[np.float64], matrix: NDArray[np.floating]) -> NDArray[np.float64]:
        corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]] - self.pivot
        corners = corners @ matrix.T + self.pivot
        return np.concatenate([corners.min(1), corners.max(1)], 1)

    @property
    def _matrix(self) -> NDArray[np.float64]:
        return np.array(self.turn, np.float64).reshape(2, 2)

    def _seen(self, width: int, height: int) -> tuple[int, int, int, int]:
        """xyxy on the canvas before mirroring; empty where the image lies wholly outside."""
        x1, y1 = min(max(self.left, 0), self.size.width), min(max(self.top, 0), self.size.height)
        x2, y2 = self.left + max(1, round(width * self.scale_x)), self.top + max(1, round(height * self.scale_y))
        return x1, y1, max(x1, min(x2, self.size.width)), max(y1, min(y2, self.size.height))

    @property
    def _scales(self) -> NDArray[np.float64]:
        return np.array([self.scale_x, self.scale_y, self.scale_x, self.scale_y])

    @property
    def _offsets(self) -> NDArray[np.float64]:
        return np.array([self.left, self.top, self.left, self.top], np.float64)


def letterbox(width: int, height: int, size: AnySize, interpolation: str = AREA) -> Placement:
    """Place the whole image of ``width`` x ``height`` as large as it fits on a canvas of ``size``, centred;
    ``interpolation``: one of :data:`INTERPOLATIONS`."""
    canvas = ImageSize.of(size)
    placement = _placed(width, height, canvas, _fitting(width, height, canvas), 0.0, 0.0)
    return replace(placement, linear=interpolation == LINEAR)


def _fitting(width: int, height: int, canvas: ImageSize) -> float:
    """Return the scale at which an image just fits."""
    return min(canvas.width / width, canvas.height / height)


def _placed(width: int, height: int, canvas: ImageSize, scale: float, shift_x: float, shift_y: float) -> Placement:
    """Scaled about the centre, then shifted by pixels; rounded to whole pixels so that no second interpolation is
    needed."""
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    left = round((canvas.width - new_width) / 2 + shift_x)
    top = round((canvas.height - new_height) / 2 + shift_y)
    return Placement(canvas, new_width / width, new_height / height, left, top)


MOST_DEGREES = {"degrees": 180.0, "shear": 45.0}


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image. Defaults: the released YOLO-NAS recipe (super-gradients e0ccacf,
    coco2017_yolo_nas_s), without mixup, and with half of the images in their place (``affine``). If all were moved, images
    without a border would mostly be enlarged ones, and networks predict too large boxes on images that fill the canvas
    (``docs/decisions``, 67).

    Probabilities 0..1; ``scale`` is a factor on the letterboxed size; ``translate`` a share of the canvas; ``hue`` in
    OpenCV's half degrees, ``saturation`` and ``value`` of 255. A box is dropped when what is left of it on the canvas
    has a side under ``min_side`` px, under ``min_area`` of its area, or an aspect ratio over ``max_aspect``.

    Off by default: with ``affine``, a rotation by up to ``degrees`` and a shear by up to ``shear`` degrees along each
    axis; ``swap``, red and blue exchanged; ``mosaic`` and ``mixup`` (:mod:`nas.data.mosaic`), both left out in the
    last ``close_mosaic`` epochs; ``multi_scale``, the range of factors on the image size from which the size of every
    step's canvases is sampled, in multiples of 32 px.
    """

    flip: float = 0.5
    affine: float = 0.5
    scale: tuple[float, float] = (0.5, 1.5)
    translate: float = 0.25
    hsv: float = 0.5
    hue: float = 18.0
    saturation: float = 30.0
    value: float = 30.0
    min_side: float = 2.0
    min_area: float = 0.1
    max_aspect: float = 20.0
    degrees: float = 0.0
    shear: float = 0.0
    swap: float = 0.0
    mosaic: float = 0.0
    mixup: float = 0.0
    close_mosaic: int = 0
    multi_scale: tuple[float, float] = (1.0, 1.0)

    NONE: ClassVar[Augmentation]
    DEFAULT: ClassVar[Augmentation]
    UNMIRRORED: ClassVar[Augmentation]

    def __post_init__(self) -> None:
        for name in ("flip", "affine", "hsv", "min_area", "swap", "mosaic", "mixup"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"augmentation {name} = {getattr(self, name)}", "a number of 0..1")
        for name in ("scale", "multi_scale"):
            if not 0 < getattr(self, name)[0] <= getattr(self, name)[1]:
                raise InputError(f"augmentation {name} = {getattr(self, name)}", "(low, high) with 0 < low <= high")
        for name in ("degrees", "shear"):
            if not 0 <= getattr(self, name) <= MOST_DEGREES[name]:
                raise InputError(f"augmentation {name} = {getattr(self, name)}", f"0 to {MOST_DEGREES[name]:g} degrees")
        for name in ("translate", "hue", "saturation", "value", "min_side", "max_aspect", "close_mosaic"):
            if not getattr(self, name) >= 0:
                raise InputError(f"augmentation {name} = {getattr(self, name)}", "a number of at least 0")

    def changed(self, values: Mapping[str, Any]) -> Augmentation:
        """Return the augmentation with some values replaced by name; pairs may be lists, as in JSON.

        Raises InputError for an unknown name, or a value of another type or out of range.
        """
        names = tuple(field.name for field in fields(self))
        if wrong := [name for name in values if name not in names]:
            raise unknown("augmentation", wrong[0], names)
        for name, value in values.items():
            check_like(value, getattr(Augmentation.DEFAULT, name), f"augmentation {name}")
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return replace(self, **plain)

    def at_the_end(self) -> Augmentation:
        """The augmentation of the last epochs of a training, at the image size of the network."""
        single = replace(self, mosaic=0.0, mixup=0.0) if self.close_mosaic else self
        return replace(single, multi_scale=(1.0, 1.0))

    def to_dict(self) -> dict[str, Any]:
        """Return the values JSON-ready."""
        return {
            field.name: list(v) if isinstance(v := getattr(self, field.name), tuple) else v for field in fields(self)
        }


Augmentation.NONE = Augmentation(flip=0, affine=0, hsv=0)
Augmentation.DEFAULT = Augmentation()
# Gentler too: what must not be mirrored is writing, and halving small writing makes it unreadable.
Augmentation.UNMIRRORED = Augmentation(flip=0, scale=(0.75, 1.33), translate=0.1)


def place(width: int, height: int, size: AnySize, augmentation: Augmentation, rng: np.random.Generator) -> Placement:
    """Letterbox an image of ``width`` x ``height`` on a canvas of ``size``; at random scale it about the centre, shift, turn
    and mirror it. The scale is log-uniform: halving is as likely as doubling.
    """
    canvas = ImageSize.of(size)
    scale, shift_x, shift_y, turn = _fitting(width, height, canvas), 0.0, 0.0, None
    if rng.random() < augmentation.affine:
        low, high = np.log(augmentation.scale)
        scale *= float(np.exp(rng.uniform(low, high)))
        shift_x, shift_y = rng.uniform(-augmentation.translate, augmentation.translate, 2) * (
            canvas.width,
            canvas.height,
        )
        if augmentation.degrees or augmentation.shear:
            turn = _drawn_turn(augmentation, rng)
    placement = _placed(width, height, canvas, scale, float(shift_x), float(shift_y))
    mirrored = bool(rng.random() < augmentation.flip)
    pivot = (placement.left + width * placement.scale_x / 2, placement.top + height * placement.scale_y / 2)
    return replace(placement, mirrored=mirrored, turn=turn, pivot=pivot if turn else (0.0, 0.0))


def _drawn_turn(augmentation: Augmentation, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """A rotation after a shear, as a matrix in rows."""
    angle, across, down = np.radians(
        rng.uniform(-1, 1, 3) * (augmentation.degrees, augmentation.shear, augmentation.shear)
    )
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    a, b, c, d = (rotation @ [[1.0, np.tan(across)], [np.tan(down), 1.0]]).ravel().tolist()
    return a, b, c, d


Frame = tuple[int, int, int, int]
"""A part of a canvas, xyxy in whole pixels."""


def visible(
    boxes: NDArray[np.float32], augmentation: Augmentation, size: AnySize, frame: Frame | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Clip boxes [N, 4] xyxy to the canvas of ``size``, or to ``frame``, and decide which of them are kept.

    Returns all boxes [N, 4], kept or not, and which to keep [N].
    """
    left, top, right, bottom = frame or (0, 0, *ImageSize.of(size).shape[::-1])
    low, high = (np.array(corner * 2, np.float32) for corner in ((left, top), (right, bottom)))
    clipped = np.clip(boxes, low, high)
    sides = clipped[:, 2:] - clipped[:, :2]
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    shortest, longest = sides.min(1, initial=np.inf), sides.max(1, initial=0)
    keep = (shortest > 0) & (sides.prod(1) >= augmentation.min_area * area)
    return clipped, keep & (shortest >= augmentation.min_side) & (longest <= augmentation.max_aspect * shortest)


def recolour(rgb: NDArray[np.uint8], augmentation: Augmentation, rng: np.random.Generator) -> NDArray[np.uint8]:
    """At random exchange red and blue and jitter colours; uint8 [H, W, 3], the input is not changed."""
    if augmentation.swap and rng.random() < augmentation.swap:
        rgb = rgb[..., ::-1]
    return jitter_hsv(np.ascontiguousarray(rgb), augmentation, rng) if rng.random() < augmentation.hsv else rgb


def jitter_hsv(rgb: NDArray[np.uint8], augmentation: Augmentation, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn the hue, shift saturation and value, each uniformly within its range.

    uint8 [H, W, 3] in and out; the input is not changed.
    """
    if not rgb.size:
        return rgb
    hue, saturation, value = rng.uniform(-1, 1, 3) * (augmentation.hue, augmentation.saturation, augmentation.value)
    levels = np.arange(256)
    tables = np.stack(
        [(levels + round(hue)) % 180, np.clip(levels + saturation, 0, 255), np.clip(levels + value, 0, 255)], 1
    )
    hsv = cv2.LUT(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV), tables.astype(np.uint8)[None])
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)


def augment(
    rgb: NDArray[np.uint8],
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    size: AnySize,
    augmentation: Augmentation,
    rng: np.random.Generator,
    linear: bool = False,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64], Placement]:
    """Place, recolour and clip one image with its boxes.

    Args:
        rgb: uint8 [H, W, 3].
        boxes: float32 [N, 4] xyxy in pixels of the image.
        labels: int64 [N].
        size: of the canvas.
        augmentation: what may happen.
        rng: source of all randomness.
        linear: whether the image is shrunk by linear interpolation.

    Returns:
        The canvas uint8 [height, width, 3], boxes [M, 4] on it with M <= N, labels [M], and the placement.
    """
    placement = replace(place(rgb.shape[1], rgb.shape[0], size, augmentation, rng), linear=linear)
    canvas = placement.paste(rgb, lambda pixels: recolour(pixels, augmentation, rng))
    placed, keep = visible(placement.boxes(boxes), augmentation, size)
    return canvas, placed[keep], labels[keep], placement
