"""Any callable as an estimator: a table, a simulator, another program."""

from __future__ import annotations

from collections.abc import Callable

from nas.core.estimate import Estimate, Objective
from nas.estimators.base import Estimator
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError


class Function(Estimator):
    """Wraps ``function(architecture) -> float``.

    An exception of the function is recorded with the candidate, and the search continues.

    Args:
        name: Name of the estimate.
        function: Called with the architecture.
        direction: ``min`` or ``max``. Raises InputError for anything else.
        unit: Unit of the number; objectives in ``ms`` and other units of time count by their logarithm.
        rank: Order of evaluation, low ranks first, so that a bound on a cheap estimate saves the expensive ones.
    """

    def __init__(
        self, name: str, function: Callable[[Architecture], float], direction: str, unit: str = "", rank: int = 0
    ) -> None:
        if direction not in ("min", "max"):
            raise InputError(f"direction {direction!r} of {name}", "min or max")
        self.name, self.unit, self.direction, self.rank = name, unit, direction, rank  # type: ignore[misc]
        self._function = function

    def __call__(self, architecture: Architecture) -> Estimate:
        """Call the function. Raises InputError if the number is not finite."""
        return Estimate(self.name, float(self._function(architecture)), self.unit, source="computed")

    def objective(self) -> Objective:  # type: ignore[override]
        """Return the function as an objective in its direction."""
        return Objective(self.name, self.direction, self.unit)
