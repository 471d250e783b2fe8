"""The end of a search: S, M and L are chosen, measured again, compared with reference models, and written with the
front. All files and images of a run hold the same values: the newest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nas.core.architecture_file import Artifact, DataRecord, StudyRecord, write_artifact
from nas.core.atomic import atomic_write
from nas.core.estimate import Candidate, Estimate
from nas.core.pareto import Archive
from nas.core.references import NO_DATA
from nas.core.reporter import Reporter
from nas.data.source import DataPair
from nas.plotting.frontier import write_frontier
from nas.search.baseline import Comparison
from nas.search.chosen_files import free_folder, point_to
from nas.search.confirmation import confirm
from nas.search.estimation import SearchEstimators
from nas.search.evaluate_candidate import Bound
from nas.search.finished_run import LIMITS, remove_stale
from nas.search.front_confidence import front_confidence
from nas.search.plan import SearchPlan
from nas.search.report.front_files import Front, front_csv, write_front
from nas.search.report.frontier import frontier_data
from nas.search.result import SearchResult
from nas.search.selection import Selection, select
from nas.search.side_by_side import compare_side_by_side
from nas.search.study import Study
from nas.search.study_reader import FIRST
from search_spaces.errors import InputError


@dataclass(frozen=True)
class FinishedStudy:
    """A study whose candidates are evaluated.

    Args:
        plan: The plan.
        study: The study.
        estimators: Open estimators, for second measurements.
        classes: Class names.
        data: Data set; None without.
        folder: Folder of the run.
    """

    plan: SearchPlan
    study: Study
    estimators: SearchEstimators
    classes: tuple[str, ...]
    data: DataPair | None
    folder: Path


def finalize(done: FinishedStudy, reporter: Reporter, out: Path | None = None) -> SearchResult:
    """Choose S, M and L, measure them again, and write all files.

    Args:
        done: The study.
        reporter: Receives notes and progress.
        out: Folder of the files, by default the run's; a numbered one in it if the folder has trained weights of other
            architectures.

    Raises InputError if no candidate was evaluated, or none meets any budget or goal.
    """
    study, plan = done.study, done.plan
    if not study.archive.front:
        messages = [message for _, message in study.failures]
        raise InputError(
            f"no candidate was evaluated ({len(messages)} failed or outside a bound, "
            f"the first: {messages[0] if messages else 'no trial was run'})",
            "at least one",
            looser_bounds(plan.bounds, messages),
        )
    selection = _confirmed_selection(done, reporter)
    comparisons = compare_side_by_side(plan, selection, done.estimators, len(done.classes), done.data, reporter)
    for comparison in comparisons:
        reporter.note(str(comparison))
    artifacts = tuple(
        _artifact(done, name, candidate, comparisons)
        for name, candidate in _with_latency(done, selection, reporter).items()
    )
    asked = out or done.folder
    folder = free_folder(asked, artifacts)
    if folder != asked:
        reporter.note(f"{asked} has trained weights of other architectures: the files go to {folder}")
    remove_stale(folder, artifacts)
    for artifact in artifacts:
        write_artifact(folder / f"{artifact.name}.json", artifact)
    notes = {LIMITS: {"budgets": plan.settings.budgets, "at_least": plan.settings.at_least}, **_notes(done, reporter)}
    _write_front(done, folder, selection, comparisons, notes)
    return SearchResult(tuple(study.newest_candidates), selection, artifacts, folder)


def finalize_run(done: FinishedStudy, reporter: Reporter) -> SearchResult:
    """Choose as :func:`finalize`, and make the selection the run's own, wherever its files are."""
    result = finalize(done, reporter)
    if result.folder != done.folder:
        point_to(done.folder, result.folder)
    return result


def looser_bounds(bounds: Sequence[Bound], messages: Sequence[str]) -> str:
    """Return the advice to loosen the bounds that candidates violate, with the value that came nearest to each.

    ``messages`` are those of the candidates that failed or are outside a bound. Empty if no bound was violated.
    """
    lines = []
    for bound in bounds:
        values = [found for message in messages if (found := bound.violation(message)) is not None]
        if values:
            lines.append(f"{bound} (nearest: {min(values) if bound.at_most else max(values):.4g})")
    return f"search anew with a looser bound than {', '.join(lines)}" if lines else ""


def _confirmed_selection(done: FinishedStudy, reporter: Reporter) -> Selection:
    """Choose among all candidates, not only the front: if noise put a pick over its budget, the next one may be behind
    the front. The second measurements are kept in the study."""
    plan, study = done.plan, done.study
    cost, limits = plan.aims.cost, plan.limits
    measuring = done.estimators.of(cost.name)
    known = study.remeasured
    newest = [_without_first(c) for c in study.newest_candidates]
    chosen = select(newest, cost.name, plan.aims.gain.name, limits.budgets, goals=limits.goals)
    with reporter.steps("measuring the chosen again, each in a fresh process") as update:
        measured = 0

        def remeasure(candidate: Candidate) -> Estimate:
            nonlocal measured
            if candidate.id in known:  # by an earlier selection from this study
                return candidate[cost.name]
            update(measured, max(len(chosen), measured + 1), candidate.id)
            estimate = measuring.remeasure(candidate.point)
            measured += 1
            study.keep_remeasured(candidate.id, estimate)
            update(measured, max(len(chosen), measured), candidate.id)
            return estimate

        selection = confirm(chosen, remeasure)
    replaced = (f"{r.name}: {r.before.id} was replaced, {r.reason}" for r in selection.replaced)
    for note in (*selection.notes, *replaced):
        reporter.note(note)
    return selection


def _without_first(candidate: Candidate) -> Candidate:
    """Return the candidate without the first measurement that is kept beside the second."""
    return replace(candidate, estimates=tuple(e for e in candidate.estimates if not e.name.endswith(FIRST)))


def _with_latency(done: FinishedStudy, selection: Selection, reporter: Reporter) -> dict[str, Candidate]:
    """Return the chosen by name; their latency is measured again where another cost has decided."""
    chosen, latency = {pick.name: pick.candidate for pick in selection}, done.estimators.latency
    if done.plan.aims.cost.name == latency.name:
        return chosen
    with reporter.steps("measuring the latency of the chosen") as update:
        for measured, (name, candidate) in enumerate(chosen.items()):
            update(measured, len(chosen), candidate.id)
            chosen[name] = candidate.with_estimate(latency.remeasure(candidate.point))
        update(len(chosen), len(chosen), "")
    return chosen


def _artifact(done: FinishedStudy, name: str, candidate: Candidate, comparisons: tuple[Comparison, ...]) -> Artifact:
    plan = done.plan
    gained = tuple(c.speed_up for c in comparisons if c.name == name)
    origin = StudyRecord(
        plan.settings.study_name(done.folder), plan.settings.seed, candidate.trial, len(done.study.candidates)
    )
    record = DataRecord(done.data.name, done.data.fingerprint) if done.data else NO_DATA
    precision = candidate.precision or plan.target.precision
    estimates = (*candidate.estimates, *gained)
    return Artifact(name, candidate.architecture, estimates, origin, done.classes, record, precision)


def _notes(done: FinishedStudy, reporter: Reporter) -> dict[str, Any]:
    """Report and return the confidence of the front, what pruning saved, and remarks of the estimates."""
    study = done.study
    records = study.history.records
    replicates = {id_: record.draws for id_, record in records.items()}
    confidence = front_confidence(study.newest_candidates, study.objectives, replicates)
    savings = study.history.savings
    remarks = list(dict.fromkeys(line for record in records.values() for line in record.remarks))
    for line in (*confidence.lines(), *([str(savings)] if savings.stopped or savings.correlations else ()), *remarks):
        reporter.note(line)
    notes: dict[str, Any] = {"certainty": confidence.to_dict(), "early_stop": savings.to_dict()}
    return {**notes, "remarks": remarks} if remarks else notes


def newest_archive(study: Study) -> Archive:
    """Return the front of all candidates at their newest measurements, with the study's reference point."""
    log = tuple(o.name for o in study.objectives if o.logarithmic)
    archive = Archive(study.objectives, reference=study.archive.reference, log=log)
    for candidate in study.newest_candidates:
        archive.add(candidate)
    return archive


def _write_front(
    done: FinishedStudy,
    folder: Path,
    selection: Selection,
    comparisons: tuple[Comparison, ...],
    notes: Mapping[str, Any],
) -> None:
    """Write ``front.json``, ``front.csv``, ``candidates.csv``, ``frontier.html`` and ``frontier.png``."""
    plan, study = done.plan, done.study
    archive, candidates = newest_archive(study), study.newest_candidates
    chosen = tuple((pick.name, pick.candidate.id) for pick in selection)
    write_front(
        folder,
        Front(study.objectives, archive.front, chosen, archive.hypervolume, archive.reference, comparisons, notes),
    )
    atomic_write(folder / "candidates.csv", front_csv(candidates, dict(chosen)))
    data = frontier_data(
        candidates,
        plan.aims.cost,
        plan.aims.gain,
        selection=selection,
        target=plan.target_name,
        data_set=done.data.name if done.data else "",
        hypervolume=archive.hypervolume,
        title=f"Efficiency frontier: {plan.settings.space}",
    )
    write_frontier(folder, data)
