"""The trials of a study as arrays, all objectives to be minimised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.core.pareto import non_dominated
from nas.search.optuna_compat import constraints_of, contains
from nas.search.samplers.acquisition import additive_epsilon
from nas.search.samplers.encoding import Encoding
from nas.search.study_history import was_interrupted

Floats = NDArray[np.float64]
Encoded = dict[tuple[str, int], Floats | None]
"""Encoded parameters of ended trials by study and number; None for a trial outside the search space."""

MARGIN = 0.3
"""Distance of the reference point beyond the worst values of the front, as a share of the front's range."""
MIN_PARENTS = 20
"""Observed points that evolution starts from, at least: the front, and the points closest behind it."""


@dataclass(frozen=True)
class History:
    """Trials of a study, other than the one that is asked for.

    Args:
        points: Encoded parameters of the n complete trials, (n, d).
        values: Their objectives, (n, m): to be minimised, logarithms where configured, finite.
        failed: Encoded parameters of failed and pruned trials, (f, d).
        pending: Encoded parameters of running trials, (p, d).
        constraints: Values by name, (n,), feasible at 0 and below; NaN where a trial has none.
        signs: 1 for an objective that the study minimises, -1 for one that it maximises, (m,).
        seen: Keys of all points above.
        number: Number of the trial that is asked for, without the interrupted trials before it: random numbers that
            depend on it are the same after a kill as without it.
    """

    points: Floats
    values: Floats
    failed: Floats
    pending: Floats
    constraints: Mapping[str, Floats]
    signs: Floats
    seen: frozenset[tuple[float, ...]]
    number: int = 0

    @classmethod
    def of(
        cls,
        study: Study,
        own: FrozenTrial,
        encoding: Encoding,
        space: Mapping[str, BaseDistribution],
        log: Sequence[int],
        encoded: Encoded,
    ) -> History:
        """Return the history of a study.

        Args:
            study: The study.
            own: The trial that is asked for; it is left out.
            encoding: Encodes parameters.
            space: Distributions; trials with other parameters are left out.
            log: Positions of objectives that enter by their logarithm.
            encoded: Encodings of ended trials, filled by this call, so that each trial is encoded once.
        """
        signs = np.array([1.0 if d == StudyDirection.MINIMIZE else -1.0 for d in study.directions])
        trials = _encoded_trials(study, own, encoding, space, encoded)
        complete = [(t, row) for t, row in trials if t.state == TrialState.COMPLETE]
        failed = [r for t, r in trials if t.state in (TrialState.FAIL, TrialState.PRUNED) and not _interrupted(t)]
        pending = [row for t, row in trials if t.state == TrialState.RUNNING]
        natural = np.array([t.values for t, _ in complete], np.float64).reshape(-1, len(signs))
        given = [constraints_of(t) for t, _ in complete]
        names = sorted({name for constraints in given for name in constraints})
        shape = (-1, len(encoding.names))
        return cls(
            points=np.array([row for _, row in complete]).reshape(shape),
            values=_finite(logarithms(natural * signs, log, signs)),
            failed=np.array(failed).reshape(shape),
            pending=np.array(pending).reshape(shape),
            constraints={name: np.array([c.get(name, np.nan) for c in given]) for name in names},
            signs=signs,
            seen=frozenset(keys_of(np.array([row for _, row in trials]).reshape(shape))),
            number=numbered(study, own),
        )

    def has(self, point: Floats) -> bool:
        """Return whether a point (d,) is that of a trial."""
        return key_of(point) in self.seen

    def unseen(self, points: Floats) -> Floats:
        """Return those of the points (n, d) that no trial has, each once, in their order."""
        fresh = dict(zip(keys_of(points), points, strict=True))
        return np.array([p for key, p in fresh.items() if key not in self.seen]).reshape(-1, points.shape[1])

    @cached_property
    def feasible(self) -> NDArray[np.bool_]:
        """Which complete trials violate no constraint, (n,)."""
        violated = [constraint > 0 for constraint in self.constraints.values()]  # NaN is not above 0
        return ~np.any(violated, axis=0) if violated else np.ones(len(self.values), bool)

    @cached_property
    def on_front(self) -> NDArray[np.bool_]:
        """Which complete trials are feasible (all, where none is) and not dominated, (n,)."""
        feasible = self.feasible if self.feasible.any() else np.ones(len(self.values), bool)
        mask = np.zeros(len(self.values), bool)
        mask[feasible] = non_dominated(self.values[feasible], ["min"] * self.values.shape[1])
        return mask

    @property
    def front(self) -> Floats:
        """Values of the feasible front, (k, m); empty where no trial is feasible."""
        return self.values[self.on_front] if self.feasible.any() else np.empty((0, self.values.shape[1]))

    @cached_property
    def scale(self) -> Floats:
        """Range of each objective, (m,), above 0."""
        return np.maximum(np.ptp(self.values, axis=0), 1e-12)

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """Complete trials (n,), from the front to the furthest behind it."""
        return np.argsort(-additive_epsilon(self.values, self.values[self.on_front], self.scale), kind="stable")

    @property
    def parents(self) -> Floats:
        """Points of the front and the closest behind it, (k, d).

        ``k`` is at least :data:`MIN_PARENTS`, or the number of complete trials if that is smaller.
        """
        return self.points[self.order[: max(MIN_PARENTS, int(self.on_front.sum()))]]

    @property
    def reference(self) -> Floats:
        """Reference point of the hypervolume, (m,): beyond the worst value of the front in each objective.

        Without a margin, points beyond the ends of the front would add nothing. The worst of all observed values would
        let the ends count for more than everything between them.
        """
        front = self.values[self.on_front]
        span = np.ptp(front, axis=0)
        return np.asarray(front.max(0) + MARGIN * np.where(span > 0, span, np.ptp(self.values, axis=0)))


def _encoded_trials(
    study: Study, own: FrozenTrial, encoding: Encoding, space: Mapping[str, BaseDistribution], encoded: Encoded
) -> list[tuple[FrozenTrial, Floats]]:
    """Return the study's trials inside the space with their encoded parameters (d,)."""
    trials = [t for t in study.get_trials(deepcopy=False) if t.number != own.number]
    new = [t for t in trials if (study.study_name, t.number) not in encoded]
    inside = [t for t in new if _within(t, space)]
    rows = dict(zip([t.number for t in inside], encoding.points([t.params for t in inside]), strict=True))
    encoded.update({(study.study_name, t.number): rows.get(t.number) for t in new if t.state.is_finished()})
    found = [(t, encoded.get((study.study_name, t.number), rows.get(t.number))) for t in trials]
    return [(t, row) for t, row in found if row is not None]


def numbered(study: Study, own: FrozenTrial) -> int:
    """Return the number of a trial without the interrupted trials before it."""
    return own.number - sum(was_interrupted(t) for t in study.get_trials(deepcopy=False)[: own.number])


def _interrupted(trial: FrozenTrial) -> bool:
    """Return whether a trial of :class:`nas.search.study.Study` has no outcome of its own: it was interrupted, or its
    architecture was evaluated or in flight already."""
    return was_interrupted(trial) or "duplicate" in trial.user_attrs


def _within(trial: FrozenTrial, space: Mapping[str, BaseDistribution]) -> bool:
    return all(name in trial.params and contains(d, trial.params[name]) for name, d in space.items())


def key_of(point: Floats) -> tuple[float, ...]:
    """Return a key of a point (d,) that is the same for points that differ by rounding only."""
    return keys_of(point[None])[0]


def keys_of(points: Floats) -> list[tuple[float, ...]]:
    """Return the key of each of the points (n, d)."""
    return [tuple(row) for row in np.round(points, 9).tolist()]


def logarithms(values: Floats, log: Sequence[int], signs: Floats) -> Floats:
    """Return values (n, m), to be minimised, with the columns ``log`` as logarithms of the natural values."""
    out = values.copy()
    for j in log:
        out[:, j] = signs[j] * np.log(np.maximum(signs[j] * values[:, j], 1e-300))
    return out


def _finite(values: Floats) -> Floats:
    """Replace infinite values by the worst (or best) finite one of their objective, NaN by the worst."""
    out = values.copy()
    for column in out.T:
        finite = column[np.isfinite(column)]
        if len(finite) < len(column):
            bounds = finite.min(initial=0.0), finite.max(initial=0.0)
            column[:] = np.clip(np.nan_to_num(column, nan=np.inf), *bounds)
    return out
