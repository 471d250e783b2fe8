"""The front of a selective quantization as a image: accuracy over latency between all int8 and all float, in the
frontier's form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nas.core.estimate import Estimate, Objective
from nas.core.units import number, quantity
from nas.plotting.canvas import Canvas, cost_axis, gain_axis
from nas.plotting.frontier import FrontierData
from nas.plotting.marks import ABOVE, BELOW, Label, Point, edge, obstacles, placed, steps

if TYPE_CHECKING:
    from nas.quantization.block_selection import SelectionPoint as Selected

FLOAT = "all float"


def selective_data(
    name: str,
    target: str,
    data: str,
    points: Sequence[Selected],
    front: Sequence[Selected],
    named: Mapping[str, Selected],
    chosen: Selected | None,
    whole: tuple[float, Estimate],
) -> FrontierData:
    """``points`` are all sets that were measured, ``front`` those that no other beats, ``whole`` the float model's
    mAP and latency.

    Only the members of the front and the named were timed side by side; the others' latencies are of one measurement
    each.
    """
    drawn = {p.left_float: _point(p, whole[0]) for p in (*points, *front)}
    best = [drawn[p.left_float] for p in front]
    references = [(label, p.latency.value, p.map) for label, p in named.items()] + [(FLOAT, whole[1].value, whole[0])]
    picks = () if chosen is None else (("chosen", drawn[chosen.left_float]),)
    xs, ys = [p.x for p in drawn.values()], [p.y for p in drawn.values()]
    ends = [end for p in best for end in p.x_interval or ()]
    cost, gain = Objective("latency_ms", "min", "ms"), Objective("map", "max", "")
    canvas = Canvas(
        cost_axis(cost, xs, [x for _, x, _ in references], ends, None),
        gain_axis(gain, [*ys, *(y for *_, y in references)]),
    )
    texts = [((label, f"{number(p.x)} ms  ·  {number(p.y)}"), (p.x, p.y)) for label, p in picks] + [
        ((n,), (x, y)) for n, x, y in references
    ]
    occupied = obstacles(canvas, list(drawn.values()), best, [])
    labels: tuple[Label, ...] = placed(canvas, texts, [ABOVE] * len(picks) + [BELOW] * len(references), occupied)
    return FrontierData(
        title="Selective quantization",
        subtitle=(
            f"{name}  ·  target {target}  ·  data {data}  ·  {len(drawn):,} sets of float blocks measured, {len(best):,} on the front",
        ),
        canvas=canvas,
        candidates=tuple(drawn.values()),
        front=tuple(best),
        chosen=picks,
        references=tuple(references),
        steps=steps(edge(best or list(drawn.values())), canvas),
        budgets=(),
        chosen_labels=labels[: len(picks)],
        reference_labels=labels[len(picks) :],
    )


def _point(p: Selected, float_map: float) -> Point:
    interval = None if p.latency.low is None or p.latency.high is None else (p.latency.low, p.latency.high)
    left = sorted(p.left_float)
    lines = [
        f"latency {quantity(p.latency)}",
        f"mAP {p.map:.4f}, {100 * (float_map - p.map):+.2f} points lost",
        f"{len(left)} blocks float",
    ]
    return Point(
        ", ".join(left[:3]) + (" …" if len(left) > 3 else ""), p.latency.value, p.map, interval, None, (*lines, *left)
    )
