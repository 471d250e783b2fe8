"""The interactive page of a bench, drawn by plotly."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from nas.core.text_table import TextTable
from nas.plotting import canvas as look
from nas.plotting import page

if TYPE_CHECKING:
    from nas.bench.report import BenchData, Family, Panel


def write_bench_html(
    path: str | os.PathLike[str], data: BenchData, table: TextTable | None = None, notes: Sequence[str] = ()
) -> Path:
    """Write the page with the figure and, below it, ``table`` and ``notes``, whole or not at all."""
    return page.write_page(path, bench_figure(data), data.title, data.height, table, notes)


def bench_figure(data: BenchData) -> go.Figure:
    """Build the plotly figure: a vertical axis per panel over one latency axis.

    An entry of the legend switches a family on and off in all panels.
    """
    figure = go.Figure()
    axes: dict[str, Any] = {"xaxis": {**page.axis(data.panels[-1].canvas.x), "anchor": _axis(len(data.panels) - 1)}}
    texts = [page.budget_text(data.panels[0].canvas, budget) for budget in data.budgets]
    listed: set[str] = set()
    for i, panel in enumerate(data.panels):
        y = _axis(i)
        axes[y.replace("y", "yaxis")] = {**page.axis(panel.canvas.y), "domain": _domain(panel, data), "anchor": "x"}
        _add_panel(figure, panel, data, y, listed)
        texts += [page.annotation(panel.canvas, label, colour, yref=y) for label, colour in panel.labels]
        texts.append(_heading(panel, data))
    legend = {
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "y": 1 - data.legend_top / data.height,
        "yref": "container",
        "yanchor": "top",
    }
    layout = page.layout(data.title, data.subtitle, data.panels[0].canvas.top) | {
        "legend": {**legend, "itemsizing": "constant"}
    }
    figure.update_layout(**layout, **axes, annotations=texts)
    return figure


def _add_panel(figure: go.Figure, panel: Panel, data: BenchData, y: str, listed: set[str]) -> None:
    for _, bound, _ in data.budgets:
        figure.add_trace(page.upright(bound, panel.canvas, yaxis=y))
    if panel.front:
        corners = [*panel.front, (panel.canvas.x.high, panel.canvas.y.low)]
        figure.add_trace(page.line(corners, {"width": 0}, fill="toself", fillcolor="rgba(27, 39, 51, 0.025)", yaxis=y))
        named = {"name": "front", "legendgroup": " front", "showlegend": " front" not in listed}
        listed.add(" front")
        figure.add_trace(page.line(panel.front[1:], {"color": look.GREY, "width": 1.4}, yaxis=y, **named))
    for series in panel.series:
        family = series.family
        figure.add_trace(
            page.line(
                [(p.x, p.y) for p in series.points],
                {"color": family.colour, "width": 1},
                opacity=0.55,
                yaxis=y,
                legendgroup=family.name,
            )
        )
        face, rim = (look.PAPER, family.colour) if panel.hollow else (family.colour, look.PAPER)
        marker = {
            "color": face,
            "size": 10,
            "symbol": family.shape,
            "line": {"color": rim, "width": 2 if panel.hollow else 1},
        }
        figure.add_trace(
            page.markers(family.name, series.points, marker, bars=family.colour, yaxis=y, **_group(family, listed))
        )
    for point, family in panel.ticks:
        marker = {"color": family.colour, "size": 16, "symbol": "line-ns-open", "line": {"width": 2}}
        figure.add_trace(
            page.markers(family.name, [point], marker, yaxis=y, cliponaxis=False, **_group(family, listed))
        )


def _group(family: Family, listed: set[str]) -> dict[str, Any]:
    """One entry in the legend for all that is drawn of a family."""
    entry = {"legendgroup": family.name, "showlegend": family.name not in listed}
    listed.add(family.name)
    return entry


def _heading(panel: Panel, data: BenchData) -> dict[str, Any]:
    return {
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "y": _domain(panel, data)[1],
        "yref": "paper",
        "yanchor": "bottom",
        "yshift": data.heading_px(panel) - 4,
        "text": f"<b>{page.escaped(panel.heading)}</b>",
        "showarrow": False,
        "font": {"size": look.TEXT_PX, "color": look.INK},
    }


def _axis(panel: int) -> str:
    """Plotly's name of a panel's vertical axis."""
    return "y" if panel == 0 else f"y{panel + 1}"


def _domain(panel: Panel, data: BenchData) -> list[float]:
    """Where a panel lies between the lower and the upper edge of the plot, 0 to 1."""
    top, bottom = data.panels[0].canvas.top, data.panels[-1].canvas.bottom
    return [(bottom - at) / (bottom - top) for at in (panel.canvas.bottom, panel.canvas.top)]
