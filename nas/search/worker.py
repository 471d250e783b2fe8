"""One more process for a search that is under way elsewhere."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latency_db.core.target import Target
from nas.core.compute import device_of
from nas.core.reporter import Reporter
from nas.search.progress import search_progress
from nas.search.run import bounds_of, check_device, device_id, evaluation, given_supernet, open_study, warm_start
from nas.search.settings import SearchSettings
from nas.search.study_reader import read_record
from nas.training.data import open_training_data
from search_spaces.errors import InputError


@dataclass(frozen=True)
class WorkerOverrides:
    """What a worker has of its own, where it is not as the search has it: paths and devices (None: as the search)."""

    data: str | None = None
    supernet: str | None = None
    latency_db: str | None = None
    target: str | None = None
    device: str | None = None

    def given(self) -> dict[str, Any]:
        """Those that differ."""
        return {name: value for name, value in vars(self).items() if value is not None}


def work(storage: Path | str, name: str | None, own: WorkerOverrides, reporter: Reporter) -> int:
    """Evaluate candidates of a study until it has as many as its search wanted; how many were evaluated here.

    Everything comes from the study itself. InputError where the data set, the target's precision or the device are
    not those of the search.
    """
    name, record = read_record(storage, name)
    try:
        asked = SearchSettings.from_dict(record["settings"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"the study {name!r} was begun by another version ({type(error).__name__}: {error})") from None
    settings = replace(asked, **own.given())
    here, there = Target.parse(settings.target), Target.parse(asked.target)
    if replace(here, device=there.device) != there:
        raise InputError(f"--target {settings.target}", f"{asked.target}, as the search, on a device of this machine")
    if settings.supernet and not Path(settings.supernet).is_file():
        raise InputError(
            f"no supernet at {settings.supernet}",
            "the file that the search trained",
            "copy it here and name it: --supernet FILE",
        )
    settings.check()
    check_device(record, device_id(settings))
    data = open_training_data(settings.data, settings.limit, reporter) if settings.data else None
    if (data.fingerprint if data else None) != record["data"]:
        raise InputError(
            f"data set {settings.data} is not the one of the search",
            "the same images and boxes",
            "name it: --data PATH",
        )
    space = settings.open_space()
    supernet = None
    if settings.trains:
        supernet = given_supernet(settings, space, data, Path())
        assert supernet is not None
        supernet = supernet.to(device_of(settings.device))
    study = open_study(settings, storage, name, bounds_of(settings))
    own_work = 0

    def watch(event: Any) -> None:
        nonlocal own_work
        own_work += 1
        shown(event)

    with (
        tempfile.TemporaryDirectory() as scratch,
        evaluation(
            settings, len(data.classes) if data else settings.num_classes or 80, data, supernet, Path(scratch)
        ) as (estimators, _),
    ):
        warm_start(study, estimators, settings, reporter)
        with search_progress(reporter) as shown:
            study.run(estimators, settings.trials, watch, (), settings.early_stop, settings.open_stop())
    return own_work
