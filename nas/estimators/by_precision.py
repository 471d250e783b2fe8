"""Estimators for a search in which the precision is a choice: one per precision behind one interface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nas.core.estimate import Estimate
from nas.core.precision_choice import split
from nas.estimators.base import Estimator
from search_spaces.architecture import Architecture


class ByPrecision(Estimator):
    """Passes each candidate to the estimator made for its precision's target.

    Its arguments are points of the search (:mod:`nas.core.precision_choice`); the estimators by precision in
    ``made`` receive architectures.
    """

    def __init__(self, made: Mapping[str, Estimator]) -> None:
        first = next(iter(made.values()))
        super().__init__(first.context)
        self.name = first.name  # type: ignore[misc]
        self.unit = first.unit  # type: ignore[misc]
        self.direction = first.direction  # type: ignore[misc]
        self.rank = first.rank  # type: ignore[misc]
        self.cheap = first.cheap  # type: ignore[misc]
        self.role = first.role  # type: ignore[misc]
        self._made = dict(made)

    def __call__(self, point: Architecture) -> Estimate:
        """Return the estimate of a point at its precision."""
        return self._estimator_of(point)(split(point)[0])

    def rungs(self, point: Architecture) -> Iterator[Estimate]:
        """Yield the rungs of the estimator of the point's precision."""
        yield from self._estimator_of(point).rungs(split(point)[0])

    def remeasure(self, point: Architecture) -> Estimate:
        """Return the estimate of a chosen point, measured again at its precision."""
        return self._estimator_of(point).remeasure(split(point)[0])

    def split_half(self, point: Architecture) -> tuple[float, float] | None:
        """Return the estimates on both halves of the data at the point's precision."""
        return self._estimator_of(point).split_half(split(point)[0])

    def _estimator_of(self, point: Architecture) -> Estimator:
        _, precision = split(point)
        assert precision is not None
        return self._made[precision]

    def close(self) -> None:
        """Close the estimators of all precisions."""
        for estimator in self._made.values():
            estimator.close()


def by_precision(made: Mapping[str, Estimator]) -> Estimator:
    """Return one estimator for all precisions; the only one if there is one."""
    return ByPrecision(made) if len(made) > 1 else next(iter(made.values()))
