"""Others' tables of latencies: a column that names the network, a column of milliseconds, nothing else known of the
measuring."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from latency_db.core.device import DeviceFingerprint
from latency_db.core.measurement import LatencyKey, Measurement, now
from latency_db.core.target import Target
from latency_db.database.table_io import Cells, Row, raw_rows, refuse
from search_spaces.errors import InputError
from search_spaces.registry import unknown

NOT_KNOWN = "only one time per row is published: p90_ms, p99_ms, low_ms and high_ms repeat it; runs, verdict and clock are not known"


def import_table(
    path: Path, key: str, value: str, target: Target, device_name: str, version: str = "unknown"
) -> tuple[list[Row], int]:
    """Rows keyed by the text in column ``key``, with the ms in column ``value``; and how many rows have no value there.

    What the table does not say is marked in the environment (``not_known``), with ``runs`` 0; its other columns are
    kept under ``columns``. InputError for a damaged row, by number; then nothing is read.
    """
    device = DeviceFingerprint("", "", 0, (), 0, accelerator=device_name)
    rows: dict[str, Row] = {}
    wrong: list[str] = []
    skipped = 0
    for place, cells in raw_rows(path):
        if absent := [name for name in (key, value) if name not in cells]:
            raise unknown(f"column of {path}:", absent[0], tuple(map(str, cells)))
        if _empty(cells[value]):
            skipped += 1
            continue
        try:
            name = str(cells[key] or "")
            if not name or name in rows:
                raise InputError(
                    f"{key} {name!r}" + (" for the second time" if name else ""), "a name of its own in every row"
                )
            rows[name] = _row(name, _positive(cells[value], value), cells, target, device, version)
        except InputError as error:
            wrong.append(f"{place}: {error}")
    refuse(path, wrong)
    return list(rows.values()), skipped


def _row(name: str, ms: float, cells: Cells, target: Target, device: DeviceFingerprint, version: str) -> Row:
    environment: dict[str, Any] = {
        "runtime_version": version,
        "device": device.to_dict(),
        "device_id": device.id,
        "not_known": NOT_KNOWN,
        "columns": {str(k): v for k, v in cells.items() if not _empty(v) and isinstance(v, (str, int, float, bool))},
    }
    measurement = Measurement(
        ms, ms, ms, ms, ms, 0, "table", "clean", "wall", target, name, environment=environment, time=now()
    )
    return LatencyKey(name, str(target), version, device.id), measurement


def _empty(cell: object) -> bool:
    return cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell))


def _positive(cell: Any, column: str) -> float:
    try:
        ms = float(cell)
    except (TypeError, ValueError):
        ms = math.nan
    if not 0 < ms < math.inf:
        raise InputError(f"{column} {cell!r}", "milliseconds above 0")
    return ms
