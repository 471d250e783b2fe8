"""HTML report of an evaluation: numbers, classes, curves, confusion matrix and images. It needs no network access."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup

from nas.core.atomic import atomic_write
from nas.core.units import share
from nas.evaluation.matching import RECALLS
from nas.evaluation.report_curves import Curve
from nas.evaluation.report_tables import class_table, difference_text, interval_text
from nas.inference.draw import class_colour
from nas.plotting import canvas as look
from nas.plotting.page import escaped, plot_html, render
from search_spaces.text import counted

if TYPE_CHECKING:
    from nas.evaluation.bootstrap import Difference
    from nas.evaluation.report import EvaluationResult
    from nas.evaluation.report_confusion import Confusion
    from nas.evaluation.report_images import Shown

_PLOT_PX = 560
"""Approximate width in pixels of one of two plots side by side."""
LISTED = 20
"""Most classes in a legend, and in a confusion matrix with numbers; more are shown when the mouse is over them."""
CurvePoints = Callable[["Curve"], tuple[Any, Any]]
"""x and y of a curve's points."""
TEMPLATE = Path(__file__).parent / "templates" / "evaluation.html"


def write_report_html(
    path: str | os.PathLike[str],
    evaluation: EvaluationResult,
    shown: Sequence[Shown],
    against: tuple[str, Difference] | None = None,
) -> Path:
    """Write the page, whole or not at all; ``against``: name of another model and the difference to it."""
    galleries = [
        (heading, figures)
        for heading, worst in (("The worst images", True), ("Other images, drawn at random", False))
        if (figures := [one for one in shown if one.worst is worst])
    ]
    content = render(
        TEMPLATE,
        title=f"{evaluation.model} on {evaluation.dataset.name}",
        about=_about(evaluation),
        comparison=difference_text(against[1], evaluation.model, against[0]) if against else "",
        tiles=_tiles(evaluation),
        classes=class_table(evaluation.rows, best=True),
        confusion=evaluation.confusion,
        plots=_plots(evaluation),
        galleries=galleries,
    )
    return atomic_write(path, content)


def _about(evaluation: EvaluationResult) -> str:
    data, marked = evaluation.dataset, sum(row.boxes for row in evaluation.rows)
    counts = f"{counted(len(data), 'image')} of the {data.split} split, {counted(marked, 'object')}"
    return f"{counts} of {counted(len(data.classes), 'class', 'classes')}  ·  {evaluation.runtime}"


def _tiles(evaluation: EvaluationResult) -> list[tuple[str, str]]:
    """Name and text of each number at the head of the page."""
    m = evaluation.metrics
    numbers = (
        *(("mAP50", m.map50), ("mAP75", m.map75)),
        *(("AP small", m.map_small), ("AP medium", m.map_medium), ("AP large", m.map_large)),
        *(("AR1", m.ar1), ("AR10", m.ar10), ("AR100", m.ar100)),
    )
    main = ("mAP 50–95 (95 % interval)", interval_text(evaluation.interval))
    return [main, *((name, share(value)) for name, value in numbers)]


def _plots(evaluation: EvaluationResult) -> list[Markup]:
    curves, confusion = (*evaluation.curves, evaluation.mean), evaluation.confusion
    figures = {
        "pr": curve_figure(
            "Precision by recall, IoU 0.50", ("recall", "precision"), curves, lambda c: (RECALLS, c.precision)
        ),
        "f1": f1_figure(evaluation),
        "confusion": confusion_figure(confusion, False),
        "confusion-shares": confusion_figure(confusion, True),
    }
    return [plot_html(figure, name, script=i == 0) for i, (name, figure) in enumerate(figures.items())]


def _layout(title: str, x: str, y: str, height: int = 520) -> dict[str, Any]:
    def axis(text: str) -> dict[str, Any]:
        shared = {"zeroline": False, "gridcolor": look.GRID, "linecolor": look.SOFT_INK, "automargin": True}
        return {
            "title": {"text": text, "standoff": 14},
            "tickfont": {"size": look.SMALL_PX, "color": look.SOFT_INK},
            **shared,
        }

    return {
        "template": "none",
        "font": {"family": ", ".join([*look.FONTS, "sans-serif"]), "size": look.SMALL_PX, "color": look.INK},
        "title": {
            "text": f"<b>{escaped(title)}</b>",
            "x": 0.02,
            "xanchor": "left",
            "font": {"size": look.TEXT_PX + 1},
        },
        "margin": {"l": 64, "r": 20, "t": 52, "b": 56},
        "height": height,
        "xaxis": axis(x),
        "yaxis": axis(y),
        "hovermode": "closest",
        "legend": {"font": {"size": 12}},
    }


def curve_figure(title: str, axes: tuple[str, str], curves: Sequence[Curve], points: CurvePoints) -> go.Figure:
    """Return a figure with a thin line per class and a thick one for the last curve, the mean of all.

    Args:
        title: Of the figure.
        axes: Names of x and y.
        curves: Of the classes, then the mean.
        points: x and y of a curve.
    """
    figure = go.Figure()
    x, y = axes
    few = len(curves) <= LISTED + 1
    for i, curve in enumerate(curves):
        mean = curve is curves[-1]
        label = escaped(curve.name)
        at, values = points(curve)
        figure.add_trace(
            go.Scatter(
                x=at,
                y=values,
                name=label,
                mode="lines",
                line={"color": look.INK if mean else _colour(i), "width": 3 if mean else 1.4},
                opacity=1 if mean or few else 0.55,
                showlegend=mean or few,
                hovertemplate=f"{label}<br>{x} %{{x:.3f}}, {y} %{{y:.3f}}<extra></extra>",
            )
        )
    figure.update_layout(**_layout(title, x, y))
    figure.update_xaxes(range=[0, 1.005])
    figure.update_yaxes(range=[0, 1.02])
    return figure


def _colour(label: int) -> str:
    """That of a class in images, darker: lines are on white."""
    red, green, blue = (round(0.78 * part) for part in class_colour(label))
    return f"rgb({red}, {green}, {blue})"


def f1_figure(evaluation: EvaluationResult) -> go.Figure:
    """Return F1 by score threshold, with a dot at the best threshold of each class and a line at that of the mean."""
    curves, mean = evaluation.curves, evaluation.mean
    axes = ("score threshold", "F1")
    figure = curve_figure("F1 by score threshold, IoU 0.50", axes, (*curves, mean), lambda c: (c.scores, c.f1))
    dots = {"size": 7, "color": [_colour(i) for i in range(len(curves))], "line": {"color": look.PAPER, "width": 1}}
    texts = [f"{escaped(c.name)}<br>best F1 {c.best_f1:.3f} at score {c.best_score:.3f}" for c in curves]
    place = {"x": [c.best_score for c in curves], "y": [c.best_f1 for c in curves]}
    figure.add_trace(
        go.Scatter(**place, mode="markers", marker=dots, hovertext=texts, hoverinfo="text", showlegend=False)
    )
    figure.add_vline(x=mean.best_score, line={"color": look.SOFT_INK, "width": 1, "dash": "6px,4px"})
    near_right = mean.best_score > 0.6
    figure.add_annotation(
        x=mean.best_score,
        y=1.0,
        yref="paper",
        yanchor="bottom",
        xanchor="right" if near_right else "left",
        text=f"best mean F1 {mean.best_f1:.3f} at {mean.best_score:.3f}",
        showarrow=False,
        font={"size": 12, "color": look.SOFT_INK},
    )
    return figure


def confusion_figure(confusion: Confusion, shares: bool) -> go.Figure:
    """Return the confusion matrix as counts, coloured by their logarithm, or as shares of each row.

    Rows are the classes of objects, columns those of detections; a line sets background apart.
    """
    names = [escaped(name) for name in confusion.names]
    few = len(names) <= LISTED + 1
    figure = go.Figure(_heatmap(confusion, names, shares, few))
    size = max(520, min(1100, 26 * len(names) + 160))
    title = "Confusion matrix, shares of each row" if shares else "Confusion matrix, counts"
    figure.update_layout(**_layout(title, "detected as", "object", size))
    ticks = {
        "tickmode": "array",
        "tickvals": list(range(len(names))),
        "ticktext": names,
        "showgrid": False,
        "tickfont": {"size": 12 if few else 9},
    }
    room = _PLOT_PX / len(names)
    upright = 7 * max(map(len, confusion.names)) < room
    figure.update_xaxes(**ticks, showticklabels=room > 10, tickangle=0 if upright else -60)
    figure.update_yaxes(**ticks, autorange="reversed")
    edge = len(names) - 1.5
    for line in (
        {"x0": edge, "x1": edge, "y0": -0.5, "y1": edge + 1},
        {"y0": edge, "y1": edge, "x0": -0.5, "x1": edge + 1},
    ):
        figure.add_shape(type="line", line={"color": look.SOFT_INK, "width": 1}, **line)
    return figure


def _heatmap(confusion: Confusion, names: Sequence[str], shares: bool, numbered: bool) -> go.Heatmap:
    values = confusion.shares if shares else confusion.counts
    # the logarithm: one frequent class would hide all others
    strength = confusion.shares if shares else np.log1p(values) / max(1e-9, float(np.log1p(values.max(initial=0))))
    texts = [[f"{v:.2f}" if shares else f"{v:,}" for v in row] for row in values]
    shown = [[text if v else "" for text, v in zip(*pair, strict=True)] for pair in zip(texts, values, strict=True)]
    places = list(range(len(names)))
    return go.Heatmap(
        z=strength,
        x=places,
        y=places,
        text=shown,
        texttemplate="%{text}" if numbered else None,
        customdata=[[(names[i], names[j], texts[i][j]) for j in places] for i in places],
        hovertemplate="%{customdata[0]} detected as %{customdata[1]}: %{customdata[2]}<extra></extra>",
        colorscale=[[0, "#FFFFFF"], [1, look.BLUE]],
        zmin=0,
        zmax=1,
        showscale=False,
        xgap=1,
        ygap=1,
    )
