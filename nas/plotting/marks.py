"""What stands on the paper, worked out in pixels once for every renderer: points, labels, lines of budgets, the edge
of what is dominated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas.core.units import compact
from nas.plotting.canvas import LINE_PX, NAME_PX, SMALL_PX, TEXT_PX, Canvas
from nas.plotting.labels import XY, Box, place, text_size

BudgetLine = tuple[str, float, int]
"""Text, cost and row of the text (0 is next to the plot)."""

SHAPES = {"fp32": "circle", "fp16": "triangle-up", "bf16": "triangle-down", "int8": "square"}
"""Precision -> the shape of its points, as plotly calls it."""
CIRCLE = "circle"

# Degrees to try, best first: above a front, where no point can be; below it.
ABOVE = (135, 160, 110, 180, 90, 45, 20, -45)
BELOW = (-45, 0, -90, -135, 180, 45, 135, 90)


@dataclass(frozen=True)
class Point:
    """A network on the plot: x is the cost, y the gain, both with their 95 % interval where known; ``hover`` tells
    the rest, line by line.

    ``precision``, where that is a choice, gives the point its shape.
    """

    id: str
    x: float
    y: float
    x_interval: XY | None
    y_interval: XY | None
    hover: tuple[str, ...]
    precision: str = ""

    @property
    def shape(self) -> str:
        """By the precision; a circle where that is no choice."""
        return SHAPES.get(self.precision, CIRCLE)


@dataclass(frozen=True)
class Label:
    """Text of one or two lines beside a point: centre of its box in pixels, relative to the point, y downwards."""

    lines: tuple[str, ...]
    anchor: XY
    offset: XY
    size: XY

    @property
    def tail(self) -> XY | None:
        """The point of the box nearest to the anchor, relative to it, where a leader line ends; ``None`` if the box
        is so near that it needs none."""
        tail = Box.around(self.offset, *self.size).nearest((0.0, 0.0))
        return tail if math.hypot(*tail) > 18 else None


def edge(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in x (less is better) and y (more is better), by rising x."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y, p.id)):
        if not kept or point.y > kept[-1].y:
            kept.append(point)
    return kept


def steps(front: Sequence[Point], canvas: Canvas) -> tuple[XY, ...]:
    """Corners of the edge of what a front dominates, from the lower edge of the canvas to its right one."""
    corners: list[XY] = [(front[0].x, canvas.y.low)]
    for point, after in zip(front, [*(p.x for p in front[1:]), canvas.x.high], strict=True):
        corners += [(point.x, point.y), (after, point.y)]
    return tuple(corners)


def budget_lines(bounds: Sequence[tuple[str, float]], canvas: Canvas, unit: str) -> tuple[BudgetLine, ...]:
    """The lines of budgets: neighbours whose texts would touch stand in different rows."""
    ends: list[float] = []
    rows = []
    for name, bound in bounds:
        text = f"{name} ≤ {compact(float(f'{bound:.4g}'))} {unit}".rstrip()
        half, at = text_size(text, SMALL_PX)[0] / 2 + 6, canvas.pixel(bound, canvas.y.high)[0]
        row = next((i for i, end in enumerate(ends) if end <= at - half), len(ends))
        ends[row : row + 1] = [at + half]
        rows.append((text, bound, row))
    return tuple(rows)


def obstacles(canvas: Canvas, points: Sequence[Point], barred: Sequence[Point], bounds: Sequence[float]) -> list[XY]:
    """Pixels that labels had better not cover: points, the interval bars of the ``barred`` and the lines of budgets."""
    at = [canvas.pixel(p.x, p.y) for p in points]
    for p in barred:
        (x0, x1), (y0, y1) = p.x_interval or (p.x, p.x), p.y_interval or (p.y, p.y)
        x0 = max(x0, canvas.x.low)
        at += [canvas.pixel(x0 + (x1 - x0) * t / 4, p.y) for t in range(5)] + [
            canvas.pixel(p.x, y0 + (y1 - y0) * t / 4) for t in range(5)
        ]
    lines = {canvas.pixel(bound, canvas.y.low)[0] for bound in bounds}
    return at + [(x, float(y)) for x in lines for y in range(canvas.top, canvas.bottom, 24)]


def placed(
    canvas: Canvas,
    texts: Sequence[tuple[tuple[str, ...], XY]],
    angles: Sequence[Sequence[float]],
    occupied: Sequence[XY],
    gap: float = 14.0,
) -> tuple[Label, ...]:
    """A label for each (lines, point) inside the canvas, at the first of its ``angles`` where it covers least;
    ``occupied`` as from :func:`obstacles`."""
    anchors = [canvas.pixel(*point) for _, point in texts]
    sizes = [_label_size(lines) for lines, _ in texts]
    area = canvas.area
    inner = Box(area.left + 4, area.top + 4, area.right - 4, area.bottom - 4)
    centres = place(anchors, sizes, occupied, inner, angles, gap)
    offsets = [(x - ax, y - ay) for (x, y), (ax, ay) in zip(centres, anchors, strict=True)]
    return tuple(
        Label(lines, point, offset, size) for (lines, point), offset, size in zip(texts, offsets, sizes, strict=True)
    )


def _label_size(lines: Sequence[str]) -> XY:
    head = text_size(lines[0], NAME_PX if len(lines) > 1 else TEXT_PX, bold=True)[0]
    return max([head, *(text_size(line, SMALL_PX)[0] for line in lines[1:])]) + 6, len(lines) * LINE_PX + 2.0
