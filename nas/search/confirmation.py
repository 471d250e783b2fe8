"""Confirmation of S, M and L by a second measurement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from nas.core.estimate import Candidate, Estimate
from nas.search.selection import (
    Pick,
    Replacement,
    Scale,
    Selection,
    assign_rising,
    first_of_each,
    rounded_up,
    shared_names,
)
from search_spaces.errors import InputError


def confirm(selection: Selection, remeasure: Callable[[Candidate], Estimate], tolerance: float = 0.02) -> Selection:
    """Measure every pick a second time and return the selection with the new costs.

    A pick gives way to the next candidate of its queue if it exceeds its budget by more than ``tolerance``, cannot be
    measured (``remeasure`` raises InputError), or breaks the order of cost and gain; that candidate is measured too,
    until all picks are measured and consistent. No candidate is measured twice. ``replaced`` lists the changes; a name
    without candidates goes empty with a note.

    Args:
        selection: Picks with their queues.
        remeasure: Returns the new cost of a candidate.
        tolerance: Share of the budget by which a pick may exceed it.

    Raises InputError if no name has a candidate, ValueError if ``remeasure`` gives another estimate than the cost.
    """
    confirmation = _Confirmation(selection, remeasure, tolerance)
    chosen = {pick.name: pick.candidate for pick in selection}
    while pending := {c.id: c for c in chosen.values() if c.id not in confirmation.measured}:
        for candidate in pending.values():
            confirmation.measure(candidate)
        chosen = confirmation.choose(chosen)
    if not chosen:
        reasons = "; ".join(
            f"{change.name} {change.before.id} {change.reason}" for change in confirmation.replaced[-len(selection) :]
        )
        raise InputError(
            f"no candidate is left after measuring again ({reasons})",
            hint=_larger_budgets(selection, confirmation) + "search on a quieter machine",
        )
    return confirmation.result(chosen)


def _larger_budgets(selection: Selection, confirmation: _Confirmation) -> str:
    """Return the advice of a budget that the fastest of the measured picks meets; empty without budgets."""
    scale, first = Scale(selection.cost, selection.gain), selection.picks[0]
    measured = [c for c in confirmation.measured.values() if c is not None]
    if first.budget is None or not measured:
        return ""
    fastest = min(measured, key=scale.cost)
    least = f"{first.name}={rounded_up(scale.cost(fastest)):.4g}{fastest[scale.cost_name].unit}"
    return f"choose again with larger budgets: nas select RUN --budgets {least}, or "


class _Confirmation:
    """The second measurements of a selection, and what they change."""

    def __init__(self, selection: Selection, remeasure: Callable[[Candidate], Estimate], tolerance: float) -> None:
        self._selection, self._remeasure, self._tolerance = selection, remeasure, tolerance
        self._scale = Scale(selection.cost, selection.gain)
        self._why: dict[tuple[str, str], str] = {}
        self.measured: dict[str, Candidate | None] = {}
        self.replaced: list[Replacement] = []

    def measure(self, candidate: Candidate) -> None:
        """Measure a candidate again; None is kept for one that cannot be measured."""
        cost = self._selection.cost
        try:
            estimate = self._remeasure(candidate)
        except InputError as error:
            self._why["", candidate.id] = f"could not be measured again: {error}"
            self.measured[candidate.id] = None
            return
        if (estimate.name, estimate.unit) != (cost, candidate[cost].unit):
            raise ValueError(
                f"remeasure gave {estimate.name} in {estimate.unit!r}; expected {cost} in {candidate[cost].unit!r}"
            )
        self.measured[candidate.id] = candidate.with_estimate(estimate)

    def choose(self, before: Mapping[str, Candidate]) -> dict[str, Candidate]:
        """Choose again with everything measured so far, and note what changed."""
        queues = {pick.name: self._admissible(pick) for pick in self._selection}
        after = first_of_each(queues) if self._selection.independent else assign_rising(queues, self._scale)
        for name, old in before.items():
            new = after.get(name)
            if new is None or new.id != old.id:
                old = self.measured.get(old.id) or old
                self.replaced.append(Replacement(name, old, new, self._reason(name, old, new)))
        return after

    def _admissible(self, pick: Pick) -> list[Candidate]:
        """Return the queue of a pick with the new costs, without candidates over budget or not measurable.

        With budgets, candidates of other picks that turned out to be within this budget belong to it too.
        """
        others = [c for c in self.measured.values() if c is not None and pick.budget is not None]
        kept: dict[str, Candidate] = {}
        for candidate in (pick.candidate, *pick.next, *others):
            now = self.measured.get(candidate.id, candidate)
            if now is None or candidate.id in kept:
                continue
            if candidate.id in self.measured and pick.budget is not None:
                cost = self._scale.cost(now)
                if cost > pick.budget * (1 + self._tolerance):
                    over = f"{cost / pick.budget - 1:.1%} over its budget of {pick.budget:g}"
                    self._why[pick.name, candidate.id] = f"measured {self._scale.text(now)}, {over}"
                    continue
            kept[candidate.id] = now
        return self._scale.best_first(list(kept.values())) if pick.budget is not None else list(kept.values())

    def _reason(self, name: str, old: Candidate, new: Candidate | None) -> str:
        if found := self._why.get((name, old.id)) or self._why.get(("", old.id)):
            return found
        if self._selection.independent and new is not None:
            return f"{new.id} ({self._scale.text(new)}) is better for it"
        return f"measured {self._scale.text(old)}, out of order with the other picks"

    def result(self, chosen: Mapping[str, Candidate]) -> Selection:
        """Return the selection with the chosen candidates."""
        selection = self._selection
        bounds = {p.name: p.budget for p in selection if p.budget is not None}
        notes = list(selection.notes)
        if selection.independent:
            before = shared_names({pick.name: pick.candidate for pick in selection}, self._scale, bounds)
            notes = [*shared_names(chosen, self._scale, bounds), *(note for note in notes if note not in before)]
        tried = {change.before.id for change in self.replaced}
        picks = []
        for pick in selection:
            if pick.name in chosen:
                candidate = chosen[pick.name]
                rest = (c for c in (pick.candidate, *pick.next) if c.id != candidate.id and c.id not in tried)
                picks.append(replace(pick, candidate=candidate, next=tuple(rest)))
                continue
            reasons = [change.reason for change in self.replaced if change.name == pick.name]
            reason = reasons[-1] if reasons else "none was left"
            advice = "run more trials" + (", or raise its budget" if pick.budget is not None else "")
            notes.append(f"{pick.name} is missing after measuring again: its last candidate {reason}; {advice}")
        remeasured = {id_: c for id_, c in self.measured.items() if c is not None}
        return replace(
            selection,
            picks=tuple(picks),
            notes=tuple(notes),
            replaced=tuple(self.replaced),
            confirmed=True,
            remeasured=remeasured,
        )
