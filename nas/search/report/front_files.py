"""The front as files (``front.json``, ``front.csv``) and the chosen as a table for terminals and Markdown."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas.core.atomic import atomic_write
from nas.core.csv_text import csv_text
from nas.core.estimate import Candidate, Objective
from nas.core.text_table import TextTable
from nas.core.units import label, quantity
from nas.search.baseline import Comparison
from search_spaces.errors import InputError
from search_spaces.json_checks import check_fields, check_type, read_json
from search_spaces.text import json_text

FRONT_VERSION = 1
_FRONT_FIELDS = ("schema", "objectives", "hypervolume", "reference", "chosen", "comparisons", "notes", "candidates")


@dataclass(frozen=True)
class Front:
    """Content of ``front.json``.

    Args:
        objectives: The objectives.
        candidates: The Pareto front.
        chosen: (name, id) of the picks.
        hypervolume: Hypervolume; None before its reference point is fixed.
        reference: Reference point, one number per objective.
        comparisons: Picks against the reference models of their budgets.
        notes: Statements of the search about itself, by name: :class:`nas.search.front_confidence.FrontConfidence`,
            :class:`nas.search.pruner.PruningSavings`, remarks of estimates, budgets and goals of the picks.
    """

    objectives: tuple[Objective, ...]
    candidates: tuple[Candidate, ...]
    chosen: tuple[tuple[str, str], ...] = ()
    hypervolume: float | None = None
    reference: tuple[float, ...] | None = None
    comparisons: tuple[Comparison, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, keys in the order of the file."""
        return {
            "schema": FRONT_VERSION,
            "objectives": [str(objective) for objective in self.objectives],
            "hypervolume": self.hypervolume,
            "reference": None if self.reference is None else list(self.reference),
            "chosen": dict(self.chosen),
            **({"comparisons": [c.to_dict() for c in self.comparisons]} if self.comparisons else {}),
            **({"notes": dict(self.notes)} if self.notes else {}),
            "candidates": [candidate.to_dict() for candidate in self.candidates],
        }


def write_front(folder: str | os.PathLike[str], front: Front) -> tuple[Path, Path]:
    """Write ``front.json`` and ``front.csv`` into ``folder``, each atomically; return the two paths."""
    text = json_text(front.to_dict(), indent=2) + "\n"
    return atomic_write(Path(folder) / "front.json", text), atomic_write(
        Path(folder) / "front.csv", front_csv(front.candidates, dict(front.chosen))
    )


def read_front(path: str | os.PathLike[str]) -> Front:
    """Read ``front.json``. Raises InputError that names the file if it is missing or damaged."""
    data = read_json(path)
    try:
        if isinstance(data, dict):
            data.setdefault("comparisons", [])
            data.setdefault("notes", {})
        check_fields(data, _FRONT_FIELDS, "front file")
        if data["schema"] != FRONT_VERSION:
            raise InputError(
                f"schema version {data['schema']!r}",
                f"{FRONT_VERSION}",
                "install the version of this package that wrote the file",
            )
        for field, kind in (
            ("objectives", list),
            ("candidates", list),
            ("chosen", dict),
            ("comparisons", list),
            ("notes", dict),
        ):
            check_type(data[field], kind, field)
        return Front(
            tuple(Objective.parse(str(text)) for text in data["objectives"]),
            tuple(Candidate.from_dict(candidate) for candidate in data["candidates"]),
            tuple((str(name), str(id_)) for name, id_ in data["chosen"].items()),
            None if data["hypervolume"] is None else float(data["hypervolume"]),
            None if data["reference"] is None else tuple(float(value) for value in data["reference"]),
            tuple(Comparison.from_dict(c) for c in data["comparisons"]),
            data["notes"],
        )
    except InputError as error:
        raise InputError(f"{os.fspath(path)}: {error}") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"{os.fspath(path)}: hypervolume or reference is no number ({error})") from None


def front_csv(candidates: Sequence[Candidate], chosen: Mapping[str, str] | None = None) -> str:
    """Return the rows of :func:`candidate_rows` as CSV.

    Numbers are written exactly; what a candidate lacks is empty.
    """
    columns, rows = candidate_rows(candidates, chosen)
    return csv_text(columns, rows)


def candidate_rows(
    candidates: Sequence[Candidate], chosen: Mapping[str, str] | None = None
) -> tuple[list[str], list[dict[str, object]]]:
    """Return columns and rows of a table of candidates.

    Columns: name in ``chosen`` (name -> id), id, trial, space, then every estimate with interval, unit, source and
    target, then every choice as ``choice.NAME``. A row lacks what the candidate lacks.
    """
    names: dict[str, list[str]] = {}
    for name, id_ in (chosen or {}).items():
        names.setdefault(id_, []).append(name)
    rows = [_row(candidate, " ".join(names.get(candidate.id, ()))) for candidate in candidates]
    columns = list(
        dict.fromkeys(["name", "id", "trial", "space", *(key for row in rows for key in sorted(row, key=_is_choice))])
    )
    columns.sort(key=_is_choice)  # stable: the choices of all spaces come last
    return columns, rows


def _is_choice(column: str) -> bool:
    return column.startswith("choice.")


def _row(candidate: Candidate, name: str) -> dict[str, object]:
    architecture = candidate.architecture
    row: dict[str, object] = {
        "name": name,
        "id": candidate.id,
        "trial": candidate.trial,
        "space": f"{architecture.space}@{architecture.version}",
    }
    row |= {} if candidate.precision is None else {"precision": candidate.precision}
    for estimate in candidate.estimates:
        row[estimate.name] = estimate.value
        for part in ("low", "high", "unit", "source", "target"):
            row[f"{estimate.name}.{part}"] = getattr(estimate, part)
    return row | {f"choice.{choice}": value for choice, value in architecture.choices}


def results_table(chosen: Sequence[tuple[str, Candidate]], estimates: Sequence[str] | None = None) -> TextTable:
    """Return the table of picks: name, id, and the named estimates (by default all) with interval and unit."""
    shown = (
        list(estimates)
        if estimates is not None
        else list(dict.fromkeys(e.name for _, candidate in chosen for e in candidate.estimates))
    )
    rows = [
        (name, c.id, *(quantity(c[estimate]) if estimate in c else "–" for estimate in shown)) for name, c in chosen
    ]
    return TextTable(("", "architecture", *(label(estimate) for estimate in shown)), tuple(rows), left=2)
