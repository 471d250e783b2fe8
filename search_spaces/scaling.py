"""Compound scaling: how most YOLOs get their sizes from one table of repeats and widths, by a depth and a width
multiple."""

from __future__ import annotations

import math

from search_spaces.architecture import Architecture
from search_spaces.space import Choice

IMAGE_SIZES = (96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448, 480, 512, 576, 640)


BRANCH_CLASSES = Choice("branch_classes", (80, 100))
"""Option of a space with decoupled heads: class branches as wide as for so many classes, whatever the number of classes.
Ultralytics' trainer replaces only the last layer of a class branch, so a network that was fine-tuned from COCO keeps
branches for 80 classes; 100 stands for 100 and more (:data:`search_spaces.heads.decoupled.CLASS_WIDTH`)."""


def branch_classes(a: Architecture) -> dict[str, int]:
    """Return the option of a head for :data:`BRANCH_CLASSES` of an architecture; empty without one."""
    return {name: int(value) for name, value in a.choices if name == BRANCH_CLASSES.name}


def width(channels: int, multiple: float, widest: int = 1024) -> int:
    """Return the channels of a layer that has ``channels`` at multiple 1: a multiple of 8, rounded up.

    ``widest``: the most channels before scaling.
    """
    return math.ceil(min(channels, widest) * multiple / 8) * 8


def repeats(number: int, multiple: float) -> int:
    """Return the repetitions of a unit that is repeated ``number`` times at multiple 1; at least one."""
    return max(round(number * multiple), 1)


def image_size(values: tuple[int, ...] = IMAGE_SIZES) -> Choice:
    """Make the choice of the image size: squares of these sides in pixels, and every rectangle that networks take."""
    return Choice("image_size", values, weights=False, rectangles=True)
