"""The course of a search: hypervolume, candidates by outcome, cost, training of the supernet."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nas.core.pareto import hypervolume, values_of
from nas.search.explain.run_data import RunData

SUPERNET_LOG = "supernet.log.csv"
MARGIN = 1.1
"""Factor of the worst values of a small front, where the study has not fixed its reference point."""
MAX_REASONS = 8


@dataclass(frozen=True)
class HistoryPoint:
    """The search after a candidate.

    Args:
        trial: Number of candidates so far.
        seconds: Seconds of evaluation since the first candidate began, breaks left out.
        hypervolume: Hypervolume as a share of the final one.
    """

    trial: int
    seconds: float
    hypervolume: float


@dataclass(frozen=True)
class SearchHistory:
    """The course of a search.

    Args:
        points: One per candidate that was evaluated to the end.
        outcomes: Number of candidates by outcome: evaluated, pruned, outside a bound or failed.
        reasons: Number of candidates by reason, of those that were not evaluated to the end.
        seconds: Seconds of evaluation by step (the estimate's name), all candidates together.
        pruning: What pruning saved, one sentence; empty where it is not known.
        confidence: Lines about the confidence of the front.
        supernet: Training of the supernet: columns of its log by name; empty without one.
    """

    points: tuple[HistoryPoint, ...]
    outcomes: Mapping[str, int]
    reasons: Mapping[str, int]
    seconds: Mapping[str, float]
    pruning: str
    confidence: tuple[str, ...]
    supernet: Mapping[str, Sequence[float]]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "points": [asdict(p) for p in self.points], "confidence": list(self.confidence)}


def search_history(run: RunData) -> SearchHistory:
    """Return the course of a run's search."""
    history = run.history
    seconds: Counter[str] = Counter()
    for record in history.records.values():
        seconds.update({name: float(s) for name, s in record.seconds.items()})
    bounds = [m for _, m in history.failures if "bound" in m or "<=" in m or ">=" in m]
    outcomes = {
        "evaluated": len(history.candidates),
        "pruned": len(history.stopped),
        "outside a bound": len(bounds),
        "failed": len(history.failures) - len(bounds),
    }
    reasons = Counter(_reason(message) for _, message in (*history.failures, *history.stopped))
    savings = history.savings
    return SearchHistory(
        _points(run),
        outcomes,
        dict(reasons.most_common(MAX_REASONS)),
        dict(seconds.most_common()),
        str(savings) if savings.tried else "",
        _confidence(run),
        read_log(run.folder / SUPERNET_LOG),
    )


def _reason(message: str) -> str:
    """Return the message of a candidate without its own numbers, so that equal reasons count together."""
    return re.sub(r"\d[\d.,e+-]*", "…", " ".join(message.split()))[:160]


def _points(run: RunData) -> tuple[HistoryPoint, ...]:
    """Return the hypervolume after each candidate, all at their first measurements, as the search had them."""
    objectives = run.plan.objectives
    trials = [t for t in run.history.known.values() if "candidate" in t.user_attrs]
    candidates = run.history.candidates
    if not candidates:
        return ()
    values = values_of(candidates, objectives)
    for j, objective in enumerate(objectives):
        if objective.logarithmic:
            import numpy as np

            values[:, j] = np.log(np.maximum(values[:, j], 1e-300))
    directions = [o.direction for o in objectives]
    worst = [
        column.max() + (MARGIN - 1) * (column.max() - column.min() or 1.0)
        if d == "min"
        else column.min() - (MARGIN - 1) * (column.max() - column.min() or 1.0)
        for column, d in zip(values.T, directions, strict=True)
    ]
    volumes = [hypervolume(values[: i + 1], worst, directions) for i in range(len(values))]
    final = volumes[-1] or 1.0
    times = _working_seconds([(t.datetime_start, t.datetime_complete) for t in trials])
    return tuple(
        HistoryPoint(i + 1, seconds, volume / final)
        for i, (seconds, volume) in enumerate(zip(times, volumes, strict=True))
    )


def _working_seconds(spans: Sequence[tuple[datetime | None, datetime | None]]) -> list[float]:
    """Return the seconds of work until the end of each trial: the union of the trials' spans, breaks left out."""
    total, end, found = 0.0, None, []
    for begin, done in spans:
        if begin is not None and done is not None:
            since = begin if end is None else max(begin, end)
            total += max(0.0, (done - since).total_seconds())
            end = done if end is None else max(end, done)
        found.append(total)
    return found


def _confidence(run: RunData) -> tuple[str, ...]:
    """Return lines about the confidence of the front from the notes of ``front.json``."""
    notes = run.front_file.notes.get("certainty") if run.front_file else None
    if not isinstance(notes, Mapping):
        return ()
    members = {str(k): float(v) for k, v in dict(notes.get("non_dominated", {})).items()}
    front = {c.id for c in run.front}
    sure = sum(members.get(id_, 0.0) >= 0.95 for id_ in front)
    lines = [f"{sure} of {len(front)} candidates of the front are on it with 95 % or more, given all intervals."]
    behind = [id_ for id_ in members if id_ not in front]
    if behind:
        lines.append(f"{len(behind)} more may belong to it: {', '.join(behind[:6])}{' …' if len(behind) > 6 else ''}.")
    lines += [f"Cannot be distinguished: {', '.join(map(str, group))}." for group in notes.get("groups", ())]
    if best := notes.get("next_measurement"):
        lines.append(
            f"The most informative next measurement: {best['objective']} of {best['candidate']} "
            f"({float(best['share']):.0%} of what is open)."
        )
    return tuple(lines)


def read_log(path: Path) -> dict[str, list[float]]:
    """Return the columns of a training's CSV log, rows that are incomplete left out; empty without the file."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name, value in (rows[0] if rows else {}).items() if name and value]
    columns: dict[str, list[float]] = {name: [] for name in names}
    for row in rows:
        try:
            values = [float(row[name] or "") for name in names]
        except ValueError:
            continue
        for name, value in zip(names, values, strict=True):
            columns[name].append(value)
    return columns
