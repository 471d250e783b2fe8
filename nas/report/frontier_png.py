"""The frontier as a picture, drawn by matplotlib's Agg.

Not by plotly's own export: that (kaleido) drives a Chromium, which a server, a container or a board seldom has; this needs nothing but itself.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from nas.files import atomic_write
from nas.report import canvas as look

if TYPE_CHECKING:
    from nas.report.frontier import FrontierData, Label, Point

_DPI = 100


def write_png(path: str | os.PathLike[str], data: FrontierData, scale: float = 2.0) -> Path:
    """Write the picture (1200 x 800 times ``scale`` pixels), whole or not at all."""
    out = io.BytesIO()
    with matplotlib.rc_context({"font.family": _fonts(), "axes.unicode_minus": True, "text.parse_math": False}):
        figure = frontier_figure(data)
        figure.savefig(out, format="png", dpi=_DPI * scale, metadata={"Software": None})
    return atomic_write(path, out.getvalue())


def frontier_figure(data: FrontierData) -> Figure:
    """The matplotlib figure; positions are in pixels of a 1200 x 800 canvas, so it looks the same at any scale."""
    figure = Figure(figsize=(look.WIDTH / _DPI, look.HEIGHT / _DPI), dpi=_DPI, facecolor=look.PAPER)
    FigureCanvasAgg(figure)
    width, height = look.WIDTH - look.LEFT - look.RIGHT, look.HEIGHT - data.canvas.top - look.BOTTOM
    axes = figure.add_axes((look.LEFT / look.WIDTH, look.BOTTOM / look.HEIGHT, width / look.WIDTH, height / look.HEIGHT))
    _frame(axes, data)
    _draw(axes, data)
    _header(figure, data)
    for text, bound, row in data.budgets:
        at, _ = data.canvas.pixel(bound, data.canvas.y.high)
        _text(figure, at, data.canvas.top - 6 - look.ROW_PX * row, text, look.SMALL_PX, look.SOFT_INK, ha="center", va="bottom")
    for labels, colour in ((data.reference_labels, look.GREEN), (data.chosen_labels, look.VERMILION)):
        for label in labels:
            _label(axes, data, label, colour)
    handles, names = axes.get_legend_handles_labels()
    legend = figure.legend(
        handles,
        names,
        loc="upper right",
        bbox_to_anchor=(1 - look.RIGHT / look.WIDTH, 1 - 18 / look.HEIGHT),
        ncols=len(names),
        frameon=False,
        fontsize=_points(look.TEXT_PX),
        handletextpad=0.3,
        columnspacing=1.4,
        labelcolor=look.INK,
        borderaxespad=0,
    )
    legend.set_zorder(10)
    return figure


def _points(pixels: float) -> float:
    return pixels * 72 / _DPI


def _fonts() -> list[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [font for font in look.FONTS if font in installed] or ["sans-serif"]


def _frame(axes: Axes, data: FrontierData) -> None:
    axes.set_facecolor(look.PAPER)
    axes.set_xscale("log" if data.canvas.x.log else "linear")
    axes.set_xlim(data.canvas.x.low, data.canvas.x.high)
    axes.set_ylim(data.canvas.y.low, data.canvas.y.high)
    for axis, values in ((axes.xaxis, data.canvas.x), (axes.yaxis, data.canvas.y)):
        axis.set_major_locator(FixedLocator(list(values.ticks)))
        axis.set_major_formatter(FixedFormatter(list(values.tick_texts)))
        axis.set_minor_locator(NullLocator())
        axis.set_label_text(values.label, fontsize=_points(look.TEXT_PX + 1), color=look.INK)
        axis.labelpad = 9
    axes.tick_params(labelsize=_points(look.SMALL_PX), labelcolor=look.SOFT_INK, color=look.SOFT_INK, length=3, width=0.8)
    axes.grid(color=look.GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(look.SOFT_INK)
        spine.set_linewidth(0.8)


def _draw(axes: Axes, data: FrontierData) -> None:
    corners = [*data.steps, (data.canvas.x.high, data.canvas.y.low)]
    axes.fill(*zip(*corners, strict=True), color=look.BLUE, alpha=0.05, linewidth=0, zorder=1)
    grey = data.ordinary
    axes.scatter([p.x for p in grey], [p.y for p in grey], s=30, color=look.GREY, alpha=0.6, linewidths=0, zorder=2, label="Candidates")
    for _, bound, _ in data.budgets:
        axes.axvline(bound, color=look.SOFT_INK, linewidth=0.75, dashes=(6, 4), zorder=3)
    axes.plot(*zip(*data.steps[1:], strict=True), color=look.BLUE, linewidth=1.4, zorder=4)
    _interval_points(axes, data.front, look.BLUE, 55, 0.9, 0.55, 5, "Front, with 95 % intervals")
    if data.references:
        x, y = [x for _, x, _ in data.references], [y for _, _, y in data.references]
        axes.scatter(x, y, s=62, marker="D", facecolor=look.PAPER, edgecolor=look.GREEN, linewidths=1.7, zorder=6, label="Reference")
    if data.chosen:
        _interval_points(axes, [point for _, point in data.chosen], look.VERMILION, 165, 1.6, 1.0, 7, "Chosen")


def _interval_points(axes: Axes, points: Sequence[Point], colour: str, size: float, edge: float, bars: float, order: int, label: str) -> None:
    for p in points:
        x, y = p.x_interval or (p.x, p.x), p.y_interval or (p.y, p.y)
        across = ([max(0.0, p.x - x[0])], [max(0.0, x[1] - p.x)]) if p.x_interval else None
        along = ([max(0.0, p.y - y[0])], [max(0.0, y[1] - p.y)]) if p.y_interval else None
        axes.errorbar([p.x], [p.y], along, across, fmt="none", ecolor=(colour, bars), elinewidth=0.9, capsize=1.8, capthick=0.9, zorder=order)
    axes.scatter(
        [p.x for p in points], [p.y for p in points], s=size, color=colour, edgecolors=look.PAPER, linewidths=edge, zorder=order + 0.5, label=label
    )


def _header(figure: Figure, data: FrontierData) -> None:
    _text(figure, look.LEFT, 26, data.title, look.TITLE_PX, look.INK, weight="bold", va="top")
    for i, line in enumerate(data.subtitle):
        _text(figure, look.LEFT, 64 + 19 * i, line, look.SUBTITLE_PX, look.SOFT_INK, va="top")


def _text(figure: Figure, x: float, y: float, text: str, size: float, colour: str, **style: Any) -> None:
    figure.text(x / look.WIDTH, 1 - y / look.HEIGHT, text, fontsize=_points(size), color=colour, **style)


def _label(axes: Axes, data: FrontierData, label: Label, colour: str) -> None:
    """Leader line, white ground and text of a label, each line centred in its box."""
    x, y = data.canvas.pixel(*label.anchor)
    x, y = x + label.offset[0], y + label.offset[1]
    figure = axes.figure
    if label.tail:
        start = data.canvas.pixel(*label.anchor)
        end = (start[0] + label.tail[0], start[1] + label.tail[1])
        run, rise = zip(*((px / look.WIDTH, 1 - py / look.HEIGHT) for px, py in (start, end)), strict=True)
        axes.plot(run, rise, transform=figure.transFigure, color=colour, linewidth=0.8, zorder=6.5)
    for i, line in enumerate(label.lines):
        at = y + (i - (len(label.lines) - 1) / 2) * look.LINE_PX
        ground = {"boxstyle": "square,pad=0.15", "facecolor": look.PAPER, "edgecolor": "none", "alpha": 0.85}
        head = look.NAME_PX if len(label.lines) > 1 else look.TEXT_PX
        size, ink = (head, colour) if i == 0 else (look.SMALL_PX, look.INK)
        axes.text(
            x / look.WIDTH,
            1 - at / look.HEIGHT,
            line,
            transform=figure.transFigure,
            fontsize=_points(size),
            color=ink,
            ha="center",
            va="center",
            weight="bold" if i == 0 else "normal",
            bbox=ground,
            zorder=9,
        )
