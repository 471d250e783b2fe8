"""What the trials of a study say to a sampler that learns, as numbers to minimise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.core.pareto import non_dominated
from nas.search.optuna_compat import constraints_of, contains
from nas.search.samplers.acquisition import nearness
from nas.search.samplers.encoding import Encoding

Floats = NDArray[np.float64]

MARGIN = 0.3
"""Of the range of the front in an objective: how far the reference point of the hypervolume lies beyond its worst
value."""
GOOD = 20
"""So many of the points that were tried are parents at least: the front, and the next ones behind it."""


@dataclass(frozen=True)
class History:
    """What the trials of a study say, as numbers to minimise (logarithms where asked)."""

    points: Floats
    values: Floats
    everyone: Floats
    failed: Floats
    pending: Floats
    limits: list[tuple[str, NDArray[np.bool_], Floats]]
    inside: NDArray[np.bool_]
    signs: Floats
    known: frozenset[tuple[float, ...]]

    @classmethod
    def of(
        cls,
        study: Study,
        own: FrozenTrial,
        encoding: Encoding,
        space: Mapping[str, BaseDistribution],
        log: Sequence[int],
        kept: dict[tuple[str, int], Floats | None],
    ) -> History:
        """``kept``: rows of trials that have ended, filled here; None for one that is not of the space."""
        done, points, values, failed, pending = [], [], [], [], []
        signs = np.array([1.0 if d == StudyDirection.MINIMIZE else -1.0 for d in study.directions])
        found = [t for t in study.get_trials(deepcopy=False) if t.number != own.number]
        new = [t for t in found if (study.study_name, t.number) not in kept]
        inside_space = [t for t in new if _within(t, space)]
        rows_of_new = dict(
            zip([t.number for t in inside_space], encoding.points([t.params for t in inside_space]), strict=True)
        )
        kept.update({(study.study_name, t.number): rows_of_new.get(t.number) for t in new if t.state.is_finished()})
        given_rows = [(t, kept.get((study.study_name, t.number), rows_of_new.get(t.number))) for t in found]
        rows = [row for _, row in given_rows if row is not None]
        for t, row in ((t, row) for t, row in given_rows if row is not None):
            if t.state == TrialState.COMPLETE:
                done.append(t)
                points.append(row)
                values.append(t.values)
            elif t.state in (TrialState.FAIL, TrialState.PRUNED) and not _void(t):
                failed.append(row)
            elif t.state == TrialState.RUNNING:
                pending.append(row)
        dims = len(encoding.names)
        x = np.array(points).reshape(-1, dims)
        y = _finite(logarithms(np.array(values, np.float64).reshape(-1, len(signs)) * signs, log, signs))
        given = [constraints_of(t) for t in done]
        limits = []
        inside = np.ones(len(done), bool)
        for name in sorted({n for c in given for n in c}):
            has = np.array([name in c for c in given])
            limit = np.array([c[name] for c in given if name in c])
            limits.append((name, has, limit))
            inside[has] &= limit <= 0
        everyone = np.concatenate([x, np.array(failed).reshape(-1, dims)])
        return cls(
            x, y, everyone, np.repeat([0.0, 1.0], [len(x), len(failed)]), np.array(pending).reshape(-1, dims), limits, inside, signs,
            frozenset(key_of(r) for r in rows),
        )  # fmt: skip

    def has(self, point: Floats) -> bool:
        """Whether it was tried or is being tried."""
        return key_of(point) in self.known

    def unseen(self, points: Floats) -> Floats:
        """Those not tried, each once, in their order."""
        fresh = dict(zip(keys_of(points), points, strict=True))
        return np.array([p for key, p in fresh.items() if key not in self.known]).reshape(-1, points.shape[1])

    @property
    def on_front(self) -> NDArray[np.bool_]:
        """Of the points inside all limits (all points where none is), those not dominated."""
        inside = self.inside if self.inside.any() else np.ones(len(self.values), bool)
        mask = np.zeros(len(self.values), bool)
        mask[inside] = non_dominated(self.values[inside], ["min"] * self.values.shape[1])
        return mask

    @property
    def good(self) -> Floats:
        """The points of the front, and those nearest behind it, up to :data:`GOOD`."""
        spread = np.maximum(np.ptp(self.values, axis=0), 1e-12)
        order = np.argsort(-nearness(self.values, self.values[self.on_front], spread), kind="stable")
        return self.points[order[: max(GOOD, int(self.on_front.sum()))]]

    @property
    def front(self) -> Floats:
        """Their values; empty where no point is inside the limits."""
        return self.values[self.on_front] if self.inside.any() else np.empty((0, self.values.shape[1]))

    @property
    def reference(self) -> Floats:
        """The worst value of every objective on the front, and further: else nothing would be gained by the ends of
        the front that were not seen yet.

        Not the worst that was seen: far beyond the front, the ends would count for more than all that lies between
        them.
        """
        front = self.values[self.on_front]
        span = np.ptp(front, axis=0)
        return np.asarray(front.max(0) + MARGIN * np.where(span > 0, span, np.ptp(self.values, axis=0)))


def _void(trial: FrozenTrial) -> bool:
    """Whether a trial of :class:`nas.search.study.Study` has no outcome of its own: interrupted, or another worker
    had its architecture."""
    return "worker" in trial.user_attrs and "message" not in trial.user_attrs


def key_of(point: Floats) -> tuple[float, ...]:
    """The same for points that differ by rounding only."""
    return keys_of(point[None])[0]


def keys_of(points: Floats) -> list[tuple[float, ...]]:
    return [tuple(row) for row in np.round(points, 9).tolist()]


def _within(trial: FrozenTrial, space: Mapping[str, BaseDistribution]) -> bool:
    return all(name in trial.params and contains(d, trial.params[name]) for name, d in space.items())


def logarithms(values: Floats, log: Sequence[int], signs: Floats) -> Floats:
    out = values.copy()
    for j in log:
        out[:, j] = signs[j] * np.log(np.maximum(signs[j] * values[:, j], 1e-300))
    return out


def _finite(values: Floats) -> Floats:
    """Infinite values become the worst (or best) finite one of their objective."""
    out = values.copy()
    for column in out.T:
        finite = column[np.isfinite(column)]
        column[:] = (
            np.clip(np.nan_to_num(column, nan=np.inf), finite.min(initial=0.0), finite.max(initial=0.0))
            if len(finite) < len(column)
            else column
        )
    return out
