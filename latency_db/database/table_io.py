"""Tables of measurements with their provenance, exact in both directions: CSV (standard library) and Parquet (pyarrow).

A CSV begins with one line ``# {…}``: who exported it, when, with which version, the devices, the number of rows, and
the part of the environment that is equal in all rows (``shared``). The second line names the columns; ``network`` and
``environment`` hold JSON. Text that a spreadsheet would take for a formula (it begins with ``=``, ``+``, ``-`` or
``@``) has an apostrophe before it, which reading removes; the provenance marks such files (``escaped``).

A Parquet file has the same columns, whole environments, and the provenance under the key ``latency_db`` of its
metadata. ``latency_db/tables/README.md`` describes the columns.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from latency_db.core.measurement import LatencyKey, Measurement, check_past, now
from latency_db.core.profiler import Network
from search_spaces.errors import InputError
from search_spaces.foreign_files import read_bytes
from search_spaces.json_checks import parse_json
from search_spaces.text import FORMULA_STARTS, brief, number_in

FORMAT = 1
MAX_BYTES = 1 << 30
"""Largest table that is read."""
KEYS = ("workload", "target", "version", "device")
TIMES = ("median_ms", "p90_ms", "p99_ms", "low_ms", "high_ms")
OPTIONAL = ("wall_median_ms", "cpu_median_ms")  # an empty cell: not read
TEXTS = (*KEYS, "source", "verdict", "clock", "time")
COLUMNS = (*KEYS, *TIMES, "runs", "source", "verdict", "clock", *OPTIONAL, "time", "network", "environment")
KINDS = (".csv", ".parquet")

Row = tuple[LatencyKey, Measurement]
Cells = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """The rows of a file and its provenance."""

    provenance: Mapping[str, Any]
    rows: tuple[Row, ...]


def write_table(path: Path, rows: Iterable[Row], by: str) -> int:
    """Write rows to a ``.csv`` or ``.parquet`` file, whole or not at all; return their number.

    Args:
        path: The file; its suffix decides the format.
        rows: Keys and measurements.
        by: Who exports, for the provenance.

    Raises:
        InputError: Another suffix, pyarrow is missing, or the file cannot be written.
    """
    kind, rows = kind_of(path), list(rows)
    environments = [_without_network(m.environment) for _, m in rows]
    shared, own = shared_part(environments) if kind == ".csv" else ({}, environments)
    cells = [_cells(key, m, environment) for (key, m), environment in zip(rows, own, strict=True)]
    if kind == ".csv":
        cells = [{name: _escaped(cell) for name, cell in row.items()} for row in cells]
    provenance = {
        "latency_db": FORMAT,
        "by": by,
        "time": now(),
        "tool": _tool(),
        "rows": len(rows),
        "devices": _devices(rows),
        "shared": shared,
        **({"escaped": True} if kind == ".csv" else {}),
    }
    _replace(path, _csv(cells, provenance) if kind == ".csv" else _parquet(cells, provenance))
    return len(rows)


def read_table(path: Path) -> Table:
    """Return the rows of a file that :func:`write_table` wrote.

    Raises:
        InputError: The file is no export, is of a newer format, or has a damaged row, which is named. Nothing is
            returned of a damaged file.
    """
    kind, content = kind_of(path), _content(path)
    provenance, numbered = _read_csv(path, content) if kind == ".csv" else _read_parquet(path, content)
    if provenance.get("escaped") is True:
        numbered = ((place, {name: _unescaped(cell) for name, cell in cells.items()}) for place, cells in numbered)
    if provenance.get("latency_db") != FORMAT or not isinstance(shared := provenance.get("shared"), Mapping):
        raise InputError(
            f"{path} is of export format {brief(provenance.get('latency_db'))}", f"{FORMAT}", "update this package"
        )
    rows: list[Row] = []
    wrong: list[str] = []
    for place, cells in numbered:
        try:
            rows.append(_row(cells, shared))
        except KeyError as error:
            wrong.append(f"{place}: no column {error}")
        except InputError as error:
            wrong.append(f"{place}: {error}")
    refuse(path, wrong)
    if len(rows) != provenance.get("rows"):
        raise InputError(
            f"{path} has {len(rows)} rows",
            f"{brief(provenance.get('rows'))}, as its provenance says",
            "the file was cut or edited",
        )
    return Table(provenance, tuple(rows))


def refuse(path: Path, wrong: Sequence[str]) -> None:
    """Raise InputError that names the first damaged row and counts the others; nothing if there is none."""
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise InputError(f"{path} {wrong[0]}{more}", hint="nothing was taken from the file")


def kind_of(path: Path) -> str:
    """Return ``.csv`` or ``.parquet``. Raises InputError for another suffix."""
    if path.suffix.lower() not in KINDS:
        raise InputError(f"{path}: a file of kind {path.suffix or 'without suffix'!r}", " or ".join(KINDS))
    return path.suffix.lower()


def raw_rows(path: Path) -> Iterator[tuple[str, Cells]]:
    """Yield the rows of any CSV or Parquet file, each with its place in words.

    The first line of a CSV names the columns.

    Raises:
        InputError: Another suffix, the file cannot be read, pyarrow is missing, or a row is damaged.
    """
    content = _content(path)
    return (
        _csv_rows(path, _text(path, content))
        if kind_of(path) == ".csv"
        else _parquet_rows(_open_parquet(path, content))
    )


# one row


def _cells(key: LatencyKey, m: Measurement, environment: Mapping[str, Any]) -> dict[str, Any]:
    network = m.environment.get("network")
    values = {name: getattr(key, name) for name in KEYS}
    values |= {name: getattr(m, name) for name in COLUMNS if name not in (*KEYS, "network", "environment")}
    return {**values, "network": _dump(network) if network else None, "environment": _dump(environment)}


def _row(cells: Cells, shared: Mapping[str, Any]) -> Row:
    if None in cells:  # what csv.DictReader calls the cells beyond the last column
        raise InputError("more cells than columns")
    environment = merged(shared, _object(cells["environment"], "environment"))
    texts = {name: _text_cell(cells[name], name) for name in TEXTS}
    if cells["network"]:
        network = _object(cells["network"], "network")
        if "@" in texts["workload"] and (named := Network.from_dict(network).key) != cells["workload"]:
            raise InputError(f"network {named} under the key {cells['workload']}", "the same")
        environment["network"] = network
    key = LatencyKey(*(texts[name] for name in KEYS))
    values: dict[str, Any] = {name: text for name, text in texts.items() if name not in ("version", "device")}
    values |= {name: _number(cells[name], name) for name in TIMES}
    values |= {name: None if cells[name] in ("", None) else _number(cells[name], name) for name in OPTIONAL}
    measurement = Measurement.from_dict({**values, "runs": _count(cells["runs"]), "environment": environment})
    check_past(measurement.time)
    if not key.workload or str(measurement.target) != key.target:
        raise InputError(f"key {key}", f"a workload, and the target written {measurement.target}")
    return key, measurement


def _text_cell(cell: object, column: str) -> str:
    if not isinstance(cell, str):
        raise InputError(f"{column} {brief(cell)}", "text")
    return cell


def _number(cell: object, column: str) -> float:
    """Return a number that is one in the file, or is written as one in a CSV; no other type is converted."""
    if isinstance(cell, (int, float)) and not isinstance(cell, bool):
        return float(cell) if abs(cell) < 1e300 else math.inf
    if isinstance(cell, str) and not math.isnan(number := number_in(cell)):
        return number
    raise InputError(f"{column} {brief(cell)}", "a finite number")


def _count(cell: object) -> int:
    if isinstance(cell, int) and not isinstance(cell, bool):
        return cell
    if isinstance(cell, str) and re.fullmatch(r"[0-9]{1,12}", cell):
        return int(cell)
    raise InputError(f"runs {brief(cell)}", "a whole number, 0 or more")


def _escaped(cell: Any) -> Any:
    """Return a CSV cell with an apostrophe before text that a spreadsheet would take for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("'", *FORMULA_STARTS)) else cell


def _unescaped(cell: Any) -> Any:
    return cell[1:] if isinstance(cell, str) and cell.startswith("'") else cell


def _object(text: object, what: str) -> dict[str, Any]:
    if not isinstance(text, (str, bytes)):
        raise InputError(f"{what} {brief(text)}", "a JSON object")
    found = parse_json(text, what)
    if not isinstance(found, dict):
        raise InputError(f"{what} {brief(text)}", "a JSON object")
    return found


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _without_network(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in environment.items() if name != "network" or not value}


def shared_part(values: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what is equal in all JSON objects, at any depth, and the rest of each; the inverse is :func:`merged`."""
    if not values:
        return {}, []
    shared: dict[str, Any] = {}
    own = [dict(value) for value in values]
    for name in values[0]:
        if not all(name in value for value in values):
            continue
        parts = [value[name] for value in values]
        if all(isinstance(part, Mapping) for part in parts):
            shared[name], rests = shared_part(parts)
            for rest, value in zip(rests, own, strict=True):
                value.pop(name)
                value.update({name: rest} if rest else {})
        elif len({_dump(part) for part in parts}) == 1:  # as text: 1, 1.0 and true are equal as values
            shared[name] = parts[0]
            for value in own:
                value.pop(name)
    return shared, own


def merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return one object of its shared and its own part; the inverse of :func:`shared_part`.

    Raises:
        InputError: An entry is an object in the shared part, and no object in its own.
    """
    out = {**shared, **own}
    for name, value in shared.items():
        if isinstance(value, Mapping):
            rest = own.get(name, {})
            if not isinstance(rest, Mapping):
                raise InputError(f"{name} {brief(rest)} of a row", "an object, as in the provenance")
            out[name] = merged(value, rest)
    return out


# files


def _csv(cells: Sequence[Cells], provenance: Mapping[str, Any]) -> bytes:
    text = io.StringIO()
    text.write(f"# {_dump(provenance)}\n")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(cells)
    return text.getvalue().encode()


def _read_csv(path: Path, content: bytes) -> tuple[dict[str, Any], Iterator[tuple[str, Cells]]]:
    first, _, rest = _text(path, content).partition("\n")
    if not first.startswith("# "):
        hint = "for a published table name its columns: nas db import FILE --key COLUMN --value COLUMN --target …"
        raise InputError(f"{path} is no export of this package", "a first line '# {…}' with its provenance", hint)
    return _object(first[2:], f"{path}: provenance"), _csv_rows(path, rest, 1)


def _csv_rows(path: Path, text: str, before: int = 0) -> Iterator[tuple[str, Cells]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            yield f"line {reader.line_num + before}", cells
    except csv.Error as error:
        raise InputError(
            f"{path} line {reader.reader.line_num + before}: {error}", "CSV", "nothing was taken from the file"
        ) from None


def _parquet(cells: Sequence[Cells], provenance: Mapping[str, Any]) -> bytes:
    pa, parquet = _pyarrow()
    kinds = {name: pa.float64() for name in (*TIMES, *OPTIONAL)} | {"runs": pa.int64()}
    schema = pa.schema(
        [(name, kinds.get(name, pa.string())) for name in COLUMNS], metadata={"latency_db": _dump(provenance)}
    )
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(list(cells), schema=schema), sink, compression="zstd")
    return sink.getvalue()


def _read_parquet(path: Path, content: bytes) -> tuple[dict[str, Any], Iterator[tuple[str, Cells]]]:
    table = _open_parquet(path, content)
    written = (table.schema.metadata or {}).get(b"latency_db")
    if written is None:
        hint = "for a published table name its columns: nas db import FILE --key COLUMN --value COLUMN --target …"
        raise InputError(f"{path} is no export of this package", "provenance under 'latency_db' in its metadata", hint)
    return _object(written, f"{path}: provenance"), _parquet_rows(table)


def _open_parquet(path: Path, content: bytes) -> Any:
    pa, parquet = _pyarrow()
    try:
        return parquet.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} is no whole Parquet file ({' '.join(str(error).split())[:120]})", "a Parquet file"
        ) from None


def _parquet_rows(table: Any) -> Iterator[tuple[str, Cells]]:
    return ((f"row {i + 1}", cells) for i, cells in enumerate(table.to_pylist()))


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise InputError("pyarrow is not installed", "it, for .parquet", "pip install pyarrow, or use .csv") from None
    return pyarrow, parquet


def _content(path: Path) -> bytes:
    content = read_bytes(path, MAX_BYTES)
    if content.startswith(b"SQLite format 3\0"):
        raise InputError(f"{path} is a database", " or ".join(KINDS), f"take it over with: nas db merge {path}")
    return content


def _text(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path} line {line} is no UTF-8 text", "CSV", "nothing was taken from the file") from None


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(content)
        os.replace(draft, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", "a file in a folder that you may write to") from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _devices(rows: Sequence[Row]) -> dict[str, Any]:
    return {key.device: m.environment.get("device") for key, m in rows}


def _tool() -> str:
    try:
        return f"hw-nas-yolo {package_version('hw-nas-yolo')}"
    except PackageNotFoundError:
        return "hw-nas-yolo, not installed"
