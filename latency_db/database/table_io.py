"""Measurements as a file that people and other tools can read: CSV by the standard library, Parquet by pyarrow; with
their provenance, exact both ways.

A CSV begins with one line ``# {…}``: who exported it, when, with which version, the devices, the number of rows, and
the part of the environment that is equal in all rows (``shared``). The second line names the columns; ``network`` and
``environment`` hold JSON. A Parquet file has the same columns, whole environments, and the provenance under the key
``latency_db`` of its metadata. ``latency_db/tables/README.md`` describes the columns.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from latency_db.core.measurement import LatencyKey, Measurement, now
from latency_db.core.profiler import Network
from search_spaces.errors import InputError

FORMAT = 1
KEYS = ("workload", "target", "version", "device")
TIMES = ("median_ms", "p90_ms", "p99_ms", "low_ms", "high_ms")
OPTIONAL = ("wall_median_ms", "cpu_median_ms")  # an empty cell: not read
COLUMNS = (*KEYS, *TIMES, "runs", "source", "verdict", "clock", *OPTIONAL, "time", "network", "environment")
KINDS = (".csv", ".parquet")

Row = tuple[LatencyKey, Measurement]
Cells = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """The rows of a file and what it says of itself."""

    provenance: Mapping[str, Any]
    rows: tuple[Row, ...]


def write_table(path: Path, rows: Iterable[Row], by: str) -> int:
    """Writes rows as the kind that the suffix says, whole or not at all; ``by`` is who exports. The number of rows.
    InputError where it cannot."""
    kind, rows = kind_of(path), list(rows)
    environments = [_without_network(m.environment) for _, m in rows]
    shared, own = shared_part(environments) if kind == ".csv" else ({}, environments)
    cells = [_cells(key, m, environment) for (key, m), environment in zip(rows, own, strict=True)]
    provenance = {
        "latency_db": FORMAT,
        "by": by,
        "time": now(),
        "tool": _tool(),
        "rows": len(rows),
        "devices": _devices(rows),
        "shared": shared,
    }
    _replace(path, _csv(cells, provenance) if kind == ".csv" else _parquet(cells, provenance))
    return len(rows)


def read_table(path: Path) -> Table:
    """Inverse of :func:`write_table`. InputError, one line, for another kind of file and for damaged rows, by number:
    never a part of the rows."""
    kind, content = kind_of(path), _content(path)
    provenance, numbered = _read_csv(path, content) if kind == ".csv" else _read_parquet(path, content)
    if provenance.get("latency_db") != FORMAT or not isinstance(shared := provenance.get("shared"), Mapping):
        raise InputError(
            f"{path} is of export format {provenance.get('latency_db')!r}", f"{FORMAT}", "update this package"
        )
    rows: list[Row] = []
    wrong: list[str] = []
    for place, cells in numbered:
        try:
            rows.append(_row(cells, shared))
        except (InputError, KeyError, TypeError, ValueError) as error:
            wrong.append(f"{place}: {error if isinstance(error, InputError) else f'{type(error).__name__} {error}'}")
    refuse(path, wrong)
    if len(rows) != provenance.get("rows"):
        raise InputError(
            f"{path} has {len(rows)} rows", f"{provenance.get('rows')}, as it says itself", "the file was cut or edited"
        )
    return Table(provenance, tuple(rows))


def refuse(path: Path, wrong: Sequence[str]) -> None:
    """InputError that names the first damaged row and how many more there are; nothing where there is none."""
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise InputError(f"{path} {wrong[0]}{more}", hint="nothing was taken from the file")


def kind_of(path: Path) -> str:
    """``.csv`` or ``.parquet``; InputError for another suffix."""
    if path.suffix.lower() not in KINDS:
        raise InputError(f"{path}: a file of kind {path.suffix or 'without suffix'!r}", " or ".join(KINDS))
    return path.suffix.lower()


def raw_rows(path: Path) -> Iterator[tuple[str, Cells]]:
    """Rows of anybody's CSV (its first line names the columns) or Parquet file, each with its place in words."""
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
    if cells["network"]:
        network = _object(cells["network"], "network")
        if "@" in cells["workload"] and (named := Network.from_dict(network).key) != cells["workload"]:
            raise InputError(f"network {named} under the key {cells['workload']}", "the same")
        environment["network"] = network
    if cells["time"] and datetime.fromisoformat(cells["time"]).utcoffset() != timedelta(0):
        raise InputError(f"time {cells['time']!r}", "ISO 8601 in UTC, such as 2026-01-02T03:04:05+00:00")
    key = LatencyKey(*(str(cells[name]) for name in KEYS))
    values: dict[str, Any] = {
        name: str(cells[name]) for name in ("workload", "target", "source", "verdict", "clock", "time")
    }
    values |= {name: float(cells[name]) for name in TIMES}
    values |= {name: None if cells[name] in ("", None) else float(cells[name]) for name in OPTIONAL}
    measurement = Measurement.from_dict({**values, "runs": int(cells["runs"]), "environment": environment})
    if not key.workload or str(measurement.target) != key.target:
        raise InputError(f"key {key}", f"a workload, and the target written {measurement.target}")
    return key, measurement


def _object(text: str, what: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise InputError(f"{what} {text[:40]!r}", "a JSON object")
    return found


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _without_network(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in environment.items() if name != "network" or not value}


def shared_part(values: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What is equal in all JSON objects, at any depth, and of each what is left; :func:`merged` puts them together
    again."""
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
    """Inverse of :func:`shared_part` for one of the objects."""
    out = {**shared, **own}
    for name, value in shared.items():
        if isinstance(value, Mapping):
            out[name] = merged(value, own.get(name, {}))
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
    try:
        if not first.startswith("# "):
            raise ValueError
        provenance = _object(first[2:], "provenance")
    except ValueError:
        hint = "of another's table name the columns: nas db import FILE --key COLUMN --value COLUMN --target …"
        raise InputError(
            f"{path} is no export of this package", "a first line '# {…}' with its provenance", hint
        ) from None
    return provenance, _csv_rows(path, rest, 1)


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
        hint = "of another's table name the columns: nas db import FILE --key COLUMN --value COLUMN --target …"
        raise InputError(f"{path} is no export of this package", "provenance under 'latency_db' in its metadata", hint)
    return _object(written.decode(), "provenance"), _parquet_rows(table)


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
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
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
