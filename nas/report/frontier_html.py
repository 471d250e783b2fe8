"""The frontier as an interactive page, drawn by plotly. Its script is in the page (about 5 MB): it opens without a network."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from nas.files import atomic_write
from nas.report import canvas as look
from nas.report.canvas import Axis
from nas.report.quantities import number

if TYPE_CHECKING:
    from nas.report.frontier import FrontierData, Label, Point

_BLUE_BARS = "rgba(0, 114, 178, 0.55)"
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>html, body {{ margin: 0; height: 100%; background: {paper}; }} #frontier {{ min-width: 1000px; min-height: 640px; }}</style>
</head>
<body>
{plot}
</body>
</html>
"""


def write_html(path: str | os.PathLike[str], data: FrontierData) -> Path:
    """Write the page, whole or not at all."""
    plot = frontier_figure(data).to_html(
        include_plotlyjs=True,
        full_html=False,
        default_height="100vh",
        div_id="frontier",
        config={
            "displaylogo": False,
            "responsive": True,
            "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"],
            "toImageButtonOptions": {"filename": "frontier", "scale": 2},
        },
    )
    return atomic_write(path, _PAGE.format(title=html.escape(data.title), paper=look.PAPER, plot=plot))


def frontier_figure(data: FrontierData) -> go.Figure:
    """The plotly figure, from back to front: what is dominated, candidates, budgets, front, references, chosen."""
    figure = go.Figure()
    figure.add_trace(_dominated(data))
    figure.add_trace(_points("Candidates", data.ordinary, {"color": look.GREY, "size": 8, "opacity": 0.6}))
    for _, bound, _ in data.budgets:
        line = {"color": look.SOFT_INK, "width": 1, "dash": "6px,4px"}
        figure.add_trace(
            go.Scatter(x=[bound] * 2, y=[data.canvas.y.low, data.canvas.y.high], mode="lines", line=line, hoverinfo="skip", showlegend=False)
        )
    edge = data.steps[1:]
    line = {"color": look.BLUE, "width": 1.8}
    figure.add_trace(go.Scatter(x=[x for x, _ in edge], y=[y for _, y in edge], mode="lines", line=line, hoverinfo="skip", showlegend=False))
    marker = {"color": look.BLUE, "size": 10, "line": {"color": look.PAPER, "width": 1.2}}
    figure.add_trace(_points("Front, with 95 % intervals", data.front, marker, bars=_BLUE_BARS))
    if data.references:
        figure.add_trace(_references(data))
    if data.chosen:
        marker = {"color": look.VERMILION, "size": 17, "line": {"color": look.PAPER, "width": 2}}
        figure.add_trace(_points("Chosen", [p for _, p in data.chosen], marker, [name for name, _ in data.chosen], look.VERMILION))
    figure.update_layout(**_layout(data), annotations=_annotations(data))
    return figure


def _dominated(data: FrontierData) -> go.Scatter:
    corners = [*data.steps, (data.canvas.x.high, data.canvas.y.low)]
    fill = {"fill": "toself", "fillcolor": "rgba(0, 114, 178, 0.05)", "line": {"width": 0}}
    return go.Scatter(x=[x for x, _ in corners], y=[y for _, y in corners], mode="lines", hoverinfo="skip", showlegend=False, **fill)


def _points(title: str, points: Sequence[Point], marker: dict[str, object], names: Sequence[str] = (), bars: str | None = None) -> go.Scatter:
    heads = names or [""] * len(points)
    texts = [
        f"<b>{html.escape(f'{head}  {p.id}'.strip())}</b><br>{'<br>'.join(map(html.escape, p.hover))}" for head, p in zip(heads, points, strict=True)
    ]
    errors = (
        {"error_x": _bars([(p.x, p.x_interval) for p in points], bars), "error_y": _bars([(p.y, p.y_interval) for p in points], bars)} if bars else {}
    )
    return go.Scatter(
        x=[p.x for p in points], y=[p.y for p in points], mode="markers", name=title, marker=marker, hovertext=texts, hoverinfo="text", **errors
    )


def _bars(values: Sequence[tuple[float, tuple[float, float] | None]], colour: str) -> dict[str, object]:
    above = [max(0.0, interval[1] - value) if interval else 0.0 for value, interval in values]
    below = [max(0.0, value - interval[0]) if interval else 0.0 for value, interval in values]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": colour, "thickness": 1.2, "width": 2.5}


def _references(data: FrontierData) -> go.Scatter:
    texts = [
        f"<b>{html.escape(name)}</b><br>{html.escape(data.canvas.x.label)}: {number(x)}<br>{html.escape(data.canvas.y.label)}: {number(y)}"
        for name, x, y in data.references
    ]
    marker = {"color": look.PAPER, "size": 12, "symbol": "diamond", "line": {"color": look.GREEN, "width": 2.2}}
    x, y = [x for _, x, _ in data.references], [y for _, _, y in data.references]
    return go.Scatter(x=x, y=y, mode="markers", name="Reference", marker=marker, hovertext=texts, hoverinfo="text")


def _layout(data: FrontierData) -> dict[str, object]:
    subtitle = "<br>".join(f'<span style="font-size:{look.SUBTITLE_PX}px;color:{look.SOFT_INK}">{html.escape(line)}</span>' for line in data.subtitle)
    return {
        "template": "none",
        "font": {"family": ", ".join([*look.FONTS, "sans-serif"]), "size": look.TEXT_PX, "color": look.INK},
        "paper_bgcolor": look.PAPER,
        "plot_bgcolor": look.PAPER,
        "margin": {"l": look.LEFT, "r": look.RIGHT, "t": data.canvas.top, "b": look.BOTTOM, "autoexpand": False},
        "title": {
            "text": f"<b>{html.escape(data.title)}</b><br>{subtitle}",
            "font": {"size": look.TITLE_PX, "color": look.INK},
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"l": look.LEFT, "t": 32},
        },
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 0.972, "yref": "container", "yanchor": "top", "itemsizing": "constant"},
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": look.PAPER, "bordercolor": look.SOFT_INK, "font": {"size": 12, "color": look.INK}, "align": "left"},
        "xaxis": _axis(data.canvas.x),
        "yaxis": _axis(data.canvas.y),
    }


def _axis(axis: Axis) -> dict[str, object]:
    ends = [math.log10(axis.low), math.log10(axis.high)] if axis.log else [axis.low, axis.high]
    return {
        "type": "log" if axis.log else "linear",
        "range": ends,
        "title": {"text": html.escape(axis.label), "standoff": 14, "font": {"size": look.TEXT_PX + 1}},
        "tickvals": list(axis.ticks),
        "ticktext": list(axis.tick_texts),
        "tickfont": {"size": look.SMALL_PX, "color": look.SOFT_INK},
        "gridcolor": look.GRID,
        "zeroline": False,
        "linecolor": look.SOFT_INK,
        "ticks": "outside",
        "tickcolor": look.SOFT_INK,
        "ticklen": 4,
    }


def _annotations(data: FrontierData) -> list[dict[str, object]]:
    at = (lambda x: math.log10(x)) if data.canvas.x.log else (lambda x: x)
    rows: list[dict[str, object]] = [
        {
            "x": at(bound),
            "xref": "x",
            "y": 1,
            "yref": "paper",
            "yanchor": "bottom",
            "yshift": 3 + look.ROW_PX * row,
            "text": html.escape(text),
            "showarrow": False,
            "font": {"size": look.SMALL_PX, "color": look.SOFT_INK},
        }
        for text, bound, row in data.budgets
    ]
    for labels, colour in ((data.reference_labels, look.GREEN), (data.chosen_labels, look.VERMILION)):
        rows += [_annotation(label, at(label.anchor[0]), colour) for label in labels]
    return rows


def _annotation(label: Label, x: float, colour: str) -> dict[str, object]:
    head, *rest = map(html.escape, label.lines)
    size = look.NAME_PX if rest else look.TEXT_PX
    text = f'<b><span style="color:{colour};font-size:{size}px">{head}</span></b>' + "".join(
        f'<br><span style="font-size:{look.SMALL_PX}px">{line}</span>' for line in rest
    )
    return {
        "x": x,
        "y": label.anchor[1],
        "text": text,
        "ax": label.offset[0],
        "ay": label.offset[1],
        "arrowcolor": colour if label.tail else "rgba(0, 0, 0, 0)",
        "arrowwidth": 1,
        "arrowhead": 0,
        "standoff": 9,
        "bgcolor": "rgba(255, 255, 255, 0.85)",
        "borderpad": 2,
        "font": {"size": look.TEXT_PX, "color": look.INK},
    }
