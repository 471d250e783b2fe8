"""The efficiency frontier as one value: everything that is drawn, worked out once, so that the HTML and the PNG cannot differ."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nas.estimate import Candidate, Estimate, Objective
from nas.report.canvas import HEIGHT, LINE_PX, NAME_PX, ROW_PX, SMALL_PX, TEXT_PX, TOP, Canvas, cost_axis, gain_axis
from nas.report.labels import XY, Box, place, text_size
from nas.report.quantities import compact, label, number, quantity
from nas.selection import Selection
from search_spaces.errors import InputError

Reference = tuple[str, float, float]


@dataclass(frozen=True)
class Point:
    """A candidate on the plot: x is the cost, y the gain, both with their 95 % interval where known; ``hover`` tells the rest, line by line."""

    id: str
    x: float
    y: float
    x_interval: XY | None
    y_interval: XY | None
    hover: tuple[str, ...]


@dataclass(frozen=True)
class Label:
    """Text of one or two lines beside a point: centre of its box in pixels, relative to the point, y downwards."""

    lines: tuple[str, ...]
    anchor: XY
    offset: XY
    size: XY

    @property
    def tail(self) -> XY | None:
        """The point of the box nearest to the anchor, relative to it, where a leader line ends; ``None`` if the box is so near that it needs none."""
        tail = Box.around(self.offset, *self.size).nearest((0.0, 0.0))
        return tail if math.hypot(*tail) > 18 else None


@dataclass(frozen=True)
class FrontierData:
    """What both renderers draw. ``steps`` is the edge of what the front dominates; ``budgets`` are (text, cost, row of its label above the plot)."""

    title: str
    subtitle: tuple[str, ...]
    canvas: Canvas
    candidates: tuple[Point, ...]
    front: tuple[Point, ...]
    chosen: tuple[tuple[str, Point], ...]
    references: tuple[Reference, ...]
    steps: tuple[XY, ...]
    budgets: tuple[tuple[str, float, int], ...]
    chosen_labels: tuple[Label, ...]
    reference_labels: tuple[Label, ...]

    @property
    def ordinary(self) -> tuple[Point, ...]:
        """The candidates that are neither on the front nor chosen."""
        special = {point.id for point in self.front} | {point.id for _, point in self.chosen}
        return tuple(point for point in self.candidates if point.id not in special)


def frontier_data(
    candidates: Sequence[Candidate],
    cost: Objective,
    gain: Objective,
    *,
    front: Sequence[Candidate] | None = None,
    selection: Selection | None = None,
    references: Sequence[Reference] = (),
    target: str = "",
    data_set: str = "",
    hypervolume: float | None = None,
    log_x: bool | None = None,
    title: str = "Efficiency frontier",
) -> FrontierData:
    """Work out the plot of ``gain`` (to maximise) over ``cost`` (to minimise).

    ``front``: the highlighted ones, by default those of ``candidates`` that no other beats in these two. ``selection`` names its picks, at their
    newest numbers, and draws its budgets. ``references``: (name, cost, gain) of other networks. ``log_x``: by default if the costs differ by more
    than 8 times. Candidates that lack one of the two estimates are left out; none left is an error.
    """
    points = _all_points(candidates, cost, gain, selection)
    edge = _edge(list(points.values()))
    highlighted = edge if front is None else sorted((points[c.id] for c in front if c.id in points), key=lambda p: (p.x, p.y))
    picks = list(selection or ())
    chosen = tuple((pick.name, points[pick.candidate.id]) for pick in picks)
    bounds = [(pick.name, pick.budget) for pick in picks if pick.budget is not None]
    canvas = _canvas(cost, gain, list(points.values()), bounds, references, log_x)
    budgets = _budget_rows(bounds, canvas, cost.unit)
    canvas = replace(canvas, top=TOP + ROW_PX * max(0, max((row for *_, row in budgets), default=0) - 1))
    obstacles = _obstacles(canvas, list(points.values()), highlighted, [bound for _, bound in bounds])
    labels = _labels(
        canvas, [*_chosen_texts(chosen, cost.unit, gain.unit), *(((name,), (x, y)) for name, x, y in references)], len(chosen), obstacles
    )
    return FrontierData(
        title=title,
        subtitle=_subtitle(target, data_set, len(points), len(highlighted), hypervolume),
        canvas=canvas,
        candidates=tuple(points.values()),
        front=tuple(highlighted),
        chosen=chosen,
        references=tuple(references),
        steps=_steps(edge, canvas),
        budgets=budgets,
        chosen_labels=labels[: len(chosen)],
        reference_labels=labels[len(chosen) :],
    )


def write_frontier(folder: str | os.PathLike[str], data: FrontierData) -> tuple[Path, Path]:
    """Write ``frontier.html`` (plotly) and ``frontier.png`` (matplotlib) into ``folder``; gives the two paths."""
    from nas.report.frontier_html import write_html
    from nas.report.frontier_png import write_png

    return write_html(Path(folder) / "frontier.html", data), write_png(Path(folder) / "frontier.png", data)


def _all_points(candidates: Sequence[Candidate], cost: Objective, gain: Objective, selection: Selection | None) -> dict[str, Point]:
    if (cost.direction, gain.direction) != ("min", "max"):
        raise InputError(f"plot of {gain} over {cost}", "a cost to minimise and a gain to maximise")
    newest = {pick.candidate.id: pick.candidate for pick in selection or ()}
    shown = {c.id: c for c in candidates if cost.name in c and gain.name in c} | newest
    if not shown:
        raise InputError(f"no candidate with {cost.name} and {gain.name} to plot", "at least one", "run some trials first")
    return {c.id: _point(c, cost, gain) for c in shown.values()}


def _interval(estimate: Estimate) -> XY | None:
    return None if estimate.low is None or estimate.high is None else (estimate.low, estimate.high)


def _point(candidate: Candidate, cost: Objective, gain: Objective) -> Point:
    x, y = candidate[cost.name], candidate[gain.name]
    others = [e for e in candidate.estimates if e.name not in (cost.name, gain.name)]
    lines = [f"{label(e.name)}: {quantity(e)}" for e in (x, y, *others)]
    choices = textwrap.wrap("  ".join(f"{name}={value}" for name, value in candidate.architecture.choices), 64, break_long_words=False)
    trial = "" if candidate.trial is None else f"trial {candidate.trial} · "
    space = f"{trial}{candidate.architecture.space} version {candidate.architecture.version}"
    return Point(candidate.id, x.value, y.value, _interval(x), _interval(y), (*lines, space, *choices))


def _edge(points: Sequence[Point]) -> list[Point]:
    edge: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y, p.id)):
        if not edge or point.y > edge[-1].y:
            edge.append(point)
    return edge


def _steps(edge: Sequence[Point], canvas: Canvas) -> tuple[XY, ...]:
    corners: list[XY] = [(edge[0].x, canvas.y.low)]
    for point, after in zip(edge, [*(p.x for p in edge[1:]), canvas.x.high], strict=True):
        corners += [(point.x, point.y), (after, point.y)]
    return tuple(corners)


def _subtitle(target: str, data_set: str, count: int, on_front: int, hypervolume: float | None) -> tuple[str, ...]:
    parts = [f"target {target}" if target else "", f"data {data_set}" if data_set else ""]
    parts += [f"{count:,} candidate{'s' * (count != 1)}, {on_front:,} on the front"]
    parts += ["" if hypervolume is None else f"hypervolume {number(hypervolume)}"]
    return tuple(textwrap.wrap("  ·  ".join(part for part in parts if part), 150, max_lines=2, placeholder=" …"))


def _canvas(
    cost: Objective, gain: Objective, points: Sequence[Point], bounds: Sequence[tuple[str, float]], references: Sequence[Reference], log: bool | None
) -> Canvas:
    marks = [*(bound for _, bound in bounds), *(x for _, x, _ in references)]
    ends = [end for p in points for end in p.x_interval or ()]
    gains = [*(p.y for p in points), *(end for p in points for end in p.y_interval or ()), *(y for *_, y in references)]
    return Canvas(cost_axis(cost, [p.x for p in points], marks, ends, log), gain_axis(gain, gains))


def _budget_rows(bounds: Sequence[tuple[str, float]], canvas: Canvas, unit: str) -> tuple[tuple[str, float, int], ...]:
    """Text, cost and row (0 is next to the plot) of each budget: neighbours that would touch stand in different rows."""
    ends: list[float] = []
    rows = []
    for name, bound in bounds:
        text = f"{name} ≤ {compact(bound)} {unit}".rstrip()
        half, at = text_size(text, SMALL_PX)[0] / 2 + 6, canvas.pixel(bound, canvas.y.high)[0]
        row = next((i for i, end in enumerate(ends) if end <= at - half), len(ends))
        ends[row : row + 1] = [at + half]
        rows.append((text, bound, row))
    return tuple(rows)


def _chosen_texts(chosen: Sequence[tuple[str, Point]], cost_unit: str, gain_unit: str) -> list[tuple[tuple[str, ...], XY]]:
    """Lines and point of the label of each pick: its name, then its two numbers."""
    return [((name, f"{number(p.x)} {cost_unit}".rstrip() + f"  ·  {number(p.y)} {gain_unit}".rstrip()), (p.x, p.y)) for name, p in chosen]


def _obstacles(canvas: Canvas, points: Sequence[Point], front: Sequence[Point], bounds: Sequence[float]) -> list[XY]:
    """Pixels that labels had better not cover: candidates, interval bars and budget lines."""
    at = [canvas.pixel(p.x, p.y) for p in points]
    for p in front:
        (x0, x1), (y0, y1) = p.x_interval or (p.x, p.x), p.y_interval or (p.y, p.y)
        x0 = max(x0, canvas.x.low)
        at += [canvas.pixel(x0 + (x1 - x0) * t / 4, p.y) for t in range(5)] + [canvas.pixel(p.x, y0 + (y1 - y0) * t / 4) for t in range(5)]
    lines = {canvas.pixel(bound, canvas.y.low)[0] for bound in bounds}
    return at + [(x, float(y)) for x in lines for y in range(canvas.top, HEIGHT, 24)]


# Degrees to try, best first: the chosen above the front, where no candidate can be; references below it.
_ABOVE = (135, 160, 110, 180, 90, 45, 20, -45)
_BELOW = (-45, 0, -90, -135, 180, 45, 135, 90)


def _labels(canvas: Canvas, texts: Sequence[tuple[tuple[str, ...], XY]], above: int, obstacles: Sequence[XY]) -> tuple[Label, ...]:
    """The labels of points, the first ``above`` of them rather above their points, the others rather below."""
    anchors = [canvas.pixel(*point) for _, point in texts]
    sizes = [_label_size(lines) for lines, _ in texts]
    angles = [_ABOVE if i < above else _BELOW for i in range(len(texts))]
    edge = canvas.area
    area = Box(edge.left + 4, edge.top + 4, edge.right - 4, edge.bottom - 4)
    centres = place(anchors, sizes, obstacles, area, angles)
    offsets = [(x - ax, y - ay) for (x, y), (ax, ay) in zip(centres, anchors, strict=True)]
    return tuple(Label(lines, point, offset, size) for (lines, point), offset, size in zip(texts, offsets, sizes, strict=True))


def _label_size(lines: Sequence[str]) -> XY:
    head = text_size(lines[0], NAME_PX if len(lines) > 1 else TEXT_PX, bold=True)[0]
    return max([head, *(text_size(line, SMALL_PX)[0] for line in lines[1:])]) + 6, len(lines) * LINE_PX + 2.0
