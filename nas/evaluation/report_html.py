"""An evaluation as a page that opens without a network: numbers, classes, curves and confusions by plotly, and the
images beside it."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import plotly.graph_objects as go

from nas.core.atomic import atomic_write
from nas.evaluation.matching import RECALLS
from nas.evaluation.report_curves import SCORES, Curve
from nas.evaluation.report_tables import class_table, difference_text, interval_text
from nas.inference.draw import class_colour
from nas.plotting import canvas as look

if TYPE_CHECKING:
    from nas.evaluation.bootstrap import Difference
    from nas.evaluation.report import EvaluationResult
    from nas.evaluation.report_confusion import Confusion
    from nas.evaluation.report_images import Shown

_PLOT_PX = 560
"""About the width of a plot where two stand side by side."""
LISTED = 20
"""Classes in a legend, and with numbers in the confusion matrix; of more, the mouse tells."""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ margin: 0 auto; padding: 24px 32px 48px; max-width: 1500px; background: {paper}; color: {ink}; font: 14px/1.45 {fonts}; }}
h1 {{ font-size: 24px; margin: 8px 0 2px; }} h2 {{ font-size: 17px; margin: 40px 0 4px; }}
p {{ margin: 4px 0; color: {soft}; max-width: 1000px; }} .tiles {{ display: flex; flex-wrap: wrap; gap: 10px; margin: 18px 0 6px; }}
.tile {{ border: 1px solid {grid}; border-radius: 6px; padding: 8px 14px; min-width: 72px; }}
.tile b {{ display: block; font-size: 20px; }} .tile span {{ color: {soft}; font-size: 13px; }}
.scroll {{ overflow: auto; max-height: 560px; }} table {{ border-collapse: collapse; margin-top: 8px; }}
th, td {{ padding: 4px 14px 4px 0; text-align: right; white-space: nowrap; border-bottom: 1px solid {grid}; }}
th {{ position: sticky; top: 0; background: {paper}; }} th:first-child, td:first-child {{ text-align: left; }}
.plots {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(600px, 1fr)); gap: 12px; }} .plots > * {{ min-width: 0; overflow: hidden; }}
.images {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(560px, 1fr)); gap: 18px; margin-top: 10px; }}
figure {{ margin: 0; }} figure img {{ width: 100%; display: block; }} figcaption {{ color: {soft}; font-size: 13px; overflow-wrap: anywhere; }}
.right {{ color: #009E73; font-weight: 600; }} .wrong {{ color: #D55E00; font-weight: 600; }}
</style>
</head>
<body>
{body}
<script>addEventListener("load", () => dispatchEvent(new Event("resize")));</script>
</body>
</html>
"""


def write_report_html(
    path: str | os.PathLike[str],
    evaluation: EvaluationResult,
    shown: Sequence[Shown],
    against: tuple[str, Difference] | None = None,
) -> Path:
    """Write the page, whole or not at all."""
    fonts = ", ".join(f"'{font}'" for font in look.FONTS) + ", sans-serif"
    title = f"{evaluation.model} on {evaluation.dataset.name}"
    body = "\n".join(
        [_head(evaluation, title, against), _classes(evaluation), _plots(evaluation), _gallery(evaluation, shown)]
    )
    styles = {"paper": look.PAPER, "ink": look.INK, "soft": look.SOFT_INK, "grid": look.GRID, "fonts": fonts}
    return atomic_write(path, _PAGE.format(title=html.escape(title), body=body, **styles))


def _head(evaluation: EvaluationResult, title: str, against: tuple[str, Difference] | None) -> str:
    m, data = evaluation.metrics, evaluation.dataset
    named = (
        ("mAP50", m.map50),
        ("mAP75", m.map75),
        ("AP small", m.map_small),
        ("AP medium", m.map_medium),
        ("AP large", m.map_large),
    )
    numbers = [(name, _number(value)) for name, value in (*named, ("AR1", m.ar1), ("AR10", m.ar10), ("AR100", m.ar100))]
    tiles = [("mAP 50–95 (95 % interval)", interval_text(evaluation.interval)), *numbers]
    marked = sum(row.boxes for row in evaluation.rows)
    about = f"{len(data)} images of the {data.split} split, {marked} objects of {len(data.classes)} classes  ·  {evaluation.runtime}"
    lines = [f"<h1>{html.escape(title)}</h1>", f"<p>{html.escape(about)}</p>"]
    lines += [f"<p>{html.escape(difference_text(against[1], evaluation.model, against[0]))}</p>"] if against else []
    shown = "".join(f'<div class="tile"><b>{value}</b><span>{html.escape(name)}</span></div>' for name, value in tiles)
    return "\n".join([*lines, f'<div class="tiles">{shown}</div>'])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _classes(evaluation: EvaluationResult) -> str:
    table = class_table(evaluation.rows, best=True)
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.headers)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    note = "AP is the mean over IoU 0.50 to 0.95, small under 32², medium to 96², large from 96² px²; the best F1 and its score are at IoU 0.50."
    return f'<h2>Classes</h2><p>{note}</p><div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _plots(evaluation: EvaluationResult) -> str:
    curves = (*evaluation.curves, evaluation.mean)
    confusion = evaluation.confusion
    figures = [
        ("pr", curve_figure("Precision by recall, IoU 0.50", "recall", "precision", curves, RECALLS, "precision")),
        ("f1", f1_figure(evaluation)),
        ("confusion", confusion_figure(confusion, False)),
        ("confusion-shares", confusion_figure(confusion, True)),
    ]
    config = {
        "displaylogo": False,
        "responsive": True,
        "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"],
    }
    parts = [
        f"<div>{figure.to_html(include_plotlyjs=i == 0, full_html=False, div_id=name, config=config)}</div>"
        for i, (name, figure) in enumerate(figures)
    ]
    note = (
        f"The confusion matrix is at IoU {confusion.iou:.2f} and score {confusion.score:.3f}: a detection takes the object of its class that it covers best; "
        "what is left takes an object of another class. The last row is what was found where nothing is, the last column what was missed."
    )
    return f'<h2>Curves and confusions</h2><p>{html.escape(note)}</p><div class="plots">{"".join(parts)}</div>'


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
            "text": f"<b>{html.escape(title)}</b>",
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


def curve_figure(title: str, x: str, y: str, curves: Sequence[Curve], at: Any, field: str) -> go.Figure:
    """A thin line for each class, a thick one for the last curve, which is the mean of all; classes go on and off by
    the legend."""
    figure = go.Figure()
    for i, curve in enumerate(curves):
        mean = curve is curves[-1]
        colour = look.INK if mean else _colour(i)
        label = html.escape(curve.name)
        figure.add_trace(
            go.Scatter(
                x=at,
                y=getattr(curve, field),
                name=label,
                mode="lines",
                line={"color": colour, "width": 3 if mean else 1.4},
                opacity=1 if mean or len(curves) <= LISTED + 1 else 0.55,
                showlegend=mean or len(curves) <= LISTED + 1,
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
    """F1 by the score threshold; a dot on the best place of each class, a line on that of the mean."""
    curves, mean = evaluation.curves, evaluation.mean
    figure = curve_figure("F1 by score threshold, IoU 0.50", "score threshold", "F1", (*curves, mean), SCORES, "f1")
    dots = {"size": 7, "color": [_colour(i) for i in range(len(curves))], "line": {"color": look.PAPER, "width": 1}}
    texts = [f"{html.escape(c.name)}<br>best F1 {c.best_f1:.3f} at score {c.best_score:.3f}" for c in curves]
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
        text=f"mean is best at {mean.best_score:.3f}: {mean.best_f1:.3f}",
        showarrow=False,
        font={"size": 12, "color": look.SOFT_INK},
    )
    return figure


def confusion_figure(confusion: Confusion, shares: bool) -> go.Figure:
    """Counts, or shares of each row; the truth downwards, what it was found as to the right. Background stands apart
    by a line."""
    names = [html.escape(name) for name in confusion.names]
    values = confusion.shares if shares else confusion.counts
    few = len(names) <= LISTED + 1
    texts = [[f"{v:.2f}" if shares else str(v) for v in row] for row in values]
    figure = go.Figure(
        go.Heatmap(
            z=confusion.shares,  # counts are coloured by their share too, or one frequent class would hide all others
            x=list(range(len(names))),
            y=list(range(len(names))),
            text=[
                [text if v else "" for text, v in zip(line, row, strict=True)]
                for line, row in zip(texts, values, strict=True)
            ],
            texttemplate="%{text}" if few else None,
            customdata=[
                [(confusion.names[i], confusion.names[j], texts[i][j]) for j in range(len(names))]
                for i in range(len(names))
            ],
            hovertemplate="%{customdata[0]} found as %{customdata[1]}: %{customdata[2]}<extra></extra>",
            colorscale=[[0, "#FFFFFF"], [1, look.BLUE]],
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=1,
            ygap=1,
        )
    )
    size = max(520, min(1100, 26 * len(names) + 160))
    title = "Confusions, shares of each row" if shares else "Confusions, counts"
    figure.update_layout(**_layout(title, "found as", "truth", size))
    ticks = {
        "tickmode": "array",
        "tickvals": list(range(len(names))),
        "ticktext": names,
        "showgrid": False,
        "tickfont": {"size": 12 if few else 9},
    }
    room = _PLOT_PX / len(names)
    upright = 7 * (max(map(len, (*confusion.classes, "ground"))) + 1) < room
    across = {"ticktext": [*names[:-1], "back-<br>ground"] if upright else names, "showticklabels": room > 10}
    figure.update_xaxes(**{**ticks, **across}, tickangle=0 if upright else -60)
    figure.update_yaxes(**ticks, autorange="reversed")
    edge = len(names) - 1.5
    for line in (
        {"x0": edge, "x1": edge, "y0": -0.5, "y1": edge + 1},
        {"y0": edge, "y1": edge, "x0": -0.5, "x1": edge + 1},
    ):
        figure.add_shape(type="line", line={"color": look.SOFT_INK, "width": 1}, **line)
    return figure


def _gallery(evaluation: EvaluationResult, shown: Sequence[Shown]) -> str:
    score, iou = evaluation.confusion.score, evaluation.confusion.iou
    note = (
        "Left what is marked, right what was found"
        f' at score {score:.3f}. <span class="right">Right</span> and <span class="wrong">missed or false</span> at IoU {iou:.2f}; grey does not count.'
    )
    parts = []
    for heading, worst in (("The worst images", True), ("Images by chance", False)):
        if figures := "".join(_figure(one) for one in shown if one.worst is worst):
            parts.append(f'<h2>{heading}</h2><p>{note}</p><div class="images">{figures}</div>')
    return "\n".join(parts)


def _figure(one: Shown) -> str:
    where, name = quote(one.path.as_posix()), html.escape(one.name)
    said = f"{name}: F1 {one.f1:.2f}, {one.missed} missed, {one.false} false"
    return f'<figure><a href="{where}"><img src="{where}" loading="lazy" alt="{name}"></a><figcaption>{said}</figcaption></figure>'
