"""The image of a bench, drawn by matplotlib."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nas.plotting import canvas as look
from nas.plotting.sheet import MARKERS, Sheet, bars, write_sheet

if TYPE_CHECKING:
    from nas.bench.report import BenchData, Panel

_SIZE = 7.0
_TICK_UP = 2  # matplotlib's name of the marker, which its types do not have


def write_bench_png(path: str | os.PathLike[str], data: BenchData, scale: float = 2.0) -> Path:
    """Write the image, 1200 pixels wide times ``scale``, whole or not at all."""
    return write_sheet(path, lambda: bench_sheet(data), scale)


def bench_sheet(data: BenchData) -> Sheet:
    """Build the matplotlib figure."""
    sheet = Sheet(data.height)
    sheet.header(data.title, data.subtitle)
    sheet.budgets(data.panels[0].canvas, data.budgets)
    for panel in data.panels:
        axes = sheet.axes(panel.canvas, x_named=panel is data.panels[-1])
        _draw(axes, panel, data)
        sheet.text(
            look.LEFT,
            panel.canvas.top - data.heading_px(panel),
            panel.heading,
            look.TEXT_PX,
            look.INK,
            weight="bold",
            va="bottom",
        )
        for label, colour in panel.labels:
            sheet.label(axes, panel.canvas, label, colour)
    _legend(sheet, data)
    return sheet


def _draw(axes: Axes, panel: Panel, data: BenchData) -> None:
    for _, bound, _ in data.budgets:
        axes.axvline(bound, color=look.SOFT_INK, linewidth=0.75, dashes=(6, 4), zorder=3)
    if panel.front:
        corners = [*panel.front, (panel.canvas.x.high, panel.canvas.y.low)]
        axes.fill(*zip(*corners, strict=True), color=look.INK, alpha=0.025, linewidth=0, zorder=1)
        axes.plot(*zip(*panel.front[1:], strict=True), color=look.GREY, linewidth=1.2, zorder=2)
    for series in panel.series:
        colour = series.family.colour
        x, y = [p.x for p in series.points], [p.y for p in series.points]
        axes.plot(x, y, color=colour, linewidth=1.0, alpha=0.55, zorder=4)
        bars(axes, series.points, colour, 0.8, 5)
        axes.plot(x, y, linestyle="none", zorder=6, **_marker(series.family.shape, colour, panel.hollow))
    for point, family in panel.ticks:
        axes.plot(
            [point.x],
            [point.y],
            marker=_TICK_UP,
            markersize=8,
            markeredgewidth=2,
            color=family.colour,
            clip_on=False,
            zorder=6,
        )


def _marker(shape: str, colour: str, hollow: bool) -> dict[str, Any]:
    face, rim = (look.PAPER, colour) if hollow else (colour, look.PAPER)
    size = _SIZE * {"diamond": 0.88, "star": 1.5, "square": 0.92}.get(shape, 1.08)
    return {
        "marker": MARKERS[shape],
        "markersize": size,
        "markerfacecolor": face,
        "markeredgecolor": rim,
        "markeredgewidth": 1.5 if hollow else 0.8,
    }


def _legend(sheet: Sheet, data: BenchData) -> None:
    hollow, filled = (
        {s.family for panel in data.panels if panel.hollow == which for s in panel.series} for which in (True, False)
    )
    handles = [
        Line2D([], [], color=f.colour, linewidth=1.0, **_marker(f.shape, f.colour, f in hollow - filled))
        for f in data.families
    ]
    names = [f.name for f in data.families]
    if any(panel.front for panel in data.panels):
        handles.append(Line2D([], [], color=look.GREY, linewidth=1.2))
        names.append("front")
    sheet.legend(handles, names, data.legend_top, data.legend_columns, left=True)
