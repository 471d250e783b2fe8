"""HTML pages by jinja2 templates, with plotly figures: what all interactive plots share.

Plotly's script (about 5 MB) is part of a page, which therefore opens without a network.
"""

from __future__ import annotations

import html
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup

from nas.core.atomic import atomic_write
from nas.core.text_table import TextTable
from nas.plotting import canvas as look
from nas.plotting.canvas import Axis, Canvas
from nas.plotting.labels import XY
from search_spaces.text import printable

if TYPE_CHECKING:
    from nas.plotting.marks import BudgetLine, Label, Point

TEMPLATES = Path(__file__).parent / "templates"

_CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"],
}


def render(template: Path, **values: Any) -> str:
    """Return the page that a jinja2 template gives for ``values``, which are escaped.

    A template finds others in its own folder and in :data:`TEMPLATES`. ``look`` (:mod:`nas.plotting.canvas`) and
    ``fonts`` are there for every template. Text from outside is made printable first
    (:func:`search_spaces.text.printable`), newlines are kept.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_safe_text,
    )
    fonts = Markup(", ".join(f"'{font}'" for font in look.FONTS) + ", sans-serif")
    return environment.get_template(template.name).render(look=look, fonts=fonts, **values)


def _safe_text(value: object) -> object:
    return printable(value, keep="\n\t") if isinstance(value, str) and not isinstance(value, Markup) else value


def escaped(text: str) -> str:
    """Return text from outside as it may stand in a label of plotly, which takes HTML without entities of quotes."""
    return html.escape(printable(text), quote=False)


def plot_html(figure: go.Figure, name: str, script: bool = True, height: str | None = None) -> Markup:
    """Return a figure as a part of a page; ``script``: with plotly itself, which one figure of a page must bring."""
    options = {"filename": name, "scale": 2}
    text = figure.to_html(
        include_plotlyjs=script,
        full_html=False,
        default_height=height or "100%",
        div_id=name,
        config={**_CONFIG, "toImageButtonOptions": options},
    )
    return Markup(text)


def write_page(
    path: str | os.PathLike[str],
    figure: go.Figure,
    title: str,
    height: int | None = None,
    table: TextTable | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write a page with one figure, whole or not at all.

    Args:
        path: The page.
        figure: As wide as the window.
        title: Of the page.
        height: Of the figure in pixels; by default that of the window.
        table: Below the figure, if given.
        notes: Lines below the table.
    """
    name = Path(path).stem
    plot = plot_html(figure, name, height=f"{height}px" if height else "100vh")
    page = render(TEMPLATES / "figure.html", title=title, name=name, plot=plot, table=table, notes=notes)
    return atomic_write(path, page)


def layout(title: str, subtitle: Sequence[str], top: int) -> dict[str, Any]:
    """Everything but the axes: paper, fonts, heading, legend; the plot begins ``top`` pixels below the upper edge."""
    below = "<br>".join(
        f'<span style="font-size:{look.SUBTITLE_PX}px;color:{look.SOFT_INK}">{escaped(line)}</span>'
        for line in subtitle
    )
    return {
        "template": "none",
        "font": {"family": ", ".join([*look.FONTS, "sans-serif"]), "size": look.TEXT_PX, "color": look.INK},
        "paper_bgcolor": look.PAPER,
        "plot_bgcolor": look.PAPER,
        "margin": {"l": look.LEFT, "r": look.RIGHT, "t": top, "b": look.BOTTOM, "autoexpand": False},
        "title": {
            "text": f"<b>{escaped(title)}</b><br>{below}",
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
        "title": {"text": escaped(axis.label), "standoff": 14, "font": {"size": look.TEXT_PX + 1}},
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
        f"<b>{escaped(f'{head}  {p.id}'.strip())}</b><br>{'<br>'.join(map(escaped, p.hover))}"
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
        "text": escaped(text),
        "showarrow": False,
        "font": {"size": look.SMALL_PX, "color": look.SOFT_INK},
    }


def annotation(canvas: Canvas, label: Label, colour: str, **more: Any) -> dict[str, Any]:
    """A label beside its point."""
    head, *rest = map(escaped, label.lines)
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
