"""Several images on one canvas: side by side (mosaic, YOLOv4, arXiv:2004.10934) or one over the other (mixup,
arXiv:1710.09412, as YOLOX, arXiv:2107.08430, has it for boxes: half of each, all boxes of both)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from nas.data.transforms import Augmentation, Frame, Placement, augment, place, recolour, visible
from search_spaces.image_size import AnySize, ImageSize

CENTRE = (0.25, 0.75)
"""Where the four images of a mosaic meet: a share of the canvas, drawn for each axis."""


class Image(NamedTuple):
    """uint8 [H, W, 3] RGB with boxes float32 [N, 4] xyxy px and labels int64 [N]; ``linear``: shrunk by linear
    interpolation."""

    rgb: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    linear: bool = False


Canvas = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64], Placement]
"""What :func:`nas.data.transforms.augment` gives; of several images the placement is the first one's."""


def compose(
    first: Image, another: Callable[[], Image], size: AnySize, augmentation: Augmentation, rng: np.random.Generator
) -> Canvas:
    """Augment an image; with probability ``mosaic`` with three others beside it, with probability ``mixup`` with a
    second such canvas over it. ``another`` returns a random image.
    """
    size = ImageSize.of(size)
    canvas, boxes, labels, placement = _layer(first, another, size, augmentation, rng)
    if augmentation.mixup and rng.random() < augmentation.mixup:
        over, more, named, _ = _layer(another(), another, size, augmentation, rng)
        canvas = np.asarray(cv2.addWeighted(canvas, 0.5, over, 0.5, 0.0), np.uint8)
        boxes, labels = np.concatenate([boxes, more]), np.concatenate([labels, named])
    return canvas, boxes, labels, placement


def _layer(
    first: Image, another: Callable[[], Image], size: ImageSize, augmentation: Augmentation, rng: np.random.Generator
) -> Canvas:
    if augmentation.mosaic and rng.random() < augmentation.mosaic:
        return mosaic([first, another(), another(), another()], size, augmentation, rng)
    return augment(first.rgb, first.boxes, first.labels, size, augmentation, rng, first.linear)


def mosaic(images: list[Image], size: AnySize, augmentation: Augmentation, rng: np.random.Generator) -> Canvas:
    """Lay four images, each augmented by itself, around a random point and cut them off where the next begins.

    Which image is in which quarter is random. The placement returned is that of the first image.
    """
    high, wide = ImageSize.of(size)
    meet_x, meet_y = (
        round(float(share) * side) for share, side in zip(rng.uniform(*CENTRE, 2), (wide, high), strict=True)
    )
    canvas = np.empty((high, wide, 3), np.uint8)
    parts: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []
    placements: list[Placement] = []
    for quarter, (rgb, boxes, labels, linear) in zip(rng.permutation(4).tolist(), images, strict=True):
        right, below = bool(quarter % 2), quarter >= 2
        frame = (meet_x if right else 0, meet_y if below else 0, wide if right else meet_x, high if below else meet_y)
        placement = _cornered(
            place(rgb.shape[1], rgb.shape[0], size, augmentation, rng), rgb.shape[1], rgb.shape[0], frame, right, below
        )
        placement = replace(placement, linear=linear)
        rows, columns = slice(frame[1], frame[3]), slice(frame[0], frame[2])
        canvas[rows, columns] = placement.paste(rgb, lambda pixels: recolour(pixels, augmentation, rng))[rows, columns]
        placed, keep = visible(placement.boxes(boxes), augmentation, size, frame)
        parts.append((placed[keep], labels[keep]))
        placements.append(placement)
    return canvas, np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]), placements[0]


def _cornered(placement: Placement, width: int, height: int, frame: Frame, right: bool, below: bool) -> Placement:
    """Moved so that the image begins (or ends) where the four meet, as it is seen on the canvas."""
    wide, high = max(1, round(width * placement.scale_x)), max(1, round(height * placement.scale_y))
    seen_left = frame[0] if right else frame[2] - wide
    left = placement.size.width - seen_left - wide if placement.mirrored else seen_left
    top = frame[1] if below else frame[3] - high
    pivot = (left + wide / 2, top + high / 2) if placement.turn else placement.pivot
    return replace(placement, left=left, top=top, pivot=pivot)
