"""Reading a study without taking part in it: its candidates, and the record of what is searched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from nas.core.estimate import Candidate
from nas.search.storage import open_storage, quiet_optuna, storage_errors
from search_spaces.errors import InputError

RECORD = "run"
"""User attribute of a study: what ``nas worker`` needs to take part."""


def read_candidates(storage: Path | str, name: str) -> Iterator[Candidate]:
    """Yield the evaluated candidates of a study, opened for reading only.

    Raises InputError if the storage is missing, cannot be reached or is damaged.
    """
    with storage_errors(storage), quiet_optuna():
        study = optuna.load_study(study_name=name, storage=open_storage(storage, write=False))
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if "candidate" in trial.user_attrs:
                yield Candidate.from_dict(trial.user_attrs["candidate"])


def read_record(storage: Path | str, name: str | None) -> tuple[str, dict[str, Any]]:
    """Return name and record (:meth:`nas.search.study.Study.describe`) of a study in a storage.

    ``name`` may be None if the storage has one study. Raises InputError if there is no such study or no record.
    """
    with storage_errors(storage), quiet_optuna():
        opened = open_storage(storage, write=False)
        names = optuna.get_all_study_names(opened)
        if name is None and len(names) == 1:
            (name,) = names
        if name not in names:
            there = ", ".join(names[:8]) or "none"
            raise InputError(
                f"no study {name!r} in {storage}" if name else f"{len(names)} studies in {storage}",
                f"--study with one of: {there}",
            )
        record = optuna.load_study(study_name=name, storage=opened).user_attrs.get(RECORD)
    if record is None:
        raise InputError(
            f"the study {name!r} has no record of what is searched yet",
            "a study that nas search has begun",
            "wait until its supernet is trained",
        )
    return name, dict(record)
