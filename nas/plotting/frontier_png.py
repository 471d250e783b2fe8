"""The frontier as an image, drawn by matplotlib."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes

from nas.plotting import canvas as look
from nas.plotting.marks import CIRCLE, SHAPES
from nas.plotting.sheet import MARKERS, Sheet, bars, write_sheet

if TYPE_CHECKING:
    from nas.plotting.frontier import FrontierData
    from nas.plotting.marks import Point


def write_frontier_png(path: str | os.PathLike[str], data: FrontierData, scale: float = 2.0) -> Path:
    """Write the image (1200 x 800 times ``scale`` pixels), whole or not at all."""
    return write_sheet(path, lambda: frontier_sheet(data), scale)


def frontier_sheet(data: FrontierData) -> Sheet:
    """The image as a matplotlib figure on a sheet of 1200 x 800 pixels."""
    sheet = Sheet()
    axes = sheet.axes(data.canvas)
    _draw(axes, data)
    sheet.header(data.title, data.subtitle)
    sheet.budgets(data.canvas, data.budgets)
    for labels, colour in ((data.reference_labels, look.GREEN), (data.chosen_labels, look.VERMILION)):
        for label in labels:
            sheet.label(axes, data.canvas, label, colour)
    sheet.legend(*axes.get_legend_handles_labels())
    return sheet


def _draw(axes: Axes, data: FrontierData) -> None:
    corners = [*data.steps, (data.canvas.x.high, data.canvas.y.low)]
    axes.fill(*zip(*corners, strict=True), color=look.BLUE, alpha=0.05, linewidth=0, zorder=1)
    grey = data.ordinary
    _scattered(axes, grey, "Candidates", s=30, color=look.GREY, alpha=0.6, linewidths=0, zorder=2)
    for _, bound, _ in data.budgets:
        axes.axvline(bound, color=look.SOFT_INK, linewidth=0.75, dashes=(6, 4), zorder=3)
    axes.plot(*zip(*data.steps[1:], strict=True), color=look.BLUE, linewidth=1.4, zorder=4)
    _interval_points(axes, data.front, look.BLUE, 55, 0.9, 0.55, 5, "Front, with 95 % intervals")
    if data.references:
        x, y = [x for _, x, _ in data.references], [y for _, _, y in data.references]
        axes.scatter(
            x,
            y,
            s=62,
            marker="D",
            facecolor=look.PAPER,
            edgecolor=look.GREEN,
            linewidths=1.7,
            zorder=6,
            label="Reference",
        )
    if data.chosen:
        _interval_points(axes, [point for _, point in data.chosen], look.VERMILION, 165, 1.6, 1.0, 7, "Chosen")
    for precision in data.precisions:  # says in the legend what the shapes mean
        axes.scatter([], [], s=55, color=look.INK, linewidths=0, marker=MARKERS[SHAPES[precision]], label=precision)


def _interval_points(
    axes: Axes, points: Sequence[Point], colour: str, size: float, edge: float, strength: float, order: int, label: str
) -> None:
    bars(axes, points, colour, strength, order)
    _scattered(axes, points, label, s=size, color=colour, edgecolors=look.PAPER, linewidths=edge, zorder=order + 0.5)


def _scattered(axes: Axes, points: Sequence[Point], label: str, **style: Any) -> None:
    """The points, each in its shape; the label once."""
    for i, shape in enumerate([*dict.fromkeys(p.shape for p in points)] or [CIRCLE]):
        own = [p for p in points if p.shape == shape]
        axes.scatter([p.x for p in own], [p.y for p in own], marker=MARKERS[shape], label=None if i else label, **style)
