"""The private parts of Optuna that this project needs, for every supported version (4.0 to 5.x).

No other module reads a private name of Optuna; a test holds the tree to that. What each version offers:

========================  ==================  =============================================
need                      Optuna 4            Optuna 5
========================  ==================  =============================================
constraint values         system attributes   ``Trial.set_constraint``, ``FrozenTrial.constraints``
attributes by a sampler   the storage behind a study, private in both
custom journal lock       the base class of the public locks, private in both
calls of a database       the cache in front of it calls some of its private methods in both
value inside a            ``BaseDistribution._contains``, private in both
distribution
========================  ==================  =============================================
"""

from __future__ import annotations

import math
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.storages.journal._file import BaseJournalFileLock as BaseJournalFileLock
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

FIXED_PARAMS = "fixed_params"
"""System attribute of an enqueued trial: its parameters."""
CONSTRAINTS = "constraints"
"""System attribute of constraint values: a list in Optuna 4, ``constraints:NAME`` each in Optuna 5."""

CACHE_CALLS = ("_create_new_trial", "_set_trial_param", "_get_trials", "_get_best_trial_id", "_get_stale_trial_ids")
"""Private methods of ``RDBStorage`` that the cache in front of it calls."""


def storage_of(study: Study) -> BaseStorage:
    """Return the storage behind a study."""
    return study._storage


def frozen_trial(trial: Trial) -> FrozenTrial:
    """Return the trial as a sampler receives it."""
    return trial._cached_frozen_trial


def trial_id(trial: FrozenTrial) -> int:
    """Return the id of a trial in its storage, which is not its number in the study."""
    return trial._trial_id


def set_trial_user_attr(study: Study, trial: Trial | FrozenTrial, key: str, value: Any) -> None:
    """Set a user attribute of a running trial, also through a frozen copy of it."""
    study._storage.set_trial_user_attr(trial._trial_id, key, value)


def set_trial_system_attr(study: Study, trial: FrozenTrial, key: str, value: Any) -> None:
    """Set a system attribute of a running trial, of which a sampler holds only a frozen copy."""
    study._storage.set_trial_system_attr(trial._trial_id, key, value)


def set_constraint(trial: Trial, name: str, value: float) -> None:
    """Set a constraint value of a running trial, feasible at 0 and below. Raises ValueError for NaN."""
    if math.isnan(value):
        raise ValueError(f"constraint {name!r} is NaN; expected a number")
    if hasattr(trial, "set_constraint"):
        trial.set_constraint(name, value)
    else:
        trial.storage.set_trial_system_attr(trial._trial_id, f"{CONSTRAINTS}:{name}", float(value))


def constraints_of(trial: FrozenTrial) -> dict[str, float]:
    """Return the constraint values of a trial by name; those of a ``constraints_func`` are named by their position."""
    if hasattr(trial, CONSTRAINTS):
        return dict(trial.constraints)
    attributes = trial.system_attrs
    listed = {str(i): float(value) for i, value in enumerate(attributes.get(CONSTRAINTS) or ())}
    prefix = f"{CONSTRAINTS}:"
    named = {key[len(prefix) :]: float(value) for key, value in attributes.items() if key.startswith(prefix)}
    return listed | named


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Return whether a distribution holds a parameter value."""
    if isinstance(distribution, CategoricalDistribution) and value not in distribution.choices:
        return False
    return distribution._contains(distribution.to_internal_repr(value))


def is_optunas(sampler: BaseSampler) -> bool:
    """Return whether a sampler is one of Optuna's or derived from one: these keep only random numbers between proposals."""
    return any(c.__module__.startswith("optuna.") and c is not BaseSampler for c in type(sampler).__mro__)
