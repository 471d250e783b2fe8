"""Confidence of the Pareto front, given the intervals of all objectives: who is on it, who cannot be distinguished,
and what to measure next.

==========  ================================================================================================
n, m, S     candidates, objectives, samples (:data:`SAMPLES`)
V (n,m,S)   sampled values: a bootstrap replicate, shared by all candidates, or a normal sample of the interval
A (k,S)     whether an undecided candidate is non-dominated in a sample
P_i         mean_s A_is, the probability to be non-dominated
share_ij    Var_b(E[A | V_ij in bin b]) / Var(A), summed over candidates: a first-order Sobol index with
            :data:`BINS` bins, less (BINS - 1) / S, its expectation for an irrelevant number
==========  ================================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core.estimate import Candidate, Objective
from nas.core.pareto import front_of, non_dominated, values_of
from search_spaces.text import counted

Floats = NDArray[np.float64]

SAMPLES = 1000
DISTINCT = 0.95
"""Probability from which one of two candidates counts as better in an objective."""
BINS = 8
Z95 = 1.959964


@dataclass(frozen=True)
class NextMeasurement:
    """The most informative measurement: candidate, objective, and its share of the variance of who is on the front."""

    candidate: str
    objective: str
    share: float


@dataclass(frozen=True)
class FrontConfidence:
    """Confidence of a front.

    Args:
        members: Id -> probability to be non-dominated, for the front (by rising cost) and the candidates behind it
            with 5 % or more.
        front: Ids of the front by rising cost.
        groups: Neighbours on the front of which no two can be distinguished in any objective.
        next_measurement: The most informative measurement; None if nothing is open.
    """

    members: Mapping[str, float]
    front: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    next_measurement: NextMeasurement | None

    @property
    def sure(self) -> int:
        """Number of members of the front with a probability of 95 % or more."""
        return sum(self.members[id_] >= DISTINCT for id_ in self.front)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        next_measurement = self.next_measurement and {
            "candidate": self.next_measurement.candidate,
            "objective": self.next_measurement.objective,
            "share": self.next_measurement.share,
        }
        return {
            "non_dominated": dict(self.members),
            "groups": [list(g) for g in self.groups],
            "next_measurement": next_measurement,
        }

    def lines(self) -> list[str]:
        """Return the lines for the user."""
        front = counted(len(self.front), "candidate")
        lines = [f"front: {front}, {self.sure} of them with 95 % or more, given all intervals"]
        if behind := [id_ for id_ in self.members if id_ not in self.front]:
            lines.append(f"behind the front, but possibly on it: {_few(behind)}")
        lines += [f"cannot be distinguished: {', '.join(group)}" for group in self.groups]
        if self.next_measurement is not None:
            best = self.next_measurement
            what = f"{best.objective} of {best.candidate} again"
            lines.append(f"most informative measurement: {what} ({best.share:.0%} of what is open)")
        return lines


def front_confidence(
    candidates: Sequence[Candidate],
    objectives: Sequence[Objective],
    replicates: Mapping[str, Mapping[str, Sequence[float]]],
    seed: int = 0,
) -> FrontConfidence:
    """Work out the confidence of the front of all candidates that were evaluated to the end.

    Args:
        candidates: The candidates.
        objectives: The objectives.
        replicates: Id -> objective -> bootstrap replicates (:attr:`nas.core.estimate.Estimate.replicates`). Replicates
            are of the same resampled data sets for every candidate, so the noise that two candidates share cancels.
            Without replicates the 95 % interval counts as that of an independent normal distribution; without an
            interval the number counts as exact.
        seed: Seed of the samples.
    """
    front = tuple(c.id for c in front_of(candidates, objectives))
    samples = _samples(candidates, objectives, replicates, seed)
    directions = [o.direction for o in objectives]
    # Candidates that are dominated for certain take no part: the cost of all pairs would grow with a long search.
    undecided = _undecided(samples, objectives)
    alive = np.stack(
        [non_dominated(samples[undecided, :, s].astype(np.float64), directions) for s in range(samples.shape[2])], 1
    )
    shares = dict(zip((candidates[i].id for i in undecided), alive.mean(1).tolist(), strict=True))
    behind = sorted(
        (id_ for id_ in shares if id_ not in front and shares[id_] >= 1 - DISTINCT), key=lambda id_: -shares[id_]
    )
    members = {id_: shares.get(id_, 0.0) for id_ in (*front, *behind)}
    rows = {candidates[i].id: samples[i] for i in range(len(candidates))}
    best = _next_measurement(candidates, objectives, undecided, samples, alive)
    return FrontConfidence(members, front, _groups([(id_, rows[id_]) for id_ in front]), best)


def _samples(
    candidates: Sequence[Candidate],
    objectives: Sequence[Objective],
    replicates: Mapping[str, Mapping[str, Sequence[float]]],
    seed: int,
) -> Floats:
    """Return samples of all values, (n, m, S)."""
    rng = np.random.default_rng(seed)
    values = np.repeat(values_of(candidates, objectives)[:, :, None], SAMPLES, 2)
    for j, o in enumerate(objectives):
        common = rng.integers(2**31, size=SAMPLES)
        for i, c in enumerate(candidates):
            given, e = replicates.get(c.id, {}).get(o.name), c[o.name]
            if given:
                values[i, j] = np.asarray(given, np.float64)[common % len(given)]
            elif e.low is not None and e.high is not None:
                values[i, j] += rng.standard_normal(SAMPLES) * (e.high - e.low) / 2 / Z95
    return values


def _undecided(samples: Floats, objectives: Sequence[Objective]) -> NDArray[np.intp]:
    """Return the rows (k,) whose best values are not dominated by the worst values of another row."""
    signs = np.array([o.sign for o in objectives], np.float64)[:, None]
    low, high = (samples * signs).min(2), (samples * signs).max(2)
    dominated = ((high[None] <= low[:, None]).all(2) & (high[None] < low[:, None]).any(2)).any(1)
    return np.flatnonzero(~dominated)


def _groups(front: Sequence[tuple[str, Floats]]) -> tuple[tuple[str, ...], ...]:
    groups: list[list[tuple[str, Floats]]] = []
    for member in front:
        if groups and all(_alike(member[1], other) for _, other in groups[-1]):
            groups[-1].append(member)
        else:
            groups.append([member])
    return tuple(tuple(id_ for id_, _ in group) for group in groups if len(group) > 1)


def _alike(a: Floats, b: Floats) -> bool:
    """Return whether neither of two candidates (m, S) is better in an objective with 95 % or more."""
    above = (a > b).mean(1) + (a == b).mean(1) / 2
    return bool(((above > 1 - DISTINCT) & (above < DISTINCT)).all())


def _next_measurement(
    candidates: Sequence[Candidate],
    objectives: Sequence[Objective],
    undecided: NDArray[np.intp],
    samples: Floats,
    alive: NDArray[np.bool_],
) -> NextMeasurement | None:
    """Return the number with the largest first-order Sobol index of who is non-dominated."""
    total = float(alive.var(1).sum())
    if total < 1e-9:
        return None
    best: NextMeasurement | None = None
    for i in undecided:
        for j, objective in enumerate(objectives):
            values = samples[i, j]
            if np.ptp(values) == 0:
                continue
            bins = np.array_split(np.argsort(values, kind="stable"), BINS)
            means = np.stack([alive[:, rows].mean(1) for rows in bins], 1)
            share = max(0.0, float(means.var(1).sum()) / total - (BINS - 1) / values.size)
            if best is None or share > best.share:
                best = NextMeasurement(candidates[i].id, objective.name, round(share, 4))
    return best


def _few(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
