"""A sheet of paper for matplotlib's Agg, laid out in pixels from its upper left corner: what all images share.

Not plotly's own export: that (kaleido) drives a Chromium, which a server, a container or a board seldom has; this
needs nothing but itself.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from nas.core.atomic import atomic_write
from nas.plotting import canvas as look
from nas.plotting.canvas import Canvas
from search_spaces.registry import unknown
from search_spaces.text import printable

if TYPE_CHECKING:
    from nas.plotting.marks import BudgetLine, Label, Point

_DPI = 100
FORMATS = ("png", "svg", "pdf")
"""Image formats by the suffix of the file."""

MARKERS = {
    "circle": "o",
    "square": "s",
    "triangle-up": "^",
    "diamond": "D",
    "triangle-down": "v",
    "pentagon": "p",
    "hexagon": "h",
    "triangle-left": "<",
    "triangle-right": ">",
    "star": "*",
}
"""Shapes as plotly calls them -> as matplotlib does."""


class Sheet:
    """A figure ``WIDTH`` by ``height`` pixels; all positions are in pixels, so it looks the same at any scale."""

    def __init__(self, height: int = look.HEIGHT) -> None:
        self.height = height
        self.figure = Figure(figsize=(look.WIDTH / _DPI, height / _DPI), dpi=_DPI, facecolor=look.PAPER)
        FigureCanvasAgg(self.figure)

    def axes(self, canvas: Canvas, x_named: bool = True) -> Axes:
        """Axes with ticks, grid and names; the horizontal one without texts where it is not ``x_named``."""
        area = canvas.area
        width, height = area.right - area.left, area.bottom - area.top
        axes = self.figure.add_axes(
            (area.left / look.WIDTH, 1 - area.bottom / self.height, width / look.WIDTH, height / self.height)
        )
        axes.set_facecolor(look.PAPER)
        axes.set_xscale("log" if canvas.x.log else "linear")
        axes.set_xlim(canvas.x.low, canvas.x.high)
        axes.set_ylim(canvas.y.low, canvas.y.high)
        for axis, values, named in ((axes.xaxis, canvas.x, x_named), (axes.yaxis, canvas.y, True)):
            axis.set_major_locator(FixedLocator(list(values.ticks)))
            axis.set_major_formatter(FixedFormatter(list(values.tick_texts) if named else [""] * len(values.ticks)))
            axis.set_minor_locator(NullLocator())
            axis.set_label_text(
                printable(values.label) if named else "", fontsize=points(look.TEXT_PX + 1), color=look.INK
            )
            axis.labelpad = 9
        axes.tick_params(
            labelsize=points(look.SMALL_PX), labelcolor=look.SOFT_INK, color=look.SOFT_INK, length=3, width=0.8
        )
        axes.grid(color=look.GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(look.SOFT_INK)
            spine.set_linewidth(0.8)
        return axes

    def text(self, x: float, y: float, text: str, size: float, colour: str, **style: Any) -> None:
        """Write a line of text, ``size`` pixels high."""
        shown = printable(text)
        self.figure.text(x / look.WIDTH, 1 - y / self.height, shown, fontsize=points(size), color=colour, **style)

    def header(self, title: str, subtitle: Sequence[str]) -> None:
        """Title and the lines below it."""
        self.text(look.LEFT, 26, title, look.TITLE_PX, look.INK, weight="bold", va="top")
        for i, line in enumerate(subtitle):
            self.text(look.LEFT, 64 + 19 * i, line, look.SUBTITLE_PX, look.SOFT_INK, va="top")

    def budgets(self, canvas: Canvas, lines: Sequence[BudgetLine]) -> None:
        """The texts above the lines of budgets."""
        for text, bound, row in lines:
            at, _ = canvas.pixel(bound, canvas.y.high)
            self.text(
                at, canvas.top - 6 - look.ROW_PX * row, text, look.SMALL_PX, look.SOFT_INK, ha="center", va="bottom"
            )

    def legend(
        self,
        handles: Sequence[Any],
        names: Sequence[str],
        top: float = 18,
        columns: int | None = None,
        left: bool = False,
    ) -> None:
        """In rows of ``columns`` (default: one row), ``top`` pixels from the upper edge, at the right or the
        ``left``."""
        columns = columns or len(names)
        order = [
            i for column in range(columns) for i in range(column, len(names), columns)
        ]  # matplotlib fills column by column
        x = look.LEFT / look.WIDTH if left else 1 - look.RIGHT / look.WIDTH
        legend = self.figure.legend(
            [handles[i] for i in order],
            [printable(names[i]) for i in order],
            loc="upper left" if left else "upper right",
            bbox_to_anchor=(x, 1 - top / self.height),
            ncols=columns,
            frameon=False,
            fontsize=points(look.TEXT_PX),
            handletextpad=0.3,
            columnspacing=1.4,
            labelcolor=look.INK,
            borderaxespad=0,
        )
        legend.set_zorder(10)

    def label(self, axes: Axes, canvas: Canvas, label: Label, colour: str) -> None:
        """Leader line, white ground and text of a label, each line centred in its box."""
        x, y = canvas.pixel(*label.anchor)
        x, y = x + label.offset[0], y + label.offset[1]
        if label.tail:
            start = canvas.pixel(*label.anchor)
            end = (start[0] + label.tail[0], start[1] + label.tail[1])
            run, rise = zip(*((px / look.WIDTH, 1 - py / self.height) for px, py in (start, end)), strict=True)
            axes.plot(run, rise, transform=self.figure.transFigure, color=colour, linewidth=0.8, zorder=6.5)
        for i, line in enumerate(label.lines):
            at = y + (i - (len(label.lines) - 1) / 2) * look.LINE_PX
            ground = {"boxstyle": "square,pad=0.15", "facecolor": look.PAPER, "edgecolor": "none", "alpha": 0.85}
            head = look.NAME_PX if len(label.lines) > 1 else look.TEXT_PX
            size, ink = (head, colour) if i == 0 else (look.SMALL_PX, look.INK)
            axes.text(
                x / look.WIDTH,
                1 - at / self.height,
                printable(line),
                transform=self.figure.transFigure,
                fontsize=points(size),
                color=ink,
                ha="center",
                va="center",
                weight="bold" if i == 0 else "normal",
                bbox=ground,
                zorder=9,
            )


def write_sheet(path: str | os.PathLike[str], draw: Callable[[], Sheet], scale: float) -> Path:
    """Draw and write an image, whole or not at all.

    matplotlib's settings are restored afterwards. Equal sheets give equal files.

    Args:
        path: Its suffix, one of :data:`FORMATS`, is the format.
        draw: Makes the sheet.
        scale: Pixels of a PNG per pixel of the sheet; the other formats are scalable.

    Raises:
        InputError: For another suffix, or if the file cannot be written.
    """
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise unknown("image format", kind or os.fspath(path), FORMATS)
    out = io.BytesIO()
    settings: Any = {
        "font.family": _fonts(),
        "axes.unicode_minus": True,
        "text.parse_math": False,
        "svg.hashsalt": "nas",
    }
    metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None, "Producer": None}}[kind]
    with matplotlib.rc_context(settings):
        draw().figure.savefig(out, format=kind, dpi=_DPI * scale, metadata=metadata)
    return atomic_write(path, out.getvalue())


def points(pixels: float) -> float:
    """Pixels in typographic points."""
    return pixels * 72 / _DPI


def bars(axes: Axes, marks: Sequence[Point], colour: str, strength: float, order: float) -> None:
    """The 95 % intervals of points, in ``colour`` at ``strength`` (0..1)."""
    for p in marks:
        x, y = p.x_interval or (p.x, p.x), p.y_interval or (p.y, p.y)
        across = ([max(0.0, p.x - x[0])], [max(0.0, x[1] - p.x)]) if p.x_interval else None
        along = ([max(0.0, p.y - y[0])], [max(0.0, y[1] - p.y)]) if p.y_interval else None
        axes.errorbar(
            [p.x],
            [p.y],
            along,
            across,
            fmt="none",
            ecolor=(colour, strength),
            elinewidth=0.9,
            capsize=1.8,
            capthick=0.9,
            zorder=order,
        )


def _fonts() -> list[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [font for font in look.FONTS if font in installed] or ["sans-serif"]
