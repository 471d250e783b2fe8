"""Import of published tables: a column that names the network, a column of milliseconds, and no record of measuring."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency_db.core.device import DeviceFingerprint
from latency_db.core.measurement import MAX_MS, LatencyKey, Measurement, now
from latency_db.core.target import Target
from latency_db.database.table_io import Cells, Row, raw_rows, refuse
from search_spaces.errors import InputError
from search_spaces.registry import unknown
from search_spaces.text import brief, number_in

NOT_KNOWN = (
    "only one time per row is published: p90_ms, p99_ms, low_ms and high_ms repeat it; "
    "runs, verdict and clock are not known"
)


@dataclass(frozen=True)
class TableColumns:
    """The meaning of a published table.

    Attributes:
        key: Column that names the network.
        value: Column of the latency, ms.
        target: What was measured on.
        device_name: Name of the device.
        version: Version of the runtime.
    """

    key: str
    value: str
    target: Target
    device_name: str
    version: str = "unknown"


def import_table(path: Path, columns: TableColumns) -> tuple[list[Row], int]:
    """Return the rows of a published table, and the number of rows without a value.

    What the table does not report is marked in the environment (``not_known``), with ``runs`` 0. Other columns are
    kept under ``columns``.

    Raises:
        InputError: A column is missing, or a row has no name, a name for the second time, or no number of
            milliseconds above 0. The first such row is named, and nothing is imported.
    """
    rows: dict[str, Row] = {}
    wrong: list[str] = []
    skipped = 0
    for place, cells in raw_rows(path):
        if absent := [name for name in (columns.key, columns.value) if name not in cells]:
            raise unknown(f"column of {path}:", absent[0], tuple(map(str, cells)))
        if _is_empty(cells[columns.value]):
            skipped += 1
            continue
        try:
            name = _name(cells[columns.key], columns.key)
            if name in rows:
                raise InputError(f"{columns.key} {brief(name)} for the second time", "a name of its own in every row")
            rows[name] = _row(name, _milliseconds(cells[columns.value], columns.value), cells, columns)
        except InputError as error:
            wrong.append(f"{place}: {error}")
    refuse(path, wrong)
    return list(rows.values()), skipped


def _row(name: str, ms: float, cells: Cells, columns: TableColumns) -> Row:
    device = DeviceFingerprint("", "", 0, (), 0, accelerator=columns.device_name)
    environment: dict[str, Any] = {
        "runtime_version": columns.version,
        "device": device.to_dict(),
        "device_id": device.id,
        "not_known": NOT_KNOWN,
        "columns": {str(k): v for k, v in cells.items() if not _is_empty(v) and isinstance(v, (str, int, float, bool))},
    }
    measurement = Measurement(
        median_ms=ms,
        p90_ms=ms,
        p99_ms=ms,
        low_ms=ms,
        high_ms=ms,
        runs=0,
        source="table",
        verdict="clean",
        clock="wall",
        target=columns.target,
        workload=name,
        environment=environment,
        time=now(),
    )
    return LatencyKey(name, str(columns.target), columns.version, device.id), measurement


def _is_empty(cell: object) -> bool:
    return cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell))


def _name(cell: object, column: str) -> str:
    """Return the network's name; numbers are accepted, since some tables number their networks."""
    if isinstance(cell, bool) or not isinstance(cell, (str, int)) or cell == "":
        raise InputError(f"{column} {brief(cell)}", "a name of its own in every row")
    return str(cell)


def _milliseconds(cell: object, column: str) -> float:
    ms = math.nan
    if isinstance(cell, (str, int, float)) and not isinstance(cell, bool):
        try:
            ms = number_in(cell) if isinstance(cell, str) else float(cell)
        except OverflowError:
            ms = math.nan
    if not 0 < ms <= MAX_MS:
        raise InputError(f"{column} {brief(cell)}", "milliseconds above 0")
    return ms
