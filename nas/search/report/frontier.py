"""The plot of a search as values: candidates, the front, the picks with their budgets, reference models."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nas.core.estimate import Candidate, Estimate, Objective
from nas.core.units import label, number, quantity
from nas.plotting.canvas import ROW_PX, TOP, Canvas, cost_axis, gain_axis
from nas.plotting.frontier import FrontierData, Reference
from nas.plotting.labels import XY
from nas.plotting.marks import (
    ABOVE,
    BELOW,
    Point,
    budget_lines,
    edge,
    obstacles,
    placed,
    steps,
)
from nas.search.selection import Pick, Selection
from search_spaces.errors import InputError


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
    """Work out the plot of a gain over a cost.

    Args:
        candidates: All candidates; those without one of the two estimates are left out.
        cost: Objective of the horizontal axis, minimised.
        gain: Objective of the vertical axis, maximised.
        front: Highlighted candidates; by default those that no other dominates in the two objectives.
        selection: Picks to name, with their budgets; their estimates replace those of ``candidates``.
        references: (name, cost, gain) of other networks.
        target, data_set, hypervolume: For the subtitle.
        log_x: Whether the cost axis is logarithmic; by default if the costs differ by more than 8 times.
        title: Heading.

    Raises InputError if no candidate is left, or the objectives have other directions.
    """
    points = _all_points(candidates, cost, gain, selection)
    undominated = edge(list(points.values()))
    highlighted = (
        undominated
        if front is None
        else sorted((points[c.id] for c in front if c.id in points), key=lambda p: (p.x, p.y))
    )
    picks = list(selection or ())
    chosen = _named(picks, points)
    bounds = [(pick.name, pick.budget) for pick in picks if pick.budget is not None]
    canvas = _canvas(cost, gain, list(points.values()), bounds, references, log_x)
    budgets = budget_lines(bounds, canvas, cost.unit)
    canvas = replace(canvas, top=TOP + ROW_PX * max(0, max((row for *_, row in budgets), default=0) - 1))
    occupied = obstacles(canvas, list(points.values()), highlighted, [bound for _, bound in bounds])
    texts = [*_chosen_texts(chosen, cost.unit, gain.unit), *(((name,), (x, y)) for name, x, y in references)]
    labels = placed(canvas, texts, [ABOVE] * len(chosen) + [BELOW] * len(references), occupied)
    return FrontierData(
        title=title,
        subtitle=_subtitle(
            target, data_set, len(points), len(highlighted), hypervolume, _origin(candidates, gain, picks)
        ),
        canvas=canvas,
        candidates=tuple(points.values()),
        front=tuple(highlighted),
        chosen=chosen,
        references=tuple(references),
        steps=steps(undominated, canvas),
        budgets=budgets,
        chosen_labels=labels[: len(chosen)],
        reference_labels=labels[len(chosen) :],
    )


def _named(picks: Sequence[Pick], points: Mapping[str, Point]) -> tuple[tuple[str, Point], ...]:
    """Return (names, point) of the picks; names that share a network stand together."""
    names: dict[str, list[str]] = {}
    for pick in picks:
        names.setdefault(pick.candidate.id, []).append(pick.name)
    return tuple((", ".join(own), points[id_]) for id_, own in names.items())


def _all_points(
    candidates: Sequence[Candidate], cost: Objective, gain: Objective, selection: Selection | None
) -> dict[str, Point]:
    if (cost.direction, gain.direction) != ("min", "max"):
        raise InputError(f"plot of {gain} over {cost}", "a cost to minimise and a gain to maximise")
    newest = {pick.candidate.id: pick.candidate for pick in selection or ()}
    shown = {c.id: c for c in candidates if cost.name in c and gain.name in c} | newest
    if not shown:
        raise InputError(
            f"no candidate with {cost.name} and {gain.name} to plot", "at least one", "run some trials first"
        )
    return {c.id: _point(c, cost, gain) for c in shown.values()}


def _interval(estimate: Estimate) -> XY | None:
    return None if estimate.low is None or estimate.high is None else (estimate.low, estimate.high)


def _point(candidate: Candidate, cost: Objective, gain: Objective) -> Point:
    x, y = candidate[cost.name], candidate[gain.name]
    others = [e for e in candidate.estimates if e.name not in (cost.name, gain.name)]
    lines = [f"{label(e.name)}: {quantity(e)}" for e in (x, y, *others)]
    choices = textwrap.wrap(
        "  ".join(f"{name}={value}" for name, value in candidate.architecture.choices), 64, break_long_words=False
    )
    trial = "" if candidate.trial is None else f"trial {candidate.trial} · "
    space = f"{trial}{candidate.architecture.space} version {candidate.architecture.version}"
    precision = candidate.precision or ""
    lines += [f"precision: {precision}"] if precision else []
    return Point(candidate.id, x.value, y.value, _interval(x), _interval(y), (*lines, space, *choices), precision)


def _origin(candidates: Sequence[Candidate], gain: Objective, picks: Sequence[Pick]) -> str:
    """Return whose accuracies are drawn, where some are the supernet's; an empty string if none is.

    The supernet's mAP, before a training of its own, is a prediction of what a candidate reaches.
    """
    newest = {c.id: c for c in candidates} | {pick.candidate.id: pick.candidate for pick in picks}
    sources = {c[gain.name].source for c in newest.values() if gain.name in c}
    if not gain.name.startswith("map") or "predicted" not in sources:
        return ""
    trained = [pick.name for pick in picks if pick.candidate[gain.name].source == "trained"]
    others = f", of {', '.join(trained)} that of trained weights" if trained else ", before training"
    return f"{label(gain.name)} is the supernet's{others}"


def _subtitle(
    target: str, data_set: str, count: int, on_front: int, hypervolume: float | None, origin: str
) -> tuple[str, ...]:
    parts = [f"target {target}" if target else "", f"data {data_set}" if data_set else ""]
    parts += [f"{count:,} candidate{'s' * (count != 1)}, {on_front:,} on the front"]
    parts += ["" if hypervolume is None else f"hypervolume {number(hypervolume)}", origin]
    return tuple(textwrap.wrap("  ·  ".join(part for part in parts if part), 150, max_lines=2, placeholder=" …"))


def _canvas(
    cost: Objective,
    gain: Objective,
    points: Sequence[Point],
    bounds: Sequence[tuple[str, float]],
    references: Sequence[Reference],
    log: bool | None,
) -> Canvas:
    marks = [*(bound for _, bound in bounds), *(x for _, x, _ in references)]
    ends = [end for p in points for end in p.x_interval or ()]
    gains = [*(p.y for p in points), *(end for p in points for end in p.y_interval or ()), *(y for *_, y in references)]
    return Canvas(cost_axis(cost, [p.x for p in points], marks, ends, log), gain_axis(gain, gains))


def _chosen_texts(
    chosen: Sequence[tuple[str, Point]], cost_unit: str, gain_unit: str
) -> list[tuple[tuple[str, ...], XY]]:
    """Return lines and point of the label of each pick: name, precision if it was a choice, and the two numbers."""
    return [
        (
            (
                f"{name} {p.precision}".strip(),
                f"{number(p.x)} {cost_unit}".rstrip() + f"  ·  {number(p.y)} {gain_unit}".rstrip(),
            ),
            (p.x, p.y),
        )
        for name, p in chosen
    ]
