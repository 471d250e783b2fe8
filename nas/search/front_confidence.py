"""What the intervals of both axes leave open: who is really on the front, who cannot be told apart, and what to
measure next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core.estimate import Candidate, Objective
from nas.core.pareto import front_of, non_dominated, values_of

Floats = NDArray[np.float64]

DRAWS = 1000
TOLD_APART = 0.95
"""Probability from which one of two is called the better in an objective."""
BINS = 8
Z95 = 1.959964


@dataclass(frozen=True)
class Helpful:
    """The measurement that would settle most: of which candidate, of what, and the share of the open question that
    hangs on it."""

    candidate: str
    objective: str
    share: float


@dataclass(frozen=True)
class Certainty:
    """``members``: id -> probability to be non-dominated, of the front (by rising cost) and of those behind it that
    may belong there (5 % or more).

    ``groups``: members of the front, side by side, of which no two can be told apart in any objective. ``helpful``:
    None where nothing is open.
    """

    members: Mapping[str, float]
    front: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    helpful: Helpful | None

    @property
    def sure(self) -> int:
        """Members of the front that are there with 95 % or more."""
        return sum(self.members[id_] >= TOLD_APART for id_ in self.front)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        helpful = self.helpful and {
            "candidate": self.helpful.candidate,
            "objective": self.helpful.objective,
            "share": self.helpful.share,
        }
        return {
            "non_dominated": dict(self.members),
            "groups": [list(g) for g in self.groups],
            "next_measurement": helpful,
        }

    def lines(self) -> list[str]:
        """For people."""
        said = [
            f"front: {len(self.front)} candidates, {self.sure} of them with 95 % or more, given the intervals of all axes"
        ]
        if behind := [id_ for id_ in self.members if id_ not in self.front]:
            said.append(f"behind it, but perhaps on it: {_few(behind)}")
        said += [f"cannot be told apart: {', '.join(group)}" for group in self.groups]
        if self.helpful is not None:
            h = self.helpful
            said.append(
                f"most would be settled by measuring {h.objective} of {h.candidate} again ({h.share:.0%} of what is open)"
            )
        return said


def certainty(
    candidates: Sequence[Candidate],
    objectives: Sequence[Objective],
    draws: Mapping[str, Mapping[str, Sequence[float]]],
    seed: int = 0,
) -> Certainty:
    """Of all ``candidates`` that were estimated to the end.

    ``draws``: id -> objective -> values that it might have had, the same images drawn for every candidate
    (:attr:`nas.estimators.base.Estimator.draws`), so that what two candidates have in common cancels. Where there are
    none the 95 % interval is taken for a normal distribution of its own; where there is no interval either, the
    number is taken to be exact.
    """
    front = tuple(c.id for c in front_of(candidates, objectives))
    drawn = _drawn(candidates, objectives, draws, seed)
    directions = [o.direction for o in objectives]
    # Who is beaten for certain takes no part: n points in 1,000 draws would else be the price of a long search.
    open_ = _undecided(drawn, objectives)
    alive = np.stack(
        [non_dominated(drawn[open_, :, s].astype(np.float64), directions) for s in range(drawn.shape[2])], 1
    )
    shares = dict(zip((candidates[i].id for i in open_), alive.mean(1).tolist(), strict=True))
    behind = sorted(
        (id_ for id_ in shares if id_ not in front and shares[id_] >= 1 - TOLD_APART), key=lambda id_: -shares[id_]
    )
    members = {id_: shares.get(id_, 0.0) for id_ in (*front, *behind)}
    rows = {candidates[i].id: drawn[i] for i in range(len(candidates))}
    return Certainty(
        members,
        front,
        _groups([(id_, rows[id_]) for id_ in front]),
        _helpful(candidates, objectives, open_, drawn, alive),
    )


def _drawn(
    candidates: Sequence[Candidate],
    objectives: Sequence[Objective],
    draws: Mapping[str, Mapping[str, Sequence[float]]],
    seed: int,
) -> Floats:
    """(candidates, objectives, draws)."""
    rng = np.random.default_rng(seed)
    values = np.repeat(values_of(candidates, objectives)[:, :, None], DRAWS, 2)
    for j, o in enumerate(objectives):
        common = rng.integers(2**31, size=DRAWS)
        for i, c in enumerate(candidates):
            given, e = draws.get(c.id, {}).get(o.name), c[o.name]
            if given:
                values[i, j] = np.asarray(given, np.float64)[common % len(given)]
            elif e.low is not None and e.high is not None:
                values[i, j] += rng.standard_normal(DRAWS) * (e.high - e.low) / 2 / Z95
    return values


def _undecided(drawn: Floats, objectives: Sequence[Objective]) -> NDArray[np.intp]:
    """Rows of those whose best values are not beaten by the worst ones of another."""
    signs = np.array([o.sign for o in objectives], np.float64)[:, None]
    low, high = (drawn * signs).min(2), (drawn * signs).max(2)
    beaten = ((high[None] <= low[:, None]).all(2) & (high[None] < low[:, None]).any(2)).any(1)
    return np.flatnonzero(~beaten)


def _groups(front: Sequence[tuple[str, Floats]]) -> tuple[tuple[str, ...], ...]:
    groups: list[list[tuple[str, Floats]]] = []
    for member in front:
        if groups and all(_alike(member[1], other) for _, other in groups[-1]):
            groups[-1].append(member)
        else:
            groups.append([member])
    return tuple(tuple(id_ for id_, _ in group) for group in groups if len(group) > 1)


def _alike(a: Floats, b: Floats) -> bool:
    """Whether neither (objectives, draws) is the better in any objective for nearly sure."""
    above = (a > b).mean(1) + (a == b).mean(1) / 2
    return bool(((above > 1 - TOLD_APART) & (above < TOLD_APART)).all())


def _helpful(
    candidates: Sequence[Candidate],
    objectives: Sequence[Objective],
    open_: NDArray[np.intp],
    drawn: Floats,
    alive: NDArray[np.bool_],
) -> Helpful | None:
    """The number on which most of the variance of who is non-dominated hangs: of every number, what its value
    explains (a first-order Sobol index)."""
    total = float(alive.var(1).sum())
    if total < 1e-9:
        return None
    best: Helpful | None = None
    for i in open_:
        for j, objective in enumerate(objectives):
            values = drawn[i, j]
            if np.ptp(values) == 0:
                continue
            bins = np.array_split(np.argsort(values, kind="stable"), BINS)
            means = np.stack([alive[:, rows].mean(1) for rows in bins], 1)
            share = max(
                0.0, float(means.var(1).sum()) / total - (BINS - 1) / values.size
            )  # what chance alone would seem to explain
            if best is None or share > best.share:
                best = Helpful(candidates[i].id, objective.name, round(share, 4))
    return best


def _few(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
