"""Times of the steps of an end-to-end bench, from its journal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from nas.bench.journal import BenchJournal
from nas.core.atomic import atomic_write
from nas.core.text_table import TextTable
from nas.profiling.end_to_end import EndToEndParts

COLUMNS = ("preprocessing", "network", "decoding", "suppression")


def steps_of(folder: Path, target: str) -> dict[str, dict[str, float]]:
    """Return the median ms over the rounds of each step of each model on a target, and of the whole (``total``).

    The network contains the decoding. The dictionary is empty for a bench of networks alone. Raises InputError if the
    folder has no journal.
    """
    rows: dict[str, list[dict[str, float]]] = {}
    for record in BenchJournal(folder).read()[1]:
        measured = record.measurement
        parts = None if measured is None or record.target != target else EndToEndParts.of(measured)
        if measured is not None and parts is not None:
            row = {name: getattr(parts, f"{name}_ms") for name in COLUMNS} | {"total": measured.median_ms}
            rows.setdefault(record.model, []).append({k: v for k, v in row.items() if v is not None})
    return {model: _medians(of_model) for model, of_model in rows.items()}


def _medians(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: median(row[name] for row in rows) for name in rows[0]}


def write_steps(folder: Path, steps: Mapping[str, Mapping[str, float]]) -> Path:
    """Write ``steps.json`` and return its path."""
    return atomic_write(folder / "steps.json", json.dumps(steps, indent=2) + "\n")


def steps_table(steps: Mapping[str, Mapping[str, float]]) -> TextTable:
    """Return the table of all steps in ms, one row per model; the network contains the decoding."""
    headers = ("model", *COLUMNS, "end to end")
    rows = [
        (model, *(f"{row[name]:.2f} ms" if name in row else "" for name in (*COLUMNS, "total")))
        for model, row in steps.items()
    ]
    return TextTable(headers, tuple(rows), left=1)
