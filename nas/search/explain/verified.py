"""Counterfactuals that were measured to check their predictions, kept in the run's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from nas.core.atomic import atomic_write
from nas.search.explain.surrogate import Difference
from search_spaces.json_checks import read_json

VERIFIED_FILE = "counterfactuals.json"
Verified = Mapping[str, Mapping[str, Mapping[str, Difference]]]
"""Id of a network -> id of its neighbour -> name of the estimate -> measured change."""


def read_verified(folder: Path) -> Verified:
    """Return the measured changes of a run; empty without the file. Raises InputError if it is damaged."""
    path = folder / VERIFIED_FILE
    if not path.exists():
        return {}
    data = read_json(path)
    return {
        id_: {
            other: {name: Difference.from_dict(change) for name, change in changes.items()}
            for other, changes in neighbours.items()
        }
        for id_, neighbours in dict(data if isinstance(data, dict) else {}).items()
    }


def write_verified(folder: Path, verified: Verified) -> Path:
    """Add measured changes to those of a run; newer ones replace older ones."""
    merged: dict[str, dict[str, object]] = {}
    for source in (read_verified(folder), verified):
        for id_, neighbours in source.items():
            for other, changes in neighbours.items():
                plain = {name: d.to_dict() for name, d in changes.items()}
                merged.setdefault(id_, {})[other] = plain
    return atomic_write(folder / VERIFIED_FILE, json.dumps(merged, indent=1) + "\n")
