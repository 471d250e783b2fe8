"""Reading a study without taking part in it: its candidates, and the record of what is searched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from nas.core.estimate import Candidate, Estimate
from nas.search.storage import open_storage, quiet_optuna, storage_errors, study_file

RECORD = "run"
"""User attribute of a study: the record of what it is about (:mod:`nas.search.study_identity`)."""
REMEASURED = "remeasured"
"""User attribute of a study: id -> the second measurement of the cost of a candidate that was chosen."""
FIRST = "_first"
"""Suffix of the estimate that keeps the first measurement beside the second."""


def with_remeasured(candidates: Iterable[Candidate], remeasured: Mapping[str, Any]) -> list[Candidate]:
    """Return the candidates with second measurements in place of the first ones, which are kept as ``NAME_first``.

    ``remeasured``: the study's user attribute :data:`REMEASURED`.
    """
    found = []
    for candidate in candidates:
        if (data := remeasured.get(candidate.id)) is not None:
            newest = Estimate.from_dict(data)
            first = candidate[newest.name]
            kept = Estimate(
                newest.name + FIRST, first.value, first.unit, first.low, first.high, first.source, first.target
            )
            candidate = candidate.with_estimate(newest).with_estimate(kept)
        found.append(candidate)
    return found


def read_candidates(storage: Path | str, name: str) -> Iterator[Candidate]:
    """Yield the evaluated candidates of a study with their newest measurements; it is opened for reading only.

    Raises InputError if the storage is missing, cannot be reached or is damaged.
    """
    with storage_errors(storage), quiet_optuna():
        study = optuna.load_study(study_name=name, storage=open_storage(storage, write=False))
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        candidates = [Candidate.from_dict(t.user_attrs["candidate"]) for t in trials if "candidate" in t.user_attrs]
        yield from with_remeasured(candidates, study.user_attrs.get(REMEASURED, {}))


def load_readonly(storage: Path | str, name: str) -> optuna.Study | None:
    """Load a study for reading; None if there is no such storage or study."""
    file = study_file(storage)
    if file is not None and not file.is_file():
        return None
    with quiet_optuna():
        opened = open_storage(storage, write=False)
        if name not in optuna.get_all_study_names(opened):
            return None
        return optuna.load_study(study_name=name, storage=opened)


def find_record(storage: Path | str, name: str) -> dict[str, Any] | None:
    """Return the record of a study; None if there is no such storage, study or record.

    Raises InputError if the storage cannot be reached or is damaged.
    """
    with storage_errors(storage):
        study = load_readonly(storage, name)
        record = None if study is None else study.user_attrs.get(RECORD)
    return None if record is None else dict(record)
