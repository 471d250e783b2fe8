"""The efficiency frontier as one value: everything that is drawn, worked out once, so that the HTML and the PNG
cannot differ."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.plotting.canvas import Canvas
from nas.plotting.labels import XY
from nas.plotting.marks import SHAPES, BudgetLine, Label, Point
from search_spaces.registry import unknown

FORMATS = ("html", "png", "svg", "pdf")
"""Formats of :func:`write_frontier`: a page, and those of :mod:`nas.plotting.sheet`."""
Reference = tuple[str, float, float]


@dataclass(frozen=True)
class FrontierData:
    """What both renderers draw. ``steps`` is the edge of what the front dominates."""

    title: str
    subtitle: tuple[str, ...]
    canvas: Canvas
    candidates: tuple[Point, ...]
    front: tuple[Point, ...]
    chosen: tuple[tuple[str, Point], ...]
    references: tuple[Reference, ...]
    steps: tuple[XY, ...]
    budgets: tuple[BudgetLine, ...]
    chosen_labels: tuple[Label, ...]
    reference_labels: tuple[Label, ...]

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those on the plot, where the precision was a choice."""
        there = {point.precision for point in self.candidates}
        return tuple(precision for precision in SHAPES if precision in there)

    @property
    def ordinary(self) -> tuple[Point, ...]:
        """The candidates that are neither on the front nor chosen."""
        special = {point.id for point in self.front} | {point.id for _, point in self.chosen}
        return tuple(point for point in self.candidates if point.id not in special)


def write_frontier(
    folder: str | os.PathLike[str], data: FrontierData, formats: Sequence[str] = ("html", "png")
) -> tuple[Path, ...]:
    """Write ``frontier.html`` (plotly) and images (matplotlib) into ``folder``; return their paths.

    Raises InputError if a format is not one of :data:`FORMATS` or a file cannot be written.
    """
    from nas.plotting.frontier_html import write_frontier_html
    from nas.plotting.frontier_png import write_frontier_png

    for name in formats:
        if name not in FORMATS:
            raise unknown("format of plots", name, FORMATS)
    return tuple(
        (write_frontier_html if name == "html" else write_frontier_png)(Path(folder) / f"frontier.{name}", data)
        for name in dict.fromkeys(formats)
    )
