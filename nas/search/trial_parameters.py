"""Translation between points of a search and the parameters of Optuna's trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial

from nas.core.precision_choice import id_of
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace


class TrialParameters:
    """The parameters of a space: one per choice that has several values.

    The parameter of an ordered choice is the index into its values, of any other the value itself.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self.choices = {c.name: c for c in space.choices if len(c.values) > 1}

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Distribution of every parameter by name."""
        return {
            name: IntDistribution(0, len(c.values) - 1) if c.ordered else CategoricalDistribution(c.values)
            for name, c in self.choices.items()
        }

    def point(self, params: Mapping[str, Any]) -> Architecture:
        """Return the point with these parameters; a choice without one has its only value."""
        values = {}
        for c in self._space.choices:
            if c.name not in params:
                values[c.name] = c.values[0]
            else:
                values[c.name] = c.values[params[c.name]] if c.ordered else params[c.name]
        return self._space.architecture(**values)

    def params(self, point: Architecture) -> dict[str, Any]:
        """Return the parameters of a point."""
        return {name: c.index(point[name]) if c.ordered else point[name] for name, c in self.choices.items()}

    def are_complete(self, params: Mapping[str, Any]) -> bool:
        """Return whether there is a value for every parameter and for nothing else."""
        return params.keys() == self.choices.keys()

    def claim(self, trial: FrozenTrial) -> str | None:
        """Return the id of the point that an unfinished trial is about; None if it is not decided yet."""
        if id_ := trial.user_attrs.get("architecture"):
            return str(id_)
        fixed = trial.system_attrs.get("fixed_params", {})
        return id_of(self.point(fixed)) if self.are_complete(fixed) else None
