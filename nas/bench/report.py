"""Layout of a bench's image, shared by all renderers: latency to the right, mAP upwards, one panel per kind of mAP."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from nas.bench.results import ACCURACY_KINDS, PUBLISHED, Accuracy, BenchEntry, BenchResult
from nas.core.atomic import atomic_write
from nas.core.budgets import BudgetRequest, ReferenceBound
from nas.core.estimate import Estimate, Objective
from nas.core.units import change_of_map, number, quantity
from nas.plotting import canvas as look
from nas.plotting.canvas import Axis, Canvas, cost_axis, gain_axis
from nas.plotting.labels import XY
from nas.plotting.marks import BudgetLine, Label, Point, budget_lines, edge, obstacles, placed, steps
from search_spaces.references import FAMILIES
from search_spaces.text import counted, json_text

LATENCY = Objective("latency_ms", "min", "ms")

# Families of references by their place in the registry, so that one has the same colour and shape in every bench; own
# models in vermilion first.
COLOURS = (
    *("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#332288", "#999933", "#882255", "#117733", "#6B7280"),
    *("#44AA99", "#AA4499"),
)
OWN_COLOURS = (look.VERMILION, "#7A3E00", "#B8860B", "#8B1A1A")
SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "triangle-down",
    "pentagon",
    "hexagon",
    "triangle-left",
    "triangle-right",
    "star",
)

LEGEND_PX, HEADING_PX, GAP_PX = 24, 26, 62
SINGLE_PX, FIRST_PX, OTHER_PX, EMPTY_PX = 560, 480, 240, 150
LEGEND_COLUMNS = 8

# Degrees to try for a short label, best first.
_AROUND = (135, 90, 45, 180, 0, -45, -90, -135, 160, 20, 110, 70)
_ABOVE = (90, 75, 105, 60, 120, 45, 135)


@dataclass(frozen=True)
class Family:
    """The style of a family: its colour, and its shape by plotly's name."""

    name: str
    colour: str
    shape: str


@dataclass(frozen=True)
class Series:
    """The members of a family on one panel by rising latency."""

    family: Family
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Panel:
    """Models whose mAP is of one kind and data set.

    Attributes:
        heading: the kind and the data set.
        hollow: the mAP is the authors' and was not measured here.
        canvas: the axes, and the place on the image.
        series: the models, by family.
        front: staircase of the Pareto front.
        ticks: models without a known mAP, on the latency axis.
        labels: with their colours.
    """

    heading: str
    hollow: bool
    canvas: Canvas
    series: tuple[Series, ...]
    front: tuple[XY, ...]
    ticks: tuple[tuple[Point, Family], ...]
    labels: tuple[tuple[Label, str], ...]


@dataclass(frozen=True)
class BenchData:
    """What the renderers draw: panels from top to bottom over one latency axis."""

    title: str
    subtitle: tuple[str, ...]
    height: int
    legend_top: int
    legend_columns: int
    panels: tuple[Panel, ...]
    budgets: tuple[BudgetLine, ...]
    families: tuple[Family, ...]

    def heading_px(self, panel: Panel) -> int:
        """Return the distance of a heading above its panel, pixels; the first leaves room for the budgets' texts."""
        rows = 1 + max((row for *_, row in self.budgets), default=-1) if panel is self.panels[0] else 0
        return 10 + look.ROW_PX * rows


def bench_data(
    bench: BenchResult, wanted: BudgetRequest | None = None, log_x: bool = True, title: str | None = None
) -> BenchData:
    """Lay out the image of the bench's first target.

    Args:
        bench: what is shown.
        wanted: budgets to draw; one that refers to a model is drawn at that model's latency.
        log_x: logarithmic latency axis.
        title: heading, by default models and target.
    """
    measured = [e for e in bench.main.values() if e.latency is not None]
    families = _families(measured)
    bounds = _bounds(wanted, bench)
    subtitle = _subtitle(bench, measured)
    x = _latency_axis(measured, [bound for _, bound in bounds], bench.settings.targets[0], log_x)
    lines = budget_lines(bounds, Canvas(x, Axis("", 0, 1, ())), "ms")
    legend_top = 64 + 19 * len(subtitle) + 12
    top = legend_top + LEGEND_PX * -(-(len(families) + 1) // LEGEND_COLUMNS) + HEADING_PX + 8
    top += look.ROW_PX * (1 + max((row for *_, row in lines), default=-1))
    panels = _panels(measured, bench, families, x, top, [bound for _, bound in bounds])
    return BenchData(
        title=title or f"{len(measured)} models on {bench.settings.targets[0]}",
        subtitle=subtitle,
        height=panels[-1].canvas.bottom + look.BOTTOM,
        legend_top=legend_top,
        legend_columns=LEGEND_COLUMNS,
        panels=panels,
        budgets=lines,
        families=tuple(families.values()),
    )


def write_bench(folder: Path, bench: BenchResult, data: BenchData) -> list[Path]:
    """Write ``bench.json``, ``bench.csv``, ``bench.md``, ``bench.html`` and ``bench.png``; return their paths."""
    from nas.bench.report_html import write_bench_html
    from nas.bench.report_png import write_bench_png
    from nas.bench.report_tables import bench_csv, bench_markdown, bench_notes, bench_table

    return [
        atomic_write(folder / "bench.json", json_text(bench.to_dict(), indent=2, allow_nan=True) + "\n"),
        atomic_write(folder / "bench.csv", bench_csv(bench)),
        atomic_write(folder / "bench.md", bench_markdown(bench)),
        write_bench_html(folder / "bench.html", data, bench_table(bench), bench_notes(bench)),
        write_bench_png(folder / "bench.png", data),
    ]


def short_name(name: str, family: str) -> str:
    """Return a name without its family: ``n`` for ``yolov8n`` of YOLOv8; the whole name if nothing is left."""
    rest = name[len(family) :] if name.casefold().startswith(family.casefold()) else name
    return rest.lstrip("-_/") or name


def _families(entries: Sequence[BenchEntry]) -> dict[str, Family]:
    """Own families first, references in the order of the registry."""
    known = list(FAMILIES)
    there = list(dict.fromkeys(e.model.family for e in entries))
    own = [name for name in there if name not in known]
    found = {
        name: Family(name, OWN_COLOURS[i % len(OWN_COLOURS)], SHAPES[i % len(SHAPES)]) for i, name in enumerate(own)
    }
    return found | {
        name: Family(name, COLOURS[i % len(COLOURS)], SHAPES[i % len(SHAPES)])
        for i, name in enumerate(known)
        if name in there
    }


def _scales(entries: Sequence[BenchEntry]) -> list[tuple[str, str]]:
    """Kinds and data sets of the mAP that are there, the one of most models first."""
    found = [e.model.accuracy.scale for e in entries if e.model.accuracy]
    return sorted(dict.fromkeys(found), key=lambda scale: -found.count(scale))


def _bounds(wanted: BudgetRequest | None, bench: BenchResult) -> list[tuple[str, float]]:
    """Budgets in ms, smallest first; one like a model that could not be measured is left out."""
    found = []
    for name, bound in wanted.entries if wanted else ():
        if not isinstance(bound, ReferenceBound):
            found.append((name, bound))
        elif latency := bench.main[bound.reference].latency:
            found.append((f"{name} ({bound.reference})", latency.value))
    return sorted(found, key=lambda item: item[1])


def _subtitle(bench: BenchResult, measured: Sequence[BenchEntry]) -> tuple[str, ...]:
    device, settings = bench.machine.get("device", {}), bench.settings
    sizes = sorted({e.model.network.image_size for e in measured})
    classes = sorted({e.model.network.classes for e in measured})
    parts = [
        str(device.get("accelerator") or device.get("cpu") or ""),
        f"{settings.targets[0].partition(':')[0]} {bench.machine.get('runtime', '')}".strip(),
        f"{', '.join(map(str, sizes))} px",
        f"{', '.join(map(str, classes[:-1]))}, {counted(classes[-1], 'class', 'classes')}".removeprefix(", "),
        f"{counted(settings.rounds, 'round')}, 95 % intervals",
    ]
    return tuple(textwrap.wrap("  ·  ".join(part for part in parts if part), 150, max_lines=2, placeholder=" …"))


def _latency_axis(entries: Sequence[BenchEntry], bounds: Sequence[float], target: str, log: bool) -> Axis:
    latencies = [e.latency for e in entries if e.latency is not None]
    ends = [end for latency in latencies for end in (latency.low, latency.high) if end is not None]
    axis = cost_axis(LATENCY, [latency.value for latency in latencies], bounds, ends, log)
    return replace(axis, label=axis.label.replace("(ms)", f"(ms) on {target}"))


def _map_axis(members: Sequence[BenchEntry]) -> Axis:
    accuracies = [e.model.accuracy for e in members if e.model.accuracy]
    if not accuracies:
        return Axis("", 0, 1, ())
    name = "Published mAP 50–95" if accuracies[0].kind == PUBLISHED else f"mAP 50–95 on {accuracies[0].data}"
    values = [value for a in accuracies for value in (a.share, *(a.share_interval or ()))]
    return gain_axis(Objective(name.replace(":", " "), "max"), values)


def _panels(
    measured: Sequence[BenchEntry],
    bench: BenchResult,
    families: Mapping[str, Family],
    x: Axis,
    top: int,
    bounds: Sequence[float],
) -> tuple[Panel, ...]:
    """One below the other from ``top`` on, one for each kind and data set of mAP; one without any where no mAP is
    known at all."""
    scales = _scales(measured)
    others = [e for e in measured if e.model.accuracy is None]
    panels = []
    for i, scale in enumerate(scales or [None]):
        height = EMPTY_PX if scale is None else SINGLE_PX if len(scales) == 1 else OTHER_PX if i else FIRST_PX
        members = [e for e in measured if e.model.accuracy and e.model.accuracy.scale == scale]
        canvas = Canvas(x, _map_axis(members), top, top + height)
        panels.append(_panel(canvas, members, others if i >= len(scales) - 1 else [], bench, families, bounds))
        top += height + GAP_PX
    return tuple(panels)


def _panel(
    canvas: Canvas,
    members: Sequence[BenchEntry],
    others: Sequence[BenchEntry],
    bench: BenchResult,
    families: Mapping[str, Family],
    bounds: Sequence[float],
) -> Panel:
    """The ``members``, all of one kind of mAP, and ticks for the ``others``."""
    points = {e.model.name: _point(e, bench, e.model.accuracy.share) for e in members if e.model.accuracy}
    ticks = {e.model.name: _point(e, bench, canvas.y.low) for e in others}
    series = _series(members, points, families)
    occupied = obstacles(canvas, list(points.values()), list(points.values()), bounds)
    front = steps(edge(list(points.values())), canvas) if points else ()
    lines = [*([(p.x, p.y) for p in s.points] for s in series), front]
    occupied += [at for line in lines for a, b in pairwise(line) for at in _between(canvas, a, b)]
    drawn = {**points, **ticks}
    texts = [
        (families[e.model.family].colour, (short_name(e.model.name, e.model.family),), drawn[e.model.name])
        for e in (*members, *others)
    ]
    angles = [_AROUND] * len(members) + [_ABOVE] * len(others)
    labels = placed(canvas, [(lines, (p.x, p.y)) for _, lines, p in texts], angles, occupied, gap=12)
    marked = tuple((ticks[e.model.name], families[e.model.family]) for e in others)
    coloured = tuple((label, colour) for label, (colour, *_) in zip(labels, texts, strict=True))
    first = next((e.model.accuracy for e in members), None)
    return Panel(
        _heading(first), first is not None and first.kind == PUBLISHED, canvas, series, front, marked, coloured
    )


def _heading(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return "No mAP is known of these models"
    hollow = " (hollow)" if accuracy.kind == PUBLISHED else ""
    return f"mAP 50–95 on {accuracy.data}, {ACCURACY_KINDS[accuracy.kind]}{hollow}"


def _series(
    members: Sequence[BenchEntry], points: Mapping[str, Point], families: Mapping[str, Family]
) -> tuple[Series, ...]:
    found = []
    for family in families.values():
        own = sorted(
            (points[e.model.name] for e in members if e.model.family == family.name), key=lambda p: (p.x, p.id)
        )
        found += [Series(family, tuple(own))] if own else []
    return tuple(found)


def _between(canvas: Canvas, a: XY, b: XY) -> list[XY]:
    """Pixels on the line from one point to another, ends left out."""
    (x0, y0), (x1, y1) = canvas.pixel(*a), canvas.pixel(*b)
    count = max(2, round(math.hypot(x1 - x0, y1 - y0) / 12))
    return [(x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count) for i in range(1, count)]


def _point(entry: BenchEntry, bench: BenchResult, y: float) -> Point:
    model, latency, accuracy = entry.model, entry.latency, entry.model.accuracy
    assert latency is not None
    ratio, drop = bench.speed_ups().get(model.name), bench.drops.get(model.name)
    size = f"{model.network.image_size} px, {counted(model.network.classes, 'class', 'classes')}"
    lines = [
        f"Latency: {quantity(latency)}, {counted(len(entry.measured), 'round')}, {entry.verdict}",
        _accuracy_line(accuracy),
        *([f"source: {accuracy.source}"] if accuracy else []),
        f"{number(model.params)} parameters, {number(model.macs)} MACs, {size}",
        *([f"int8: {quantity(ratio)} as fast"] if ratio else []),
        *([f"int8: {change_of_map(drop.points)} of mAP"] if drop else []),
        model.family,
    ]
    interval = accuracy.share_interval if accuracy else None
    return Point(model.name, latency.value, y, _interval(latency), interval, tuple(lines))


def _accuracy_line(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return "mAP unknown"
    return f"mAP 50–95: {accuracy.text} on {accuracy.data}, {ACCURACY_KINDS[accuracy.kind]}"


def _interval(latency: Estimate) -> XY | None:
    return None if latency.low is None or latency.high is None else (latency.low, latency.high)
