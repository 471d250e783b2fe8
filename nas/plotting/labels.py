"""Placing text boxes beside points so that they cover neither each other nor what is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

XY = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def around(cls, centre: XY, width: float, height: float) -> Box:
        """Return the box of a width and height around a point, in pixels."""
        x, y = centre
        return cls(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    def holds(self, point: XY, margin: float = 0.0) -> bool:
        """Return whether a point lies inside, or within ``margin`` pixels of it."""
        x, y = point
        return self.left - margin < x < self.right + margin and self.top - margin < y < self.bottom + margin

    def nearest(self, point: XY) -> XY:
        """The point of the box nearest to ``point``."""
        return min(max(point[0], self.left), self.right), min(max(point[1], self.top), self.bottom)

    def leader(self, anchor: XY) -> list[XY]:
        """Pixels along the line from ``anchor`` to the box."""
        (x, y), (tx, ty) = anchor, self.nearest(anchor)
        steps = max(1, round(math.hypot(tx - x, ty - y) / 8))
        return [(x + (tx - x) * i / steps, y + (ty - y) * i / steps) for i in range(steps + 1)]

    def overlaps(self, other: Box, margin: float = 0.0) -> bool:
        """Return whether two boxes overlap, or come closer than ``margin`` pixels."""
        apart_x = self.right + margin <= other.left or other.right + margin <= self.left
        return not (apart_x or self.bottom + margin <= other.top or other.bottom + margin <= self.top)

    def inside(self, area: Box) -> bool:
        """Return whether the box lies within ``area``."""
        return (
            area.left <= self.left and self.right <= area.right and area.top <= self.top and self.bottom <= area.bottom
        )


def text_size(text: str, font_px: float, bold: bool = False) -> XY:
    """About the width and height in pixels of a line of sans-serif text: half an em a character on average, bold
    0.6."""
    return (0.6 if bold else 0.5) * font_px * len(text), 1.25 * font_px


def place(
    anchors: Sequence[XY],
    sizes: Sequence[XY],
    obstacles: Sequence[XY],
    area: Box,
    angles: Sequence[Sequence[float]],
    gap: float = 14.0,
) -> list[XY]:
    """Centres in pixels of the boxes of ``sizes`` (width, height) near their ``anchors``.

    Each box in turn takes the best place around its anchor: inside ``area``, off the boxes placed before, their
    leader lines and all anchors, over few ``obstacles`` and near (a covered obstacle weighs as much as seven places
    further on), in the order of its ``angles`` (degrees, 0 is right, 90 up).
    """
    boxes: list[Box] = []
    leaders: list[XY] = []
    for anchor, size, turns in zip(anchors, sizes, angles, strict=True):
        least, best = math.inf, Box.around(anchor, *size)
        for i, box in enumerate(_around(anchor, size, turns, gap)):
            if 0.15 * i >= least:  # further on, the way alone costs more
                break
            cost = _trouble(box, anchor, boxes, leaders, anchors, obstacles, area) + 0.15 * i
            if cost < least:
                least, best = cost, box
        boxes.append(best)
        leaders += best.leader(anchor)
    return [((box.left + box.right) / 2, (box.top + box.bottom) / 2) for box in boxes]


def _around(anchor: XY, size: XY, angles: Sequence[float], gap: float) -> Iterator[Box]:
    x, y = anchor
    for distance in (gap, 2 * gap, 3 * gap, 4.5 * gap, 6 * gap, 8 * gap, 11 * gap):
        for degrees in angles:
            dx, dy = math.cos(math.radians(degrees)), -math.sin(math.radians(degrees))
            # The nearest edge or corner of the box is `distance` away from the anchor.
            yield Box.around(
                (x + dx * distance + _side(dx) * size[0] / 2, y + dy * distance + _side(dy) * size[1] / 2), *size
            )


def _side(direction: float) -> float:
    return 0.0 if abs(direction) < 0.2 else math.copysign(1.0, direction)


def _trouble(
    box: Box,
    anchor: XY,
    boxes: Sequence[Box],
    leaders: Sequence[XY],
    anchors: Sequence[XY],
    obstacles: Sequence[XY],
    area: Box,
) -> float:
    collisions = sum(box.overlaps(other, 8) for other in boxes) + sum(box.holds(point, 10) for point in anchors)
    leader = box.leader(anchor)
    crossings = sum(box.holds(point, 3) for point in leaders) + sum(
        other.holds(point, 3) for other in boxes for point in leader
    )
    crossings += sum(Box.around(point, 18, 18).holds(on) for point in anchors if point != anchor for on in leader)
    return (
        1e6 * (not box.inside(area))
        + 1e4 * collisions
        + 20 * crossings
        + sum(box.holds(point, 5) for point in obstacles)
    )
