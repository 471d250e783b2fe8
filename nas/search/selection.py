"""S, M and L of a front: within budgets or spread over it, then confirmed by a second measurement."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, combinations

from nas.core.budgets import Budgets, parse_budgets
from nas.core.estimate import Candidate, Estimate
from search_spaces.errors import InputError
from search_spaces.registry import unknown

__all__ = ["Budgets", "Pick", "Replacement", "Selection", "confirm", "parse_budgets", "select"]

#: Without budgets the smallest pick has at least this part of the way from the lowest to the highest gain of the
#: front: the fastest that is of use.
USEFUL = 1 / 3

Queues = Mapping[str, Sequence[Candidate]]


@dataclass(frozen=True)
class Pick:
    """The candidate chosen under a name, its budget in the unit of the cost, and what would take its place, best
    first."""

    name: str
    candidate: Candidate
    budget: float | None = None
    next: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Replacement:
    """Why ``before`` lost a name to ``after`` (``None``: nothing was left)."""

    name: str
    before: Candidate
    after: Candidate | None
    reason: str


@dataclass(frozen=True)
class Selection:
    """Picks from small to large: cost and gain (names of estimates) both strictly increase. ``notes`` say which names
    stayed empty and why.

    ``each_for_itself``: chosen by goals, each the cheapest that reaches its own, whatever the others are.
    """

    picks: tuple[Pick, ...]
    cost: str
    gain: str
    notes: tuple[str, ...] = ()
    replaced: tuple[Replacement, ...] = ()
    confirmed: bool = False
    each_for_itself: bool = False

    def __iter__(self) -> Iterator[Pick]:
        return iter(self.picks)

    def __len__(self) -> int:
        return len(self.picks)

    def __getitem__(self, name: str) -> Pick:
        for pick in self.picks:
            if pick.name == name:
                return pick
        raise unknown("pick", name, tuple(pick.name for pick in self.picks))


@dataclass(frozen=True)
class _Scale:
    """Which estimates count as cost (less is better) and gain (more is better)."""

    cost_name: str
    gain_name: str

    def cost(self, candidate: Candidate) -> float:
        return candidate[self.cost_name].value

    def gain(self, candidate: Candidate) -> float:
        return candidate[self.gain_name].value

    def text(self, candidate: Candidate) -> str:
        estimate = candidate[self.cost_name]
        return f"{estimate.value:.4g} {estimate.unit}".strip()

    def below(self, a: Candidate, b: Candidate) -> bool:
        return self.cost(a) < self.cost(b) and self.gain(a) < self.gain(b)

    def best_first(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        return sorted(candidates, key=lambda c: (-self.gain(c), self.cost(c), c.id))

    def front(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Those that no other beats in cost and gain, by rising cost; of equal ones the lowest id."""
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
    """One candidate per name, small to large; ``cost`` and ``gain`` name estimates, less of the one and more of the
    other is better.

    With ``budgets`` (their names count): under each, the highest gain whose cost is within it, from the largest
    budget down, each pick below the one above it in cost and gain. A budget that no candidate meets is an error. With
    ``goals`` instead: for each, the least cost whose gain is at least so much; one that reaches several goals has the
    name of the highest. Without both: the front of cost and gain is walked on a logarithmic cost axis from the
    fastest of use (:data:`USEFUL`) to the highest gain, both axes scaled to 0..1, and the names stand at equal steps
    of the way, so that the middle one sits about where the front bends. Where there are fewer distinct candidates
    than names (or than budgets that differ in what they admit) the selection is shorter and a note names what is
    missing.
    """
    if not front:
        raise InputError(
            "no candidate to select from", "at least one on the front", "run more trials, or loosen the constraints"
        )
    scale = _Scale(cost, gain)
    distinct = list({candidate.id: candidate for candidate in front}.values())
    if budgets is not None:
        queues = _budget_queues(distinct, scale, budgets)
    else:
        queues = _spread_queues(distinct, scale, names) if goals is None else _goal_queues(distinct, scale, goals)
    chosen = _assign(queues, scale) if goals is None else _cheapest(queues)
    bounds = dict(budgets.entries) if budgets else {}
    picks = [
        Pick(name, chosen[name], bounds.get(name), tuple(c for c in queue if c.id != chosen[name].id))
        for name, queue in queues.items()
        if name in chosen
    ]
    missing = [name for name in queues if name not in chosen]
    if goals is not None:
        notes = [f"{name} is missing: the cheapest that reaches its goal reaches a higher one too" for name in missing]
        return Selection(tuple(picks), cost, gain, tuple(notes), each_for_itself=True)
    notes = [
        f"{name} is missing: every candidate it could be is taken ({len(distinct)} to choose from); run more trials"
        for name in missing
    ]
    return Selection(tuple(picks), cost, gain, tuple(notes))


def _budget_queues(candidates: Sequence[Candidate], scale: _Scale, budgets: Budgets) -> dict[str, list[Candidate]]:
    fastest = min(candidates, key=lambda c: (scale.cost(c), c.id))
    if (unit := fastest[scale.cost_name].unit) != budgets.unit:
        raise InputError(
            f"budgets {budgets} in {budgets.unit or 'no unit'}", f"the unit of {scale.cost_name}, {unit or 'none'}"
        )
    for name, bound in budgets:
        if scale.cost(fastest) > bound:
            raise InputError(
                f"no candidate meets budget {name}={bound:g}{budgets.unit}",
                f"at least {scale.text(fastest)}, the cost of the fastest ({fastest.id})",
                "raise that budget, or search a smaller space",
            )
    ordered = scale.best_first(candidates)
    return {name: [c for c in ordered if scale.cost(c) <= bound] for name, bound in budgets}


def _goal_queues(candidates: Sequence[Candidate], scale: _Scale, goals: Budgets) -> dict[str, list[Candidate]]:
    best = max(candidates, key=lambda c: (scale.gain(c), c.id))
    for name, bound in goals:
        if scale.gain(best) < bound:
            raise InputError(
                f"no candidate is as accurate as {name}={bound:g} asks",
                f"at most {scale.gain(best):.4g}, what the best one has ({best.id})",
                "lower that goal, run more trials, or search a larger space",
            )
    ordered = sorted(candidates, key=lambda c: (scale.cost(c), -scale.gain(c), c.id))
    return {name: [c for c in ordered if scale.gain(c) >= bound] for name, bound in goals}


def _spread_queues(candidates: Sequence[Candidate], scale: _Scale, names: Sequence[str]) -> dict[str, list[Candidate]]:
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


def _way(front: Sequence[Candidate], scale: _Scale) -> list[float]:
    """Length of the way along the front up to each member, log cost and gain each scaled to 0..1."""
    x = [math.log(scale.cost(c)) for c in front]
    y = [scale.gain(c) for c in front]
    width, height = (x[-1] - x[0]) or 1.0, (y[-1] - y[0]) or 1.0
    steps = (math.hypot((x[i] - x[i - 1]) / width, (y[i] - y[i - 1]) / height) for i in range(1, len(front)))
    return list(accumulate(steps, initial=0.0))


def _assign(queues: Queues, scale: _Scale) -> dict[str, Candidate]:
    """For as many names as possible (given small to large) a candidate of its queue, strictly rising in cost and
    gain; the largest name picks first.

    Where not every name can have one, those in the middle go empty first, so that the ends of the range stay.
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


def _cheapest(queues: Queues) -> dict[str, Candidate]:
    """The first of every queue; a candidate that is first of several goes by the last name."""
    last = {queue[0].id: name for name, queue in queues.items() if queue}
    return {name: queue[0] for name, queue in queues.items() if queue and last[queue[0].id] == name}


def _chain(queues: Queues, scale: _Scale) -> dict[str, Candidate] | None:
    """A rising candidate for every name, each the first of its queue that leaves room for the smaller ones; ``None``
    if there is no such chain."""
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


def _above(queue: Sequence[Candidate], lower: Sequence[Candidate], scale: _Scale) -> list[Candidate]:
    """Those of ``queue``, in its order, that have one of ``lower`` strictly below them in cost and gain."""
    ordered = sorted(lower, key=scale.cost)
    costs = [scale.cost(c) for c in ordered]
    least = list(accumulate((scale.gain(c) for c in ordered), min))
    return [c for c in queue if (i := bisect_left(costs, scale.cost(c))) and least[i - 1] < scale.gain(c)]


def confirm(selection: Selection, remeasure: Callable[[Candidate], Estimate], tolerance: float = 0.02) -> Selection:
    """The selection after measuring every pick again; the picks carry the new estimate of the cost.

    A pick that is over its budget by more than ``tolerance``, that cannot be measured (``remeasure`` raises
    :class:`InputError`), or that breaks the order of cost and gain gives way to the next of its list, which is
    measured too, until all picks are measured and hold together. No candidate is measured twice. What changed and why
    is in ``replaced``; a name for which nothing is left goes empty with a note. All names empty is an error.
    """
    scale = _Scale(selection.cost, selection.gain)
    known: dict[str, Candidate | None] = {}
    why: dict[tuple[str, str], str] = {}
    replaced: list[Replacement] = []
    chosen = {pick.name: pick.candidate for pick in selection}
    while pending := {c.id: c for c in chosen.values() if c.id not in known}:
        for candidate in pending.values():
            known[candidate.id] = _measured(candidate, remeasure, selection.cost, why)
        queues = {pick.name: _admissible(pick, known, scale, tolerance, why) for pick in selection}
        after = _cheapest(queues) if selection.each_for_itself else _assign(queues, scale)
        replaced += _changes(chosen, after, known, scale, why)
        chosen = after
    if not chosen:
        reasons = "; ".join(
            f"{change.name} {change.before.id} {change.reason}" for change in replaced[-len(selection) :]
        )
        raise InputError(
            f"no candidate is left after measuring again ({reasons})",
            hint="raise the budgets, or search on a quieter machine",
        )
    return _confirmed(selection, chosen, tuple(replaced))


def _measured(
    candidate: Candidate, remeasure: Callable[[Candidate], Estimate], cost: str, why: dict[tuple[str, str], str]
) -> Candidate | None:
    try:
        estimate = remeasure(candidate)
    except InputError as error:
        why["", candidate.id] = f"could not be measured again: {error}"
        return None
    if (estimate.name, estimate.unit) != (cost, candidate[cost].unit):
        raise ValueError(
            f"remeasure gave {estimate.name} in {estimate.unit!r}; expected {cost} in {candidate[cost].unit!r}"
        )
    return candidate.with_estimate(estimate)


def _admissible(
    pick: Pick, known: Mapping[str, Candidate | None], scale: _Scale, tolerance: float, why: dict[tuple[str, str], str]
) -> list[Candidate]:
    """The list of a pick with what is known by now, without those that turned out over budget or not measurable."""
    kept = []
    for candidate in (pick.candidate, *pick.next):
        now = known.get(candidate.id, candidate)
        if now is None:
            continue
        if candidate.id in known and pick.budget is not None and scale.cost(now) > pick.budget * (1 + tolerance):
            over = scale.cost(now) / pick.budget - 1
            why[pick.name, candidate.id] = f"measured {scale.text(now)}, {over:.1%} over its budget of {pick.budget:g}"
            continue
        kept.append(now)
    return kept


def _changes(
    before: Mapping[str, Candidate],
    after: Mapping[str, Candidate],
    known: Mapping[str, Candidate | None],
    scale: _Scale,
    why: Mapping[tuple[str, str], str],
) -> list[Replacement]:
    """Which names changed hands, from small to large, with the reason."""
    changes = []
    for name, old in before.items():
        new = after.get(name)
        if new is not None and new.id == old.id:
            continue
        old = known.get(old.id) or old
        reason = (
            why.get((name, old.id))
            or why.get(("", old.id))
            or f"measured {scale.text(old)}, out of order with the other picks"
        )
        changes.append(Replacement(name, old, new, reason))
    return changes


def _confirmed(selection: Selection, chosen: Mapping[str, Candidate], replaced: tuple[Replacement, ...]) -> Selection:
    picks, notes = [], list(selection.notes)
    tried = {change.before.id for change in replaced}
    for pick in selection:
        if pick.name in chosen:
            candidate = chosen[pick.name]
            rest = (c for c in (pick.candidate, *pick.next) if c.id != candidate.id and c.id not in tried)
            picks.append(replace(pick, candidate=candidate, next=tuple(rest)))
        else:
            reason = next(
                (change.reason for change in reversed(replaced) if change.name == pick.name), "nothing was left"
            )
            notes.append(
                f"{pick.name} is missing after measuring again: its last candidate {reason}; run more trials, or raise its budget"
            )
    return replace(selection, picks=tuple(picks), notes=tuple(notes), replaced=replaced, confirmed=True)
