"""From a study to the files of its run: the chosen, measured again, and the front, of which the same is written while
the search goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas.core.architecture_file import Artifact, DataRecord, StudyRecord, write_artifact
from nas.core.budgets import Budgets
from nas.core.estimate import Candidate, Estimate
from nas.core.references import NO_DATA
from nas.core.reporter import Reporter
from nas.data.source import DataPair
from nas.estimators.base import Estimator
from nas.plotting.frontier import write_frontier
from nas.plotting.frontier_html import write_frontier_html
from nas.search.baseline import compare
from nas.search.front_confidence import front_confidence
from nas.search.report.front_files import Front, write_front
from nas.search.report.frontier import frontier_data
from nas.search.selection import Selection, confirm, select
from nas.search.settings import SearchSettings
from nas.search.study import Study, TrialEvent
from search_spaces.errors import InputError

LIVE_S = 30.0
"""Between two writings of the front while a search goes on."""


@dataclass(frozen=True)
class SearchResult:
    """What a search gives: everything evaluated, and the chosen."""

    candidates: tuple[Candidate, ...]
    selection: Selection
    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True)
class Bounds:
    """For what S/M/L are chosen: budgets on the cost, or goals for the gain, or neither."""

    budgets: Budgets | None = None
    goals: Budgets | None = None


def conclude(
    settings: SearchSettings,
    study: Study,
    estimators: Sequence[Estimator],
    latency: Estimator,
    classes: tuple[str, ...],
    data: DataPair | None,
    bounds: Bounds,
    folder: Path,
    reporter: Reporter,
) -> SearchResult:
    """Choose, measure the chosen again, write everything."""
    cost, gain = settings.aims.cost, settings.aims.gain
    if not study.archive.front:
        first = study.failures[0][1] if study.failures else "no trial was run"
        raise InputError(
            f"no candidate was evaluated ({len(study.failures)} failed or outside a bound, the first: {first})",
            "at least one",
        )
    reporter.note("measuring the chosen again, each in a fresh process")
    # Every candidate, not the front alone: where noise put a pick over its budget, the next one may lie behind the
    # front.
    again = next((e.remeasure for e in (latency, *estimators) if e.name == cost.name), latency.remeasure)
    selection = confirm(
        select(study.candidates, cost.name, gain.name, bounds.budgets, goals=bounds.goals), lambda c: again(c.point)
    )
    for note in (*selection.notes, *(f"{r.name}: {r.before.id} was replaced, {r.reason}" for r in selection.replaced)):
        reporter.note(note)
    comparisons = {c.name: c for c in compare(settings.baselines, selection)}
    for comparison in comparisons.values():
        reporter.note(str(comparison))
    record = DataRecord(data.name, data.fingerprint) if data else NO_DATA
    artifacts = []
    for pick in selection:
        candidate = (
            pick.candidate
            if cost.name == latency.name
            else pick.candidate.with_estimate(latency.remeasure(pick.candidate.point))
        )
        origin = StudyRecord(settings.study_name(folder), settings.seed, candidate.trial, len(study.candidates))
        gained: tuple[Estimate, ...] = (comparisons[pick.name].speed_up,) if pick.name in comparisons else ()
        precision = candidate.precision or next(iter(settings.targets))
        artifacts.append(
            Artifact(
                pick.name, candidate.architecture, (*candidate.estimates, *gained), origin, classes, record, precision
            )
        )
        write_artifact(folder / f"{pick.name}.json", artifacts[-1])
    notes = _notes(study, selection, reporter)
    write_outputs(settings, study.candidates, study, selection, folder, data.name if data else "", notes)
    return SearchResult(tuple(study.candidates), selection, tuple(artifacts))


def _notes(study: Study, selection: Selection, reporter: Reporter) -> dict[str, Any]:
    """What the search says of itself, told and kept. The chosen count with their newest figures."""
    newest = {pick.candidate.id: pick.candidate for pick in selection}
    records = study.history.records
    replicates = {id_: record.draws for id_, record in records.items()}
    sure = front_confidence([newest.get(c.id, c) for c in study.candidates], study.objectives, replicates)
    for line in sure.lines():
        reporter.note(line)
    saved = study.history.savings
    if saved.stopped or saved.correlations:
        reporter.note(str(saved))
    remarks = list(dict.fromkeys(line for record in records.values() for line in record.remarks))
    for line in remarks:
        reporter.note(line)
    return {"certainty": sure.to_dict(), "early_stop": saved.to_dict(), **({"remarks": remarks} if remarks else {})}


def write_outputs(
    settings: SearchSettings,
    candidates: list[Candidate],
    study: Study,
    selection: Selection,
    folder: Path,
    data_name: str,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """``front.json``, ``front.csv``, ``frontier.html``, ``frontier.png``."""
    archive = study.archive
    chosen = tuple((pick.name, pick.candidate.id) for pick in selection)
    comparisons = compare(settings.baselines, selection)
    write_front(
        folder,
        Front(
            study.objectives, archive.front, chosen, archive.hypervolume, archive.reference, comparisons, notes or {}
        ),
    )
    data = frontier_data(
        candidates,
        settings.aims.cost,
        settings.aims.gain,
        selection=selection,
        target=settings.target_name,
        data_set=data_name,
        hypervolume=archive.hypervolume,
        title=f"Efficiency frontier: {settings.space}",
    )
    write_frontier(folder, data)


@dataclass
class Live:
    """A watcher that writes ``front.json`` and ``frontier.html`` while the search goes on, when the front has
    changed, and passes the event on."""

    settings: SearchSettings
    study: Study
    folder: Path
    data_name: str
    shown: Callable[[TrialEvent], None]
    _written: float = field(default=0.0, init=False)
    _front: tuple[str, ...] = field(default=(), init=False)

    def __call__(self, event: TrialEvent) -> None:
        self.shown(event)
        front = tuple(c.id for c in event.archive.front)
        if front == self._front or time.monotonic() - self._written < LIVE_S:
            return
        archive, aims = event.archive, self.settings.aims
        write_front(
            self.folder, Front(self.study.objectives, archive.front, (), archive.hypervolume, archive.reference)
        )
        title = f"Efficiency frontier: {self.settings.space} ({event.done} of {event.wanted})"
        data = frontier_data(
            self.study.candidates,
            aims.cost,
            aims.gain,
            target=self.settings.target_name,
            data_set=self.data_name,
            hypervolume=archive.hypervolume,
            title=title,
        )
        write_frontier_html(self.folder / "frontier.html", data)
        self._front, self._written = front, time.monotonic()
