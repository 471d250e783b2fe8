"""All facts of a report as one JSON-ready value; the page shows nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from latency_db.core.measurement import LatencyKey, Measurement
from nas.core.architecture_file import Artifact, DataRecord, StudyRecord
from nas.core.atomic import atomic_write
from nas.core.estimate import Candidate, Estimate
from nas.core.references import NO_DATA, unnamed_classes
from nas.core.reporter import Reporter
from nas.core.units import label
from nas.estimators import ESTIMATORS
from nas.search.chosen_files import chosen_files
from nas.search.explain.explanation import explanation_of
from nas.search.explain.importance import importances
from nas.search.explain.run_data import RunData, read_run, without_first
from nas.search.explain.search_history import search_history
from nas.search.explain.surrogate import RunSurrogates
from nas.search.explain.trust import manifest, measurements_of, trust, why_not_here
from nas.search.run_report.network_diagram import network_parts, with_differences
from nas.search.run_report.operations import Operations, operations_of
from nas.search.run_report.stock import DEFAULT, stock_networks
from search_spaces.errors import InputError
from search_spaces.json_checks import read_json
from search_spaces.text import json_text

REPORT_SCHEMA = 1
REPORT_FILE = "report.json"
P99 = "latency_p99_ms"


@dataclass(frozen=True)
class ReportConfig:
    """What a report contains.

    Args:
        stock: Names of stock networks to measure as references.
        profile: Whether the chosen networks are profiled on the target.
        explain: Whether counterfactuals and importances are computed; a live view leaves them out.
    """

    stock: tuple[str, ...] = DEFAULT
    profile: bool = True
    explain: bool = True


def report_facts(folder: Path, config: ReportConfig, reporter: Reporter) -> dict[str, Any]:
    """Return the facts of a run's report, JSON-ready (``nas/core/schemas/report.schema.json``).

    Measures stock networks and profiles the chosen networks if the config says so, and these are not known already.
    Raises InputError if the folder holds no run, or no candidate was evaluated yet.
    """
    run = read_run(folder)
    rows = measurements_of(run)
    elsewhere = why_not_here(run, rows)
    operations = _operations(run, config, elsewhere, reporter)
    stock = stock_networks(run, config.stock, elsewhere, reporter)
    picks = list(run.selection or ())
    explanations, importance, note = _explanations(run) if config.explain else ([], [], "")
    parts = with_differences([network_parts(run, p.candidate) for p in picks])
    figures = trust(run, rows)
    return {
        "schema": REPORT_SCHEMA,
        "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "run": _run_facts(run),
        "columns": _columns(run, rows),
        "candidates": _candidates(run, rows),
        "picks": [_pick(run, p.name, p.candidate, p.budget) for p in picks],
        "artifact": _template(run).to_dict(),
        "stock": [s.to_dict() for s in stock],
        "explanations": explanations,
        "importance": importance,
        "explain_note": note,
        "networks": [
            {"name": p.name, "id": p.candidate.id, "parts": [part.to_dict() for part in own]}
            for p, own in zip(picks, parts, strict=True)
        ],
        "operations": operations.to_dict(),
        "search": search_history(run).to_dict(),
        "trust": {**figures.to_dict(), "manifest": manifest(figures.files)},
    }


def write_facts(path: Path, facts: Mapping[str, Any]) -> Path:
    """Write the facts as JSON, whole or not at all; return the path."""
    return atomic_write(path, json_text(facts, indent=1) + "\n")


def _operations(run: RunData, config: ReportConfig, elsewhere: str, reporter: Reporter) -> Operations:
    kept = _kept_operations(run.folder / REPORT_FILE)
    if config.profile:
        return operations_of(run, elsewhere, reporter, kept)
    return kept or Operations({}, None, "not profiled")


def _kept_operations(path: Path) -> Operations | None:
    """Return the profiles of an earlier report; None without one of this version."""
    if not path.exists():
        return None
    try:
        data = read_json(path)
        if not isinstance(data, dict) or data.get("schema") != REPORT_SCHEMA:
            return None
        return Operations.from_dict(data["operations"])
    except (InputError, KeyError, TypeError, ValueError):
        return None  # a damaged report is written anew


def _explanations(run: RunData) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
    """Return explanations of the picks, importances of the choices, and why there are none."""
    try:
        surrogates = RunSurrogates(run)
    except InputError as error:
        return [], [], str(error)
    found = [explanation_of(run, p.name, p.candidate, surrogates).to_dict() for p in run.selection or ()]
    return found, [i.to_dict() for i in importances(run)], ""


def _run_facts(run: RunData) -> dict[str, Any]:
    settings = run.plan.settings
    front = run.front_file
    artifact = run.artifacts[0] if run.artifacts else None
    return {
        "name": settings.study_name(run.folder),
        "folder": str(run.folder),
        "space": settings.space,
        "architectures": run.plan.points.size,
        "target": run.plan.target_name,
        "data": settings.data or "",
        "data_fingerprint": artifact.data.fingerprint if artifact else "",
        "classes": list(artifact.classes if artifact else unnamed_classes(run.num_classes)),
        "finished": front is not None and bool(run.artifacts),
        "trials": settings.trials,
        "accuracy": settings.accuracy,
        "cost": run.cost.name,
        "gain": run.gain.name,
        "budgets": settings.budgets,
        "at_least": settings.at_least,
        "comparisons": [str(c) for c in front.comparisons] if front else [],
        "notes": list(run.selection.notes) if run.selection else [],
        "choices": [{"name": c.name, "values": list(c.values), "ordered": c.ordered} for c in run.plan.points.choices],
    }


def _columns(run: RunData, rows: Sequence[tuple[LatencyKey, Measurement]]) -> list[dict[str, Any]]:
    """Return the estimates that an axis may show: name, label, unit and direction."""
    directions = {ESTIMATORS[name].name: ESTIMATORS[name].direction for name in ESTIMATORS}
    directions |= {o.name: o.direction for o in run.plan.objectives}
    found: dict[str, dict[str, Any]] = {}
    for candidate in run.candidates:
        for e in without_first(candidate).estimates:
            if e.name.startswith("speedup_over_"):
                continue
            found.setdefault(
                e.name,
                {"name": e.name, "label": label(e.name), "unit": e.unit, "direction": directions.get(e.name, "min")},
            )
    if rows and P99 not in found:
        found[P99] = {"name": P99, "label": "Latency, 99th percentile", "unit": "ms", "direction": "min"}
    first = (run.cost.name, run.gain.name)
    return sorted(found.values(), key=lambda c: first.index(c["name"]) if c["name"] in first else 2)


def _candidates(run: RunData, rows: Sequence[tuple[LatencyKey, Measurement]]) -> list[dict[str, Any]]:
    front = {c.id for c in run.front}
    tails = _tail_latencies(run, rows)
    found = []
    for c in run.candidates:
        own = without_first(c)
        estimates = {e.name: _figure(e) for e in own.estimates}
        if c.id in tails and P99 not in estimates:
            estimates[P99] = _figure(tails[c.id])
        found.append(
            {
                "id": c.id,
                "trial": c.trial,
                "precision": c.precision,
                "on_front": c.id in front,
                "estimates": estimates,
                "choices": dict(c.architecture.choices),
                "architecture": c.architecture.id,
            }
        )
    return found


def _figure(e: Estimate) -> dict[str, Any]:
    return {"value": e.value, "low": e.low, "high": e.high, "unit": e.unit, "source": e.source, "target": e.target}


def _tail_latencies(run: RunData, rows: Sequence[tuple[LatencyKey, Measurement]]) -> dict[str, Estimate]:
    """Return the 99th percentile of the latency by id of the candidate, where its measurement is in the database."""
    found: dict[str, Estimate] = {}
    if run.plan.settings.precisions:
        return found
    for key, m in rows:
        for c in run.candidates:
            if f"/{c.architecture.id}/" in key.workload:
                found[c.id] = Estimate(P99, m.p99_ms, "ms", source=m.source, target=key.target)
    return found


def _pick(run: RunData, name: str, candidate: Candidate, budget: float | None) -> dict[str, Any]:
    path = chosen_files(run.folder).get(name)
    file = path.read_text(encoding="utf-8") if path is not None and path.exists() else None
    return {"name": name, "id": candidate.id, "budget": budget, "file": file}


def _template(run: RunData) -> Artifact:
    """Return an architecture file of the run; a reader replaces its name, architecture, estimates and trial."""
    if run.artifacts:
        first = run.artifacts[0]
        return replace(first, estimates=tuple(e for e in first.estimates if not e.name.startswith("speedup_over_")))
    settings = run.plan.settings
    record = StudyRecord(settings.study_name(run.folder), settings.seed, None, len(run.candidates))
    data = DataRecord(settings.data, "unknown") if settings.data else NO_DATA
    precision = run.plan.target.precision
    first_candidate = run.candidates[0]
    classes = unnamed_classes(run.num_classes)
    return Artifact("candidate", first_candidate.architecture, (), record, classes, data, precision)
