"""The curves of :mod:`benchmarks.search_quality`: one panel per problem, share of hypervolume that is still missing
against evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLOURS = {
    "guided": "#D55E00",
    "guided, latency known": "#E69F00",
    "guided, latency told": "#B8860B",
    "guided, bare": "#F0C27B",
    "greedy": "#0072B2",
    "greedy, free inputs": "#5B4B9A",
    "tpe": "#009E73",
    "gp": "#CC79A7",
    "nsga2": "#56B4E9",
    "random": "#9AA3AD",
}
"""Okabe and Ito's palette; ours are the warm ones."""
FLOOR = 1e-4
COLUMNS = 4


def missing(row: Mapping[str, Any]) -> tuple[list[int], list[float], list[float], list[float]]:
    """Evaluations, and 1 - share with the ends of its interval; on a logarithmic axis, so never below :data:`FLOOR`."""
    counts = [int(n) for n in row["shares"]]
    means = [s["mean"] for s in row["shares"].values()]
    widths = [s["half_width"] or 0.0 for s in row["shares"].values()]
    low, high = ([max(FLOOR, 1 - m + sign * w) for m, w in zip(means, widths, strict=True)] for sign in (-1, 1))
    return counts, [max(FLOOR, 1 - m) for m in means], low, high


def draw_png(figure: Mapping[str, Any], path: Path) -> None:
    """Small multiples with intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(figure) // COLUMNS)
    sheet = Figure(figsize=(4.2 * COLUMNS, 3.4 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(sheet)
    axes = sheet.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    for axis, (problem, methods) in zip(axes.flat, figure.items(), strict=False):
        for name, row in methods.items():
            counts, middle, low, high = missing(row)
            axis.plot(
                counts, middle, color=COLOURS[name], label=name, linewidth=2.2 if name.startswith("guided") else 1.3
            )
            axis.fill_between(counts, low, high, color=COLOURS[name], alpha=0.12, linewidth=0)
        axis.set_title(problem.replace(", ", "\n", 1), fontsize=9)
        axis.set_yscale("log")
        axis.set_ylim(FLOOR, 1)
        axis.grid(color="#E6EAEE")
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(figure) :]:
        axis.set_visible(False)
    sheet.supxlabel("evaluations", fontsize=10)
    sheet.supylabel("share of the true front's hypervolume still missing", fontsize=10)
    lines = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
    sheet.legend(lines.values(), lines.keys(), loc="outside upper center", ncols=len(lines), frameon=False)
    sheet.savefig(path, dpi=110)


def draw_html(figure: Mapping[str, Any], path: Path) -> None:
    """The same as a plotly page that needs no network: a menu of problems, values under the pointer."""
    import plotly.graph_objects as go

    page, shown = go.Figure(), list[str]()
    for problem, methods in figure.items():
        for name, row in methods.items():
            counts, middle, low, high = missing(row)
            spread = {"type": "data", "array": [h - m for h, m in zip(high, middle, strict=True)], "symmetric": False}
            spread["arrayminus"] = [m - a for a, m in zip(low, middle, strict=True)]
            page.add_scatter(
                x=counts,
                y=middle,
                name=name,
                error_y=spread,
                line={"color": COLOURS[name]},
                visible=not shown or shown[0] == problem,
            )
            shown.append(problem)
    buttons = [{"label": p, "method": "update", "args": [{"visible": [s == p for s in shown]}]} for p in figure]
    page.update_layout(
        template="plotly_white",
        updatemenus=[{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.12}],
        xaxis_title="evaluations",
    )
    page.update_yaxes(type="log", title="share of the true front's hypervolume still missing")
    page.write_html(path, include_plotlyjs=True)
