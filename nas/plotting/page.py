"""A page with a plotly figure: what all interactive plots share. Plotly's script is in the page (about 5 MB): it
opens without a network."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from nas.core.atomic import atomic_write
from nas.plotting import canvas as look
from nas.plotting.canvas import Axis, Canvas
from nas.plotting.labels import XY

if TYPE_CHECKING:
    from nas.plotting.marks import BudgetLine, Label, Point

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>html, body {{ margin: 0; height: 100%; background: {paper}; }} #{id} {{ min-width: 1000px; min-height: 640px; }}</style>
</head>
<body>
{plot}
</body>
</html>
"""


def write_page(path: str | os.PathLike[str], figure: go.Figure, title: str, height: int | None = None) -> Path:
    """Write the page, whole or not at all; the figure is as wide as the window and ``height`` pixels high (default:
    as the window)."""
    name = Path(path).stem
    plot = figure.to_html(
        include_plotlyjs=True,
        full_html=False,
        default_height=f"{height}px" if height else "100vh",
        div_id=name,
        config={
            "displaylogo": False,
            "responsive": True,
            "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"],
            "toImageButtonOptions": {"filename": name, "scale": 2},
        },
    )
    return atomic_write(path, _PAGE.format(title=html.escape(title), paper=look.PAPER, plot=plot, id=name))


def layout(title: str, subtitle: Sequence[str], top: int) -> dict[str, Any]:
    """Everything but the axes: paper, fonts, heading, legend; the plot begins ``top`` pixels below the upper edge."""
    below = "<br>".join(
        f'<span style="font-size:{look.SUBTITLE_PX}px;color:{look.SOFT_INK}">{html.escape(line)}</span>'
        for line in subtitle
    )
    return {
        "template": "none",
        "font": {"family": ", ".join([*look.FONTS, "sans-serif"]), "size": look.TEXT_PX, "color": look.INK},
        "paper_bgcolor": look.PAPER,
        "plot_bgcolor": look.PAPER,
        "margin": {"l": look.LEFT, "r": look.RIGHT, "t": top, "b": look.BOTTOM, "autoexpand": False},
        "title": {
            "text": f"<b>{html.escape(title)}</b><br>{below}",
            "font": {"size": look.TITLE_PX, "color": look.INK},
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"l": look.LEFT, "t": 32},
        },
        "legend": {
            "orientation": "h",
            "x": 1,
            "xanchor": "right",
            "y": 0.972,
            "yref": "container",
            "yanchor": "top",
            "itemsizing": "constant",
        },
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": look.PAPER,
            "bordercolor": look.SOFT_INK,
            "font": {"size": 12, "color": look.INK},
            "align": "left",
        },
    }


def axis(axis: Axis) -> dict[str, Any]:
    """An axis of the layout."""
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


def markers(
    title: str,
    points: Sequence[Point],
    marker: dict[str, Any],
    names: Sequence[str] = (),
    bars: str | None = None,
    **more: Any,
) -> go.Scatter:
    """Points with what they tell when the mouse is over them; ``bars`` is the colour of their 95 % intervals, if they
    are drawn."""
    heads = names or [""] * len(points)
    texts = [
        f"<b>{html.escape(f'{head}  {p.id}'.strip())}</b><br>{'<br>'.join(map(html.escape, p.hover))}"
        for head, p in zip(heads, points, strict=True)
    ]
    errors = (
        {
            "error_x": _bars([(p.x, p.x_interval) for p in points], bars),
            "error_y": _bars([(p.y, p.y_interval) for p in points], bars),
        }
        if bars
        else {}
    )
    given = {
        "mode": "markers",
        "name": title,
        "marker": marker,
        "hovertext": texts,
        "hoverinfo": "text",
        **errors,
        **more,
    }
    return go.Scatter(x=[p.x for p in points], y=[p.y for p in points], **given)


def _bars(values: Sequence[tuple[float, XY | None]], colour: str) -> dict[str, object]:
    above = [max(0.0, interval[1] - value) if interval else 0.0 for value, interval in values]
    below = [max(0.0, value - interval[0]) if interval else 0.0 for value, interval in values]
    return {
        "type": "data",
        "symmetric": False,
        "array": above,
        "arrayminus": below,
        "color": colour,
        "thickness": 1.2,
        "width": 2.5,
    }


def line(points: Sequence[XY], style: dict[str, Any], **more: Any) -> go.Scatter:
    """A line that says nothing of itself."""
    given = {"mode": "lines", "line": style, "hoverinfo": "skip", "showlegend": False, **more}
    return go.Scatter(x=[x for x, _ in points], y=[y for _, y in points], **given)


def upright(bound: float, canvas: Canvas, **more: Any) -> go.Scatter:
    """The line of a budget."""
    return line(
        [(bound, canvas.y.low), (bound, canvas.y.high)], {"color": look.SOFT_INK, "width": 1, "dash": "6px,4px"}, **more
    )


def budget_text(canvas: Canvas, budget: BudgetLine) -> dict[str, Any]:
    """The text above the line of a budget."""
    text, bound, row = budget
    return {
        "x": _at(canvas, bound),
        "xref": "x",
        "y": 1,
        "yref": "paper",
        "yanchor": "bottom",
        "yshift": 3 + look.ROW_PX * row,
        "text": html.escape(text),
        "showarrow": False,
        "font": {"size": look.SMALL_PX, "color": look.SOFT_INK},
    }


def annotation(canvas: Canvas, label: Label, colour: str, **more: Any) -> dict[str, Any]:
    """A label beside its point."""
    head, *rest = map(html.escape, label.lines)
    size = look.NAME_PX if rest else look.TEXT_PX
    text = f'<b><span style="color:{colour};font-size:{size}px">{head}</span></b>' + "".join(
        f'<br><span style="font-size:{look.SMALL_PX}px">{one}</span>' for one in rest
    )
    return {
        "x": _at(canvas, label.anchor[0]),
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
        **more,
    }


def _at(canvas: Canvas, x: float) -> float:
    """Where plotly looks for a value on an axis."""
    return math.log10(x) if canvas.x.log else x
