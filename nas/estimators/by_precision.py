"""One estimator for a search in which the precision is a choice: each candidate is asked of the estimator made for
its precision's target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nas.core.estimate import Estimate
from nas.core.precision_choice import split
from nas.estimators.base import Estimator
from search_spaces.architecture import Architecture


class ByPrecision(Estimator):
    """``made``: estimators of one kind by precision. It is asked with points (:mod:`nas.core.precision_choice`); they
    are asked with architectures."""

    def __init__(self, made: Mapping[str, Estimator]) -> None:
        first = next(iter(made.values()))
        super().__init__(first.context)
        self.name = first.name  # type: ignore[misc]
        self.unit = first.unit  # type: ignore[misc]
        self.direction = first.direction  # type: ignore[misc]
        self.rank = first.rank  # type: ignore[misc]
        self.cheap = first.cheap  # type: ignore[misc]
        self._made = dict(made)
        self._asked = first

    def __call__(self, point: Architecture) -> Estimate:
        return self._of(point)(split(point)[0])

    def rungs(self, point: Architecture) -> Iterator[Estimate]:
        yield from self._of(point).rungs(split(point)[0])

    def again(self, point: Architecture) -> Estimate:
        return self._of(point).again(split(point)[0])

    def _of(self, point: Architecture) -> Estimator:
        _, precision = split(point)
        assert precision is not None
        self._asked = self._made[precision]
        return self._asked

    @property
    def draws(self) -> Sequence[float]:
        return self._asked.draws

    @property
    def remarks(self) -> Sequence[str]:
        return [line for estimator in self._made.values() for line in estimator.remarks]

    def close(self) -> None:
        for estimator in self._made.values():
            estimator.close()


def by_precision(made: Mapping[str, Estimator]) -> Estimator:
    """One that answers for all of them; where there is one only, that one."""
    return ByPrecision(made) if len(made) > 1 else next(iter(made.values()))
