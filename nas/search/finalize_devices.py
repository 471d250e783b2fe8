"""The end of a search for several devices: a run for each, and one table of what differs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.core.atomic import atomic_write
from nas.core.csv_text import csv_text
from nas.core.estimate import Candidate
from nas.core.reporter import Reporter
from nas.core.text_table import TextTable
from nas.core.units import label, quantity
from nas.estimators.latency import Latency
from nas.search.devices import Device
from nas.search.estimation import open_estimators
from nas.search.finalize import FinishedStudy, finalize_run
from nas.search.finished_run import finished_result
from nas.search.measure_baseline import with_measured_budgets
from nas.search.plan import SearchPlan
from nas.search.result import SearchResult
from nas.search.run_supernet import SupernetSource
from nas.search.study import Study
from nas.search.study_history import was_pruned
from nas.search.study_identity import identity_of

TABLE = "devices.csv"


def finalize_devices(
    done: FinishedStudy, source: SupernetSource | None, reporter: Reporter
) -> list[tuple[Device, SearchResult]]:
    """Make a run of every device in a folder of its own, with its front, S, M, L and plot.

    Args:
        done: The study of all devices.
        source: The supernet; None without.
        reporter: Receives notes and progress.
    """
    found = []
    for device in done.plan.devices:
        reporter.note(f"device {device}: {done.folder / device.name}")
        with device.measured():
            found.append((device, _finalize(done, device, source, reporter)))
    table = device_table(done.study, found)
    rows = (dict(zip(table.headers, row, strict=True)) for row in table.rows)
    atomic_write(done.folder / TABLE, csv_text(table.headers, rows))
    return found


def _finalize(done: FinishedStudy, device: Device, source: SupernetSource | None, reporter: Reporter) -> SearchResult:
    """Make the run of one device from its trials, and choose and measure S, M and L there."""
    settings, folder, study = done.plan.settings, done.folder / device.name, done.study
    supernet = None if source is None else str(source.path.resolve())
    own = replace(settings, target=str(device.target), on=device.on, others=(), storage=None, supernet=supernet)
    plan = SearchPlan.parse(replace(own, name=device.name, trials=len(study.history.known), stop=None))
    folder.mkdir(exist_ok=True)
    if (result := finished_result(plan, folder)) is not None:
        return result
    plan = with_measured_budgets(plan, len(done.classes), done.data, reporter)
    plan.settings.write(folder)
    weights = done.estimators.supernet
    with open_estimators(plan, len(done.classes), done.data, weights) as estimators:
        storage, sampler = plan.settings.storage_of(folder), plan.settings.sampler
        derived = Study(storage, device.name, plan.points, plan.objectives, sampler, plan.settings.seed)
        with derived.driver:
            derived.describe(identity_of(plan, done.data, None if source is None else source.path).to_dict())
            derived.adopt(trials_of(study, device))
            return finalize_run(FinishedStudy(plan, derived, estimators, done.classes, done.data, folder), reporter)


def trials_of(study: Study, device: Device) -> list[FrozenTrial]:
    """Return the trials of a study of several devices as those of one device."""
    place = [o.name for o in study.objectives].index(device.estimate)
    distributions = study.parameters.distributions
    return [
        _trial_of(trial, number, device, place, distributions)
        for number, trial in enumerate(study.history.known.values())
    ]


def _trial_of(
    trial: FrozenTrial, number: int, device: Device, place: int, distributions: dict[str, BaseDistribution]
) -> FrozenTrial:
    attributes: dict[str, Any] = {
        key: trial.user_attrs[key] for key in ("architecture", "course", "message") if key in trial.user_attrs
    }
    values = None
    if trial.state == TrialState.COMPLETE:
        values = [trial.values[place], trial.values[-1]]
        if not was_pruned(trial):
            attributes["candidate"] = _on(Candidate.from_dict(trial.user_attrs["candidate"]), device, number).to_dict()
    return create_trial(
        state=trial.state, values=values, params=trial.params, distributions=distributions, user_attrs=attributes
    )


def _on(candidate: Candidate, device: Device, number: int | None) -> Candidate:
    """Return a candidate with the latency of one device, under its usual name."""
    others = [e for e in candidate.estimates if not e.name.startswith(Latency.name)]
    own = replace(candidate[device.estimate], name=Latency.name)
    return replace(candidate, estimates=(*others[:2], own, *others[2:]), trial=number)


def read_device_table(folder: Path) -> TextTable:
    """Return the table of what differs from the folder of a run."""
    headers, *rows = csv.reader((folder / TABLE).read_text(encoding="utf-8").splitlines())
    return TextTable(tuple(headers), tuple(map(tuple, rows)), left=3)


def device_table(study: Study, found: Sequence[tuple[Device, SearchResult]]) -> TextTable:
    """Return the table of what differs: every pick of every device, with its latency on all of them."""
    by_id = {c.id: c for c in study.candidates}
    gain = study.objectives[-1].name
    rows = []
    for device, result in found:
        for pick in result.selection:
            latencies = []
            for other, _ in found:
                own = other.number == device.number
                estimate = pick.candidate[Latency.name] if own else by_id[pick.candidate.id][other.estimate]
                latencies.append(quantity(replace(estimate, name=Latency.name), False))
            accuracy = quantity(pick.candidate[gain], False)
            rows.append((str(device), pick.name, pick.candidate.id, accuracy, *latencies))
    devices = tuple(f"on {device}" for device, _ in found)
    return TextTable(("device", "", "architecture", label(gain), *devices), tuple(rows), left=3)
