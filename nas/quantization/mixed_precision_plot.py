"""The front of a selective quantization as an image: accuracy over latency, from all int8 to all float."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.core.estimate import Estimate, Objective
from nas.core.units import change_of_map, number, quantity, share
from nas.plotting.canvas import Canvas, cost_axis, gain_axis
from nas.plotting.frontier import FrontierData
from nas.plotting.marks import ABOVE, BELOW, Label, Point, edge, obstacles, placed, steps

if TYPE_CHECKING:
    from nas.quantization.block_selection import FloatBlocks, SelectionPoint

FLOAT = "all float"


@dataclass(frozen=True)
class SelectionPlot:
    """What the image shows.

    Attributes:
        name: of the network.
        target: at int8, as text.
        data: name of the data set.
        points: all measured sets, each timed by one measurement.
        front: the Pareto front, timed in interleaved rounds, as the named points.
        named: label -> point that gets a mark of its own.
        chosen: the chosen point, if any.
        float_map: mAP50-95 of the float model.
        float_latency: of the float model.
    """

    name: str
    target: str
    data: str
    points: Sequence[SelectionPoint]
    front: Sequence[SelectionPoint]
    named: Mapping[str, SelectionPoint]
    chosen: SelectionPoint | None
    float_map: float
    float_latency: Estimate


def selective_data(plot: SelectionPlot) -> FrontierData:
    """Lay out the image."""
    drawn = {p.kept_float: _point(p, plot.float_map) for p in (*plot.points, *plot.front)}
    front = [drawn[p.kept_float] for p in plot.front]
    references = [
        *((label, p.latency.value, p.map) for label, p in plot.named.items()),
        (FLOAT, plot.float_latency.value, plot.float_map),
    ]
    chosen = () if plot.chosen is None else (("chosen", drawn[plot.chosen.kept_float]),)
    canvas = _canvas(drawn, front, references)
    texts: list[tuple[tuple[str, ...], tuple[float, float]]] = [
        *(((label, f"{number(p.x)} ms  ·  {number(p.y)}"), (p.x, p.y)) for label, p in chosen),
        *(((name,), (x, y)) for name, x, y in references),
    ]
    occupied = obstacles(canvas, list(drawn.values()), front, [])
    angles = [ABOVE] * len(chosen) + [BELOW] * len(references)
    labels: tuple[Label, ...] = placed(canvas, texts, angles, occupied)
    counts = f"{len(drawn):,} sets of float blocks measured, {len(front):,} on the front"
    return FrontierData(
        title="Selective quantization",
        subtitle=(f"{plot.name}  ·  target {plot.target}  ·  data {plot.data}  ·  {counts}",),
        canvas=canvas,
        candidates=tuple(drawn.values()),
        front=tuple(front),
        chosen=chosen,
        references=tuple(references),
        steps=steps(edge(front or list(drawn.values())), canvas),
        budgets=(),
        chosen_labels=labels[: len(chosen)],
        reference_labels=labels[len(chosen) :],
    )


def _canvas(
    drawn: Mapping[FloatBlocks, Point], front: Sequence[Point], references: Sequence[tuple[str, float, float]]
) -> Canvas:
    ends = [end for p in front for end in p.x_interval or ()]
    cost, gain = Objective("latency_ms", "min", "ms"), Objective("map", "max", "")
    return Canvas(
        cost_axis(cost, [p.x for p in drawn.values()], [x for _, x, _ in references], ends, None),
        gain_axis(gain, [*(p.y for p in drawn.values()), *(y for *_, y in references)]),
    )


def _point(p: SelectionPoint, float_map: float) -> Point:
    interval = None if p.latency.low is None or p.latency.high is None else (p.latency.low, p.latency.high)
    kept = sorted(p.kept_float)
    lines = [
        f"latency {quantity(p.latency)}",
        f"mAP {share(p.map)}, {change_of_map(100 * (float_map - p.map))}",
        f"{len(kept)} blocks in floating point",
    ]
    title = ", ".join(kept[:3]) + (" …" if len(kept) > 3 else "")
    return Point(title, p.latency.value, p.map, interval, None, (*lines, *kept))
