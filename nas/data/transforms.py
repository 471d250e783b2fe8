"""From a picture of any size to the square canvas a network sees, boxes with it; by chance (augmentation) or not (letterbox).

All geometry of one picture is one :class:`Placement`, so pixels and boxes cannot disagree, and detections find their way back.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import InputError

PAD = 114
"""Grey of the border; the value YOLO-NAS (and every YOLO since v5) was trained with."""


@dataclass(frozen=True)
class Placement:
    """Where a picture lies on a canvas of ``size`` x ``size`` pixels: canvas x = picture x * scale_x + left, then mirrored if ``mirrored``.

    ``left`` and ``top`` are whole pixels and may be negative (the picture reaches out). The two scales differ by rounding only.
    """

    size: int
    scale_x: float
    scale_y: float
    left: int
    top: int
    mirrored: bool = False

    def boxes(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Boxes [N, 4] xyxy in pixels of the picture -> in pixels of the canvas, not clipped."""
        placed = np.asarray(boxes, np.float64).reshape(-1, 4) * self._scales + self._offsets
        if self.mirrored:
            placed[:, [0, 2]] = self.size - placed[:, [2, 0]]
        return placed.astype(np.float32)

    def inverse(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Boxes [N, 4] xyxy in pixels of the canvas -> in pixels of the picture, not clipped."""
        placed = np.array(boxes, np.float64).reshape(-1, 4)
        if self.mirrored:
            placed[:, [0, 2]] = self.size - placed[:, [2, 0]]
        return ((placed - self._offsets) / self._scales).astype(np.float32)

    def paste(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Picture uint8 [H, W, 3] -> canvas uint8 [size, size, 3] with border :data:`PAD`."""
        height, width = rgb.shape[:2]
        new_width, new_height = max(1, round(width * self.scale_x)), max(1, round(height * self.scale_y))
        if (new_width, new_height) != (width, height):
            # averaging when shrinking: plain bilinear would skip pixels and make thin strokes flicker
            method = cv2.INTER_AREA if new_width < width else cv2.INTER_LINEAR
            rgb = np.asarray(cv2.resize(rgb, (new_width, new_height), interpolation=method), np.uint8)
        canvas = np.full((self.size, self.size, 3), PAD, np.uint8)
        x1, y1, x2, y2 = self._seen(width, height)
        canvas[y1:y2, x1:x2] = rgb[y1 - self.top : y2 - self.top, x1 - self.left : x2 - self.left]
        return np.ascontiguousarray(canvas[:, ::-1]) if self.mirrored else canvas

    def window(self, width: int, height: int) -> tuple[slice, slice]:
        """(rows, columns) of the canvas that a picture of this size covers; the rest is border."""
        x1, y1, x2, y2 = self._seen(width, height)
        return slice(y1, y2), slice(self.size - x2, self.size - x1) if self.mirrored else slice(x1, x2)

    def _seen(self, width: int, height: int) -> tuple[int, int, int, int]:
        """xyxy on the canvas before mirroring; empty where the picture lies wholly outside."""
        x1, y1 = (min(max(start, 0), self.size) for start in (self.left, self.top))
        x2, y2 = self.left + max(1, round(width * self.scale_x)), self.top + max(1, round(height * self.scale_y))
        return x1, y1, max(x1, min(x2, self.size)), max(y1, min(y2, self.size))

    @property
    def _scales(self) -> NDArray[np.float64]:
        return np.array([self.scale_x, self.scale_y, self.scale_x, self.scale_y])

    @property
    def _offsets(self) -> NDArray[np.float64]:
        return np.array([self.left, self.top, self.left, self.top], np.float64)


def letterbox(width: int, height: int, size: int) -> Placement:
    """The whole picture as large as it fits, centred."""
    return _placed(width, height, size, min(size / width, size / height), 0.0, 0.0)


def _placed(width: int, height: int, size: int, scale: float, shift_x: float, shift_y: float) -> Placement:
    """Scaled about the centre, then shifted by pixels; rounded to whole pixels so that no second interpolation is needed."""
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = round((size - new_width) / 2 + shift_x), round((size - new_height) / 2 + shift_y)
    return Placement(size, new_width / width, new_height / height, left, top)


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training picture. Defaults: the released YOLO-NAS recipe (super-gradients e0ccacf, coco2017_yolo_nas_s), without mixup.

    Probabilities 0..1; ``scale`` is a factor on the letterboxed size; ``translate`` a share of the canvas; ``hue`` in OpenCV's half degrees,
    ``saturation`` and ``value`` of 255. A box is dropped when what is left of it on the canvas has a side under ``min_side`` px, under
    ``min_area`` of its area, or an aspect ratio over ``max_aspect``.
    """

    flip: float = 0.5
    affine: float = 1.0
    scale: tuple[float, float] = (0.5, 1.5)
    translate: float = 0.25
    hsv: float = 0.5
    hue: float = 18.0
    saturation: float = 30.0
    value: float = 30.0
    min_side: float = 2.0
    min_area: float = 0.1
    max_aspect: float = 20.0

    NONE: ClassVar[Augmentation]
    DEFAULT: ClassVar[Augmentation]
    UNMIRRORED: ClassVar[Augmentation]

    def __post_init__(self) -> None:
        for name in ("flip", "affine", "hsv", "min_area"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"augmentation {name} = {getattr(self, name)}", "a number of 0..1")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise InputError(f"augmentation scale = {self.scale}", "(low, high) with 0 < low <= high")
        for field in fields(self)[3:]:
            if getattr(self, field.name) < 0:
                raise InputError(f"augmentation {field.name} = {getattr(self, field.name)}", "a number of at least 0")


Augmentation.NONE = Augmentation(flip=0, affine=0, hsv=0)
Augmentation.DEFAULT = Augmentation()
# Gentler too: what must not be mirrored is writing, and halving small writing makes it unreadable.
Augmentation.UNMIRRORED = Augmentation(flip=0, scale=(0.75, 1.33), translate=0.1)


def place(width: int, height: int, size: int, augmentation: Augmentation, rng: np.random.Generator) -> Placement:
    """Letterbox, then by chance scaled about the centre (log-uniformly: halving is as likely as doubling), shifted and mirrored."""
    scale, shift_x, shift_y = min(size / width, size / height), 0.0, 0.0
    if rng.random() < augmentation.affine:
        low, high = np.log(augmentation.scale)
        scale *= float(np.exp(rng.uniform(low, high)))
        shift_x, shift_y = rng.uniform(-augmentation.translate, augmentation.translate, 2) * size
    placement = _placed(width, height, size, scale, float(shift_x), float(shift_y))
    mirrored = bool(rng.random() < augmentation.flip)
    return Placement(size, placement.scale_x, placement.scale_y, placement.left, placement.top, mirrored)


def visible(boxes: NDArray[np.float32], augmentation: Augmentation, size: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Boxes [N, 4] xyxy on the canvas, clipped to it, and which of the N to keep. Returns ([N, 4], [N]): all boxes, kept or not."""
    clipped = np.clip(boxes, 0, size)
    sides = clipped[:, 2:] - clipped[:, :2]
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    shortest, longest = sides.min(1, initial=np.inf), sides.max(1, initial=0)
    keep = (shortest > 0) & (sides.prod(1) >= augmentation.min_area * area)
    return clipped, keep & (shortest >= augmentation.min_side) & (longest <= augmentation.max_aspect * shortest)


def jitter_hsv(rgb: NDArray[np.uint8], augmentation: Augmentation, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Hue turned, saturation and value shifted, each uniformly within its range; uint8 [H, W, 3] in and out, the input is left alone."""
    if not rgb.size:
        return rgb
    hue, saturation, value = rng.uniform(-1, 1, 3) * (augmentation.hue, augmentation.saturation, augmentation.value)
    levels = np.arange(256)
    tables = np.stack([(levels + round(hue)) % 180, np.clip(levels + saturation, 0, 255), np.clip(levels + value, 0, 255)], 1)
    hsv = cv2.LUT(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV), tables.astype(np.uint8)[None])
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)


def augment(
    rgb: NDArray[np.uint8],
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    size: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64], Placement]:
    """Picture [H, W, 3] with boxes [N, 4] px and labels [N] -> canvas uint8 [size, size, 3], boxes [M <= N, 4] on it, labels [M], where it lies."""
    height, width = rgb.shape[:2]
    placement = place(width, height, size, augmentation, rng)
    canvas = placement.paste(rgb)
    if rng.random() < augmentation.hsv:
        seen = placement.window(width, height)  # the border stays as evaluation has it
        canvas[seen] = jitter_hsv(np.ascontiguousarray(canvas[seen]), augmentation, rng)
    placed, keep = visible(placement.boxes(boxes), augmentation, size)
    return canvas, placed[keep], labels[keep], placement
