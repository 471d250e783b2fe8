"""One more process for a search that runs elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latency_db.core.target import Target
from nas.core.reporter import Reporter
from nas.search.estimation import open_estimators
from nas.search.plan import SearchPlan
from nas.search.run import open_study, run_study
from nas.search.run_supernet import open_supernet, supernet_source
from nas.search.study_identity import StudyIdentity, identity_of
from nas.search.study_reader import read_record
from nas.training.data import open_training_data
from search_spaces.errors import InputError


@dataclass(frozen=True)
class WorkerOverrides:
    """Paths and devices of a worker that differ from those of the search (None: as the search)."""

    data: str | None = None
    supernet: str | None = None
    latency_db: str | None = None
    target: str | None = None
    device: str | None = None

    def given(self) -> dict[str, Any]:
        """Return the overrides that are not None."""
        return {name: value for name, value in vars(self).items() if value is not None}


def work(storage: Path | str, name: str | None, overrides: WorkerOverrides, reporter: Reporter) -> int:
    """Evaluate candidates of a study until it has as many as its search wants; return how many were evaluated here.

    Everything but the overrides comes from the study. Raises InputError if data set, supernet, precision of the target
    or device are not those of the search.

    Args:
        storage: Journal file or URL of the study.
        name: Name of the study; None if the storage has one only.
        overrides: What differs on this machine.
        reporter: Receives notes and progress.
    """
    name, record = read_record(storage, name)
    kept = StudyIdentity.from_dict(record, name)
    settings = replace(kept.settings, **overrides.given())
    here, there = Target.parse(settings.target), Target.read(kept.settings.target)
    if replace(here, device=there.device) != there:
        raise InputError(f"--target {settings.target}", f"{there}, as the search, on a device of this machine")
    if settings.supernet and not Path(settings.supernet).is_file():
        raise InputError(
            f"no supernet at {settings.supernet}",
            "the file that the search trained",
            "copy it here and name it: --supernet FILE",
        )
    plan = SearchPlan.parse(settings).check()
    identity = identity_of(plan, None, Path(settings.supernet) if settings.supernet else None)
    identity.check_device(kept)
    data = open_training_data(settings.data, settings.limit, reporter) if settings.data else None
    if (data.fingerprint if data else None) != kept.data:
        raise InputError(
            f"data set {settings.data} is not the one of the search",
            "the same images and boxes",
            "name it: --data PATH",
        )
    if identity.weights and kept.weights and identity.weights != kept.weights:
        raise InputError(
            f"{settings.supernet} is not the supernet of the search", "the same weights", "name them: --supernet FILE"
        )
    source = supernet_source(plan, data, Path()) if plan.needs_supernet and data is not None else None
    supernet = open_supernet(plan, source, data, reporter) if source is not None and data is not None else None
    study = open_study(plan, storage, name)
    num_classes = len(data.classes) if data else settings.num_classes or 80
    with open_estimators(plan, num_classes, data, supernet) as estimators:
        return run_study(study, plan, estimators, reporter)
