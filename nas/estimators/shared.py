"""Evaluators that several estimators of one run share: one evaluation gives mAP, mAP50 and the mAP of small objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.estimators.supernet_evaluation import EvaluationImages, SupernetEvaluator


class SharedEvaluators:
    """Evaluators of a run, each made when an estimator first asks for it.

    Contexts of one run that differ only in the precision of the target hold the same instance.
    """

    def __init__(self) -> None:
        self._images: EvaluationImages | None = None
        self._supernet: dict[str | None, SupernetEvaluator] = {}
        self._nominal_ms: dict[tuple[str, ...], float] = {}

    def images(self, make: Callable[[], EvaluationImages]) -> EvaluationImages:
        """Return the decoded images of recalibration and evaluation; ``make`` is called the first time."""
        if self._images is None:
            self._images = make()
        return self._images

    def supernet(self, target: str | None, make: Callable[[], SupernetEvaluator]) -> SupernetEvaluator:
        """Return the evaluator of subnets in floating point (None) or in the precision of a target."""
        if target not in self._supernet:
            self._supernet[target] = make()
        return self._supernet[target]

    def nominal_ms(self, targets: tuple[str, ...], look_up: Callable[[], float | None]) -> float | None:
        """Return the reference model's nominal time in ms over ``targets``; ``look_up`` is called until it is known."""
        if targets not in self._nominal_ms and (found := look_up()) is not None:
            self._nominal_ms[targets] = found
        return self._nominal_ms.get(targets)
