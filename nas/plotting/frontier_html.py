"""The frontier as an interactive page, drawn by plotly."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from nas.core.units import number
from nas.plotting import canvas as look
from nas.plotting import page
from nas.plotting.marks import SHAPES

if TYPE_CHECKING:
    from nas.plotting.frontier import FrontierData
    from nas.plotting.marks import Point

_BLUE_BARS = "rgba(0, 114, 178, 0.55)"


def write_frontier_html(path: str | os.PathLike[str], data: FrontierData) -> Path:
    """Write the page, whole or not at all."""
    return page.write_page(path, frontier_figure(data), data.title)


def frontier_figure(data: FrontierData) -> go.Figure:
    """The plotly figure, from back to front: what is dominated, candidates, budgets, front, references, chosen."""
    figure = go.Figure()
    corners = [*data.steps, (data.canvas.x.high, data.canvas.y.low)]
    figure.add_trace(page.line(corners, {"width": 0}, fill="toself", fillcolor="rgba(0, 114, 178, 0.05)"))
    figure.add_trace(
        page.markers(
            "Candidates", data.ordinary, {"color": look.GREY, "size": 8, "opacity": 0.6, **_shapes(data.ordinary)}
        )
    )
    for _, bound, _ in data.budgets:
        figure.add_trace(page.upright(bound, data.canvas))
    figure.add_trace(page.line(data.steps[1:], {"color": look.BLUE, "width": 1.8}))
    marker = {"color": look.BLUE, "size": 10, "line": {"color": look.PAPER, "width": 1.2}, **_shapes(data.front)}
    figure.add_trace(page.markers("Front, with 95 % intervals", data.front, marker, bars=_BLUE_BARS))
    if data.references:
        figure.add_trace(_references(data))
    if data.chosen:
        picks = [p for _, p in data.chosen]
        marker = {"color": look.VERMILION, "size": 17, "line": {"color": look.PAPER, "width": 2}, **_shapes(picks)}
        figure.add_trace(page.markers("Chosen", picks, marker, [name for name, _ in data.chosen], look.VERMILION))
    for precision in data.precisions:  # says in the legend what the shapes mean
        marker = {"color": look.INK, "size": 10, "symbol": SHAPES[precision]}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name=precision, marker=marker))
    texts = [page.budget_text(data.canvas, budget) for budget in data.budgets]
    for labels, colour in ((data.reference_labels, look.GREEN), (data.chosen_labels, look.VERMILION)):
        texts += [page.annotation(data.canvas, label, colour) for label in labels]
    axes = {"xaxis": page.axis(data.canvas.x), "yaxis": page.axis(data.canvas.y)}
    figure.update_layout(**page.layout(data.title, data.subtitle, data.canvas.top), **axes, annotations=texts)
    return figure


def _shapes(points: Sequence[Point]) -> dict[str, list[str]]:
    """What a marker says of the points' shapes, where they differ from the usual."""
    return {"symbol": [p.shape for p in points]} if any(p.precision for p in points) else {}


def _references(data: FrontierData) -> go.Scatter:
    texts = [
        f"<b>{page.escaped(name)}</b><br>{page.escaped(data.canvas.x.label)}: {number(x)}<br>{page.escaped(data.canvas.y.label)}: {number(y)}"
        for name, x, y in data.references
    ]
    marker = {"color": look.PAPER, "size": 12, "symbol": "diamond", "line": {"color": look.GREEN, "width": 2.2}}
    x, y = [x for _, x, _ in data.references], [y for _, _, y in data.references]
    return go.Scatter(x=x, y=y, mode="markers", name="Reference", marker=marker, hovertext=texts, hoverinfo="text")
