"""Detections drawn on an image."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray


def fitted(image: NDArray[np.uint8], longest: int, enlarge: bool = False) -> tuple[NDArray[np.uint8], float]:
    """Return the image [H, W, 3] scaled so that its longer side is ``longest`` pixels, and the scale.

    A smaller image stays as it is unless ``enlarge``. No side becomes shorter than one pixel, however narrow the image.
    """
    scale = longest / max(image.shape[:2])
    if scale >= 1 and not enlarge:
        return image, 1.0
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8), scale


def draw(
    image: NDArray[np.uint8],
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    labels: NDArray[np.integer],
    classes: Sequence[str],
    *,
    min_side: int = 512,
    colours: Sequence[tuple[int, int, int]] | None = None,
) -> NDArray[np.uint8]:
    """A copy of the RGB image uint8 [H, W, 3] with boxes [K, 4] xyxy px, each tagged with class and score in a
    colour of its class.

    ``colours``: RGB of each box instead. A score that is NaN, as marked objects have it, is left out of the tag. A
    image whose longer side is under ``min_side`` px is first enlarged to it by a whole factor, or tags would hide
    what they name.
    """
    factor = max(1, -(-min_side // max(image.shape[:2])))
    canvas = np.ascontiguousarray(image)
    canvas = np.array(
        cv2.resize(canvas, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC) if factor > 1 else canvas,
        np.uint8,
    )
    unit = max(canvas.shape[:2]) / 640
    placed = np.rint(np.asarray(boxes, np.float64).reshape(-1, 4) * factor).astype(int)
    order = np.argsort(scores, kind="stable")  # the surest on top
    paint = [class_colour(int(label)) for label in labels] if colours is None else colours
    for i in order:
        cv2.rectangle(
            canvas, placed[i, :2].tolist(), placed[i, 2:].tolist(), paint[i], max(1, round(2 * unit)), cv2.LINE_AA
        )
    for i in order:
        name = classes[labels[i]] if labels[i] < len(classes) else str(labels[i])
        _tag(canvas, name if np.isnan(scores[i]) else f"{name} {scores[i]:.2f}", placed[i], paint[i], unit)
    return canvas


def class_colour(label: int) -> tuple[int, int, int]:
    """RGB 0..255: hues a golden ratio apart, so that neighbouring classes differ most and every count of classes
    works."""
    red, green, blue = colorsys.hsv_to_rgb((0.58 + label * 0.6180339887) % 1, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def _tag(
    canvas: NDArray[np.uint8], text: str, box: NDArray[np.int_], colour: tuple[int, int, int], unit: float
) -> None:
    """A filled label on the box's upper edge; inside the box where there is no room above, and never over the
    image's edge."""
    font, scale, thickness, pad = (
        cv2.FONT_HERSHEY_SIMPLEX,
        max(0.4, 0.5 * unit),
        max(1, round(unit)),
        max(2, round(3 * unit)),
    )
    (width, height), below = cv2.getTextSize(text, font, scale, thickness)
    width, height = width + 2 * pad, height + below + pad
    x = int(max(0, min(box[0], canvas.shape[1] - width)))
    y = int(box[1] - height if box[1] >= height else box[1])
    cv2.rectangle(canvas, (x, y), (x + width, y + height), colour, cv2.FILLED)
    luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    ink = (0, 0, 0) if luma > 140 else (255, 255, 255)
    cv2.putText(canvas, text, (x + pad, y + height - below), font, scale, ink, thickness, cv2.LINE_AA)
