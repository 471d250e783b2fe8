"""S, M and L of a front: within budgets, for goals, or spread over the front."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, combinations

from nas.core.budgets import Budgets
from nas.core.estimate import Candidate
from nas.core.units import label, quantity
from search_spaces.errors import InputError
from search_spaces.registry import unknown
from search_spaces.text import counted

USEFUL = 1 / 3
"""Without budgets the gain of the smallest pick is at least this share of the way from the lowest to the highest gain
of the front: the fastest useful candidate."""

Queues = Mapping[str, Sequence[Candidate]]
"""Candidates that a name may take, best first."""


@dataclass(frozen=True)
class Pick:
    """The candidate chosen under a name.

    Args:
        name: Name of the pick, for example S.
        candidate: The candidate.
        budget: Upper bound of the cost, in its unit; None without budgets.
        next: Alternatives, best first.
    """

    name: str
    candidate: Candidate
    budget: float | None = None
    next: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Replacement:
    """Why the candidate ``before`` lost a name to ``after`` (None: no candidate was left)."""

    name: str
    before: Candidate
    after: Candidate | None
    reason: str


@dataclass(frozen=True)
class Selection:
    """Picks from small to large.

    Args:
        picks: One per name that has a candidate. With budgets or goals, several names may have the same candidate;
            without, cost and gain strictly increase.
        cost, gain: Names of the two estimates.
        notes: Lines for the user: names without a candidate, names that share one.
        replaced: Picks that the second measurement changed.
        confirmed: Whether the picks were measured a second time.
        independent: Whether each name is chosen for itself (budgets or goals).
        remeasured: Every candidate that was measured a second time, with its new cost, by id.
    """

    picks: tuple[Pick, ...]
    cost: str
    gain: str
    notes: tuple[str, ...] = ()
    replaced: tuple[Replacement, ...] = ()
    confirmed: bool = False
    independent: bool = False
    remeasured: Mapping[str, Candidate] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Pick]:
        return iter(self.picks)

    def __len__(self) -> int:
        return len(self.picks)

    def __getitem__(self, name: str) -> Pick:
        """Return the pick of a name. Raises InputError for an unknown name."""
        for pick in self.picks:
            if pick.name == name:
                return pick
        raise unknown("pick", name, tuple(pick.name for pick in self.picks))


@dataclass(frozen=True)
class Scale:
    """Names of the estimates that count as cost (minimised) and gain (maximised)."""

    cost_name: str
    gain_name: str

    def cost(self, candidate: Candidate) -> float:
        """Return the cost of a candidate."""
        return candidate[self.cost_name].value

    def gain(self, candidate: Candidate) -> float:
        """Return the gain of a candidate."""
        return candidate[self.gain_name].value

    def text(self, candidate: Candidate) -> str:
        """Return the cost with its unit."""
        estimate = candidate[self.cost_name]
        return f"{estimate.value:.4g} {estimate.unit}".strip()

    def below(self, a: Candidate, b: Candidate) -> bool:
        """Return whether cost and gain of ``a`` are both below those of ``b``."""
        return self.cost(a) < self.cost(b) and self.gain(a) < self.gain(b)

    def best_first(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return the candidates by falling gain, then rising cost."""
        return sorted(candidates, key=lambda c: (-self.gain(c), self.cost(c), c.id))

    def front(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return the candidates that none dominates in cost and gain, by rising cost; of equal ones the lowest id."""
        kept: list[Candidate] = []
        for candidate in sorted(candidates, key=lambda c: (self.cost(c), -self.gain(c), c.id)):
            if not kept or self.gain(candidate) > self.gain(kept[-1]):
                kept.append(candidate)
        return kept


def select(
    front: Sequence[Candidate],
    cost: str,
    gain: str,
    budgets: Budgets | None = None,
    names: Sequence[str] = ("S", "M", "L"),
    goals: Budgets | None = None,
) -> Selection:
    """Choose one candidate per name, small to large.

    With budgets: for each, the highest gain at a cost within it. With goals: for each, the least cost at a gain of at
    least the goal. Several names may have the same candidate, and a name for which there is none is left out; notes say
    so. Without both: the front of cost and gain is followed on a logarithmic cost axis from the fastest useful
    candidate (:data:`USEFUL`) to the highest gain, both axes scaled to 0..1, and the names stand at equal distances
    along it, so that the middle one is near the bend of the front; a front with fewer candidates than names leaves
    names empty, with a note.

    Args:
        front: Candidates to choose from.
        cost: Name of the estimate to minimise.
        gain: Name of the estimate to maximise.
        budgets: Upper bounds of the cost.
        names: Names without budgets and goals.
        goals: Lower bounds of the gain.

    Raises InputError if there is no candidate, or none within any budget or as good as any goal.
    """
    if not front:
        raise InputError(
            "no candidate to select from", "at least one on the front", "run more trials, or loosen the constraints"
        )
    scale = Scale(cost, gain)
    distinct = list({candidate.id: candidate for candidate in front}.values())
    if budgets is not None or goals is not None:
        queues, chosen, notes = _limited(distinct, scale, budgets, goals)
    else:
        queues = _spread_queues(distinct, scale, names)
        chosen = assign_rising(queues, scale)
        members = counted(len(scale.front(distinct)), "candidate")
        notes = tuple(
            f"{name} is missing: the front has {members} for {counted(len(names), 'name')}; run more trials"
            for name in queues
            if name not in chosen
        )
    if len(distinct) > 1 and len({scale.gain(c) for c in distinct}) == 1:
        equal = f"all {counted(len(distinct), 'candidate')} have the same {label(gain)}, {quantity(distinct[0][gain])}"
        notes = (*notes, f"{equal}: only {label(cost)} decides")
    bounds = dict(budgets.entries) if budgets else {}
    picks = tuple(
        Pick(name, chosen[name], bounds.get(name), tuple(c for c in queue if c.id != chosen[name].id))
        for name, queue in queues.items()
        if name in chosen
    )
    return Selection(picks, cost, gain, notes, independent=budgets is not None or goals is not None)


def _limited(
    candidates: Sequence[Candidate], scale: Scale, budgets: Budgets | None, goals: Budgets | None
) -> tuple[Queues, dict[str, Candidate], tuple[str, ...]]:
    """Return the queues of budgets or goals, what they choose, and notes. Raises InputError if that is nothing."""
    queues, missed = _budget_queues(candidates, scale, budgets) if budgets else ({}, None)
    queues, missed = (queues, missed) if goals is None else _goal_queues(candidates, scale, goals)
    chosen = first_of_each(queues)
    notes = shared_names(chosen, scale, dict(budgets.entries) if budgets else {})
    if missed is None:
        return queues, chosen, notes
    if not chosen:
        raise missed
    empty = [name for name in queues if name not in chosen]
    return queues, chosen, (f"{' and '.join(empty)} {'is' if len(empty) == 1 else 'are'} missing: {missed}", *notes)


def shared_names(chosen: Mapping[str, Candidate], scale: Scale, bounds: Mapping[str, float]) -> tuple[str, ...]:
    """Return a line for every candidate that several names have."""
    names: dict[str, list[str]] = {}
    for name, candidate in chosen.items():
        names.setdefault(candidate.id, []).append(name)
    lines = []
    for first, *others in names.values():
        if not others:
            continue
        candidate, shared = chosen[first], " and ".join(others)
        line = f"{shared} {'is' if len(others) == 1 else 'are'} the same network as {first}"
        if bounds and candidate.id == list(chosen.values())[-1].id:
            line += f": the Pareto front ends at {scale.text(candidate)}, and larger budgets add nothing"
        elif bounds:
            bound = f"{bounds[others[-1]]:g} {candidate[scale.cost_name].unit}".strip()
            line += f": no candidate within {bound} is more accurate"
        else:
            line += ": it is the cheapest that reaches either goal"
        lines.append(line)
    return tuple(lines)


def rounded_up(value: float) -> float:
    """Return the least number of four significant digits that is not below ``value``, for bounds that are advised."""
    if value == 0 or not math.isfinite(value):
        return value
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 3)
    rounded = float(f"{math.ceil(value / step) * step:.4g}")
    return rounded if rounded >= value else float(f"{rounded + step:.4g}")


def _changed(bounds: Budgets, missed: Sequence[str], value: str) -> str:
    """Return bounds as text, with another value for the first missed one, without the other missed ones and without
    those that this value reaches: bounds rise."""
    first = [name for name, _ in bounds].index(missed[0])
    kept = []
    for i, (name, bound) in enumerate(bounds):
        if i == first:
            kept.append(f"{name}={value}{bounds.unit}")
        elif name not in missed and (bound < float(value) if i < first else bound > float(value)):
            kept.append(f"{name}={bound:g}{bounds.unit}")
    return ",".join(kept)


def _budget_queues(
    candidates: Sequence[Candidate], scale: Scale, budgets: Budgets
) -> tuple[dict[str, list[Candidate]], InputError | None]:
    """Return the candidates within each budget, best first, and what is wrong with budgets that nothing meets."""
    fastest = min(candidates, key=lambda c: (scale.cost(c), c.id))
    if (unit := fastest[scale.cost_name].unit) != budgets.unit:
        raise InputError(
            f"budgets {budgets} in {budgets.unit or 'no unit'}", f"the unit of {scale.cost_name}, {unit or 'none'}"
        )
    error = None
    if missed := [name for name, bound in budgets if scale.cost(fastest) > bound]:
        least = f"{rounded_up(scale.cost(fastest)):.4g}"
        error = InputError(
            f"no candidate meets budget {', '.join(f'{name}={budgets[name]:g}{budgets.unit}' for name in missed)}",
            f"at least {f'{least} {unit}'.strip()}, the cost of the fastest ({fastest.id})",
            f"choose again with larger budgets: nas select RUN --budgets {_changed(budgets, missed, least)}, "
            "or search a smaller space",
        )
    ordered = scale.best_first(candidates)
    return {name: [c for c in ordered if scale.cost(c) <= bound] for name, bound in budgets}, error


def _goal_queues(
    candidates: Sequence[Candidate], scale: Scale, goals: Budgets
) -> tuple[dict[str, list[Candidate]], InputError | None]:
    """Return the candidates that reach each goal, cheapest first, and what is wrong with goals that nothing reaches."""
    best = max(candidates, key=lambda c: (scale.gain(c), c.id))
    error = None
    if missed := [name for name, bound in goals if scale.gain(best) < bound]:
        most = f"{-rounded_up(-scale.gain(best)):.4g}"
        error = InputError(
            f"no candidate is as accurate as {', '.join(f'{name}={goals[name]:g}' for name in missed)} asks",
            f"at most {most}, what the best one has ({best.id})",
            f"choose again with lower goals (nas select RUN --at-least {_changed(goals, missed, most)}), run more trials, "
            "or search a larger space",
        )
    ordered = sorted(candidates, key=lambda c: (scale.cost(c), -scale.gain(c), c.id))
    return {name: [c for c in ordered if scale.gain(c) >= bound] for name, bound in goals}, error


def _spread_queues(candidates: Sequence[Candidate], scale: Scale, names: Sequence[str]) -> dict[str, list[Candidate]]:
    if not names or len(set(names)) != len(names):
        raise InputError(f"names {list(names)} for the selection", "at least one, each once")
    front = scale.front(candidates)
    if (least := scale.cost(front[0])) <= 0:
        raise InputError(f"{scale.cost_name} of {front[0].id} is {least:g}", "a cost above zero")
    lowest, highest = scale.gain(front[0]), scale.gain(front[-1])
    useful = [c for c in front if scale.gain(c) >= lowest + USEFUL * (highest - lowest)]
    useful = useful if len(useful) >= len(names) else front[-len(names) :]
    way = _way(useful, scale)
    queues = {}
    for i, name in enumerate(names):
        target = way[-1] * (i / (len(names) - 1) if len(names) > 1 else 1.0)
        order = sorted(range(len(useful)), key=lambda j: (abs(way[j] - target), j))
        queues[name] = [useful[j] for j in order]
    return queues


def _way(front: Sequence[Candidate], scale: Scale) -> list[float]:
    """Return the length of the front up to each member, (k,), with log cost and gain scaled to 0..1."""
    x = [math.log(scale.cost(c)) for c in front]
    y = [scale.gain(c) for c in front]
    width, height = (x[-1] - x[0]) or 1.0, (y[-1] - y[0]) or 1.0
    steps = (math.hypot((x[i] - x[i - 1]) / width, (y[i] - y[i - 1]) / height) for i in range(1, len(front)))
    return list(accumulate(steps, initial=0.0))


def assign_rising(queues: Queues, scale: Scale) -> dict[str, Candidate]:
    """Assign to as many names as possible (small to large) a candidate of its queue, strictly rising in cost and gain;
    the largest name chooses first.

    If not every name can have one, the names in the middle go empty first, so that the ends of the range stay.
    """
    names = list(queues)
    ends = (0, len(names) - 1)
    for count in range(len(names), 0, -1):
        for subset in sorted(
            combinations(range(len(names)), count), key=lambda s: (sum(end not in s for end in ends), s)
        ):
            if chosen := _chain({names[i]: queues[names[i]] for i in subset}, scale):
                return chosen
    return {}


def first_of_each(queues: Queues) -> dict[str, Candidate]:
    """Return the first candidate of every queue that is not empty."""
    return {name: queue[0] for name, queue in queues.items() if queue}


def _chain(queues: Queues, scale: Scale) -> dict[str, Candidate] | None:
    """Return a rising candidate for every name, each the first of its queue that leaves room for the smaller names;
    None if there is no such chain."""
    reachable: dict[str, list[Candidate]] = {}
    lower: list[Candidate] | None = None
    for name, queue in queues.items():
        lower = list(queue) if lower is None else _above(queue, lower, scale)
        if not lower:
            return None
        reachable[name] = lower
    chosen: dict[str, Candidate] = {}
    bound: Candidate | None = None
    for name in reversed(list(queues)):
        bound = next(c for c in reachable[name] if bound is None or scale.below(c, bound))
        chosen[name] = bound
    return {name: chosen[name] for name in queues}


def _above(queue: Sequence[Candidate], lower: Sequence[Candidate], scale: Scale) -> list[Candidate]:
    """Return the candidates of ``queue``, in its order, with one of ``lower`` strictly below in cost and gain."""
    ordered = sorted(lower, key=scale.cost)
    costs = [scale.cost(c) for c in ordered]
    least = list(accumulate((scale.gain(c) for c in ordered), min))
    return [c for c in queue if (i := bisect_left(costs, scale.cost(c))) and least[i - 1] < scale.gain(c)]
