"""Any callable as an estimator: a table, a simulator, another program."""

from __future__ import annotations

from collections.abc import Callable

from nas.core.estimate import Estimate, Objective
from nas.estimators.base import Estimator
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError


class Function(Estimator):
    """``function(architecture)`` is a number; whatever it raises is recorded with the candidate, and the search goes
    on.

    ``direction`` is ``min`` or ``max``. Of the unit ``ms`` the logarithm counts. ``rank``: those of lower rank are
    asked first, so that a bound on a cheap one spares the dear ones.
    """

    def __init__(
        self, name: str, function: Callable[[Architecture], float], direction: str, unit: str = "", rank: int = 0
    ) -> None:
        if direction not in ("min", "max"):
            raise InputError(f"direction {direction!r} of {name}", "min or max")
        self.name, self.unit, self.direction, self.rank = name, unit, direction, rank  # type: ignore[misc]
        self._function = function

    def __call__(self, architecture: Architecture) -> Estimate:
        return Estimate(self.name, float(self._function(architecture)), self.unit, source="computed")

    def objective(self) -> Objective:  # type: ignore[override]
        return Objective(self.name, self.direction, self.unit)
