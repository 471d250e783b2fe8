"""Databases and tables from elsewhere: reading writes nothing, other programs' files are refused, damage is one
line."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from latency_db.core.measurement import LatencyKey, Measurement
from latency_db.core.profiler import Network
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.database.import_table import TableColumns, import_table
from latency_db.database.retry import Backoff, with_retries
from latency_db.database.table_io import read_table, write_table
from nas.cli import main
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES
from tests._measured import measurement, row

NANO = SPACES["yolo-nano"]
NETWORKS = [Network(NANO.smallest.replace(width=width), 3, 96) for width in NANO["width"].values]
ROWS = [row(n, measurement(n, 1.0 + i, anchor={"wall_ms": 1.5, "cpu_ms": 1.0 + i})) for i, n in enumerate(NETWORKS)]
MUTATIONS = 300
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1e400,
    math.nan,
    10**400,
    "",
    "x",
    "\x1b[31m",
    "9" * 5000,
    [],
    {},
    [[]],
    "\ud800",
)


def foreign(path: Path) -> bytes:
    """A database of another program, in SQLite's default journal mode."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
        connection.execute("INSERT INTO bookmarks VALUES ('x')")
    return path.read_bytes()


# reading


@pytest.mark.parametrize("argv", ["list", "ls", "show a", "export t.csv"])
def test_reading_refuses_another_programs_database_and_does_not_change_it(
    argv: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = foreign(tmp_path / "other.db")
    assert main(["db", *argv.split(), "--latency-db", "other.db"]) == 2
    assert "another program's database (tables bookmarks)" in capsys.readouterr().err
    assert (tmp_path / "other.db").read_bytes() == content and len(list(tmp_path.iterdir())) == 1


def test_writing_refuses_another_programs_database(tmp_path: Path) -> None:
    content = foreign(tmp_path / "other.db")
    with pytest.raises(InputError, match="another program's database"):
        LatencyDB(tmp_path / "other.db")
    assert (tmp_path / "other.db").read_bytes() == content


def test_reading_changes_neither_schema_nor_journal_of_an_older_database(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    with LatencyDB(path) as database:
        database.merge(ROWS)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        with connection:
            for name in ("space", "device_name"):
                connection.execute(f"ALTER TABLE measurements DROP COLUMN {name}")
            connection.execute("UPDATE latency_meta SET value = '1' WHERE name = 'schema'")
    content = path.read_bytes()
    with LatencyDB(path, read_only=True) as database:
        assert sorted(database.rows(), key=str) == sorted(ROWS, key=str)
        assert [g.space for g in database.groups()] == ["yolo-nano"]
    assert path.read_bytes() == content and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_database_in_a_folder_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    """As another user; root may write anywhere."""
    folder = tmp_path / "shared"
    folder.mkdir()
    with LatencyDB(folder / "l.sqlite") as database:
        database.merge(ROWS)
    if os.geteuid() == 0:
        with closing(sqlite3.connect(f"file:{folder}/l.sqlite?mode=ro&immutable=1", uri=True)) as connection:
            assert connection.execute("SELECT count(*) FROM measurements").fetchone() == (len(ROWS),)
        return
    folder.chmod(0o555)
    try:
        with LatencyDB(folder / "l.sqlite", read_only=True) as database:
            assert len(database.all()) == len(ROWS)
    finally:
        folder.chmod(0o755)


def test_a_read_only_database_is_not_written_and_a_folder_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    LatencyDB(path).merge(ROWS)
    with LatencyDB(path, read_only=True) as database:
        assert database.get(ROWS[0][0]) == ROWS[0][1]
        with pytest.raises(InputError, match="cannot be written"):
            database.put(*ROWS[0])
    with pytest.raises(InputError, match="no database at"):
        LatencyDB(tmp_path / "none.sqlite", read_only=True)
    assert not (tmp_path / "none.sqlite").exists()
    with pytest.raises(InputError, match="no regular file"):
        LatencyDB(tmp_path, read_only=True)


def test_a_merge_refuses_times_ahead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A measurement of the year 9999 would replace every other for ever."""
    with LatencyDB(tmp_path / "theirs.sqlite") as database:
        database.put(ROWS[0][0], replace(ROWS[0][1], time="9999-01-01T00:00:00+00:00"))
    argv = ["db", "merge", str(tmp_path / "theirs.sqlite"), "--latency-db", str(tmp_path / "ours.sqlite")]
    assert main(argv) == 2 and "a time that is past" in capsys.readouterr().err
    assert not (tmp_path / "ours.sqlite").exists()


# damage


def refusal(action: Callable[[], object]) -> str:
    """The message with which an action refuses its input; empty if it does not."""
    try:
        action()
    except InputError as error:
        return str(error)
    return ""


def mutated(record: dict[str, Any], rng: random.Random) -> str:
    """A record with one value at any depth replaced by an odd one, removed, or with its text damaged."""
    if rng.random() < 0.2:
        text = json.dumps(record)
        start = rng.randrange(len(text))
        return (
            text[:start] + rng.choice(["", "[" * 99_999, "\x00", '"', "1e999", "}"]) + text[start + rng.randrange(9) :]
        )
    node: Any = record
    while True:
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        below = node[key]
        if not (isinstance(below, (dict, list)) and below) or rng.random() < 0.4:
            break
        node = below
    if isinstance(node, dict) and rng.random() < 0.2:
        del node[key]
    else:
        node[key] = rng.choice(ODD)
    return json.dumps(record)


def test_300_damaged_records_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    database = LatencyDB(path)
    database.merge(ROWS[:1])
    key, whole = ROWS[0]
    rng = random.Random(0)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(MUTATIONS):
        record = mutated(json.loads(json.dumps(whole.to_dict())), rng).encode("utf-8", "surrogatepass")
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE measurements SET record = CAST(? AS TEXT)", (record.decode("utf-8", "replace"),))
        if message := refusal(lambda: database.get(key)):
            assert message.isprintable() and "damaged" in message and len(message) < 2000
            outcomes["refused"] += 1
            continue
        found = database.get(key)
        assert found.reference_ms is None or found.reference_ms > 0
        assert 0 < found.at_nominal_speed(1.0).median_ms < math.inf
        Measurement.from_dict(json.loads(json.dumps(found.to_dict())))
        outcomes["read"] += 1
    assert min(outcomes.values()) > 20


def test_damaged_files_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    """100 SQLite files and 100 tables with some bytes replaced; the fixed seed makes the same files each time."""
    path = tmp_path / "l.sqlite"
    with LatencyDB(path) as database:
        database.merge(ROWS)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    write_table(tmp_path / "t.csv", ROWS, "me")
    rng = random.Random(1)

    def read_database(file: Path) -> object:
        with LatencyDB(file, read_only=True) as database:
            return database.all(), database.groups()

    readers: tuple[tuple[Path, Callable[[Path], object]], ...] = (
        (path, read_database),
        (tmp_path / "t.csv", read_table),
    )
    for original, read in readers:
        content = original.read_bytes()
        for number in range(100):
            data = bytearray(content)
            for _ in range(rng.randrange(1, 6)):
                start = rng.randrange(len(data))
                data[start : start + rng.randrange(1, 20)] = rng.randbytes(rng.randrange(20))
            file = tmp_path / f"{number}{original.suffix}"
            file.write_bytes(data)
            assert refusal(partial(read, file)).isprintable()
            file.unlink()


# tables


def edited(tmp_path: Path, column: str, value: str) -> Path:
    """An exported table whose first row has another value."""
    import csv
    import io

    path = tmp_path / "t.csv"
    write_table(path, ROWS, "me")
    first, rest = path.read_text().split("\n", 1)
    rows = list(csv.DictReader(io.StringIO(rest)))
    rows[0][column] = value
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(f"{first}\n{out.getvalue()}")
    return path


@pytest.mark.parametrize(
    "column, value, words",
    [
        ("runs", "-5", "runs '-5'"),
        ("runs", "40.7", "runs '40.7'"),
        ("runs", "nan", "runs 'nan'"),
        ("median_ms", "nan", "a finite number"),
        ("p99_ms", "inf", "a finite number"),
        ("cpu_median_ms", "-1", "cpu_median_ms"),
        ("cpu_median_ms", "nan", "cpu_median_ms"),
        ("time", "9999-01-01T00:00:00+00:00", "a time that is past"),
        ("time", "1970-01-01T00:00:00+00:00", "ISO 8601 in UTC"),
        ("time", "yesterday", "ISO 8601 in UTC"),
        ("environment", '{"anchor": {"wall_ms": -1}}', "anchor"),
        ("environment", '{"anchor": {"wall_ms": NaN}}', "NaN"),
        ("environment", "[" * 100_000, "environment"),
        ("environment", '{"device": 5}', "device"),
    ],
)
def test_values_out_of_their_range_are_not_imported(column: str, value: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read_table(edited(tmp_path, column, value))
    assert words in str(error.value) and "line 3" in str(error.value) and str(error.value).isprintable()


def test_text_that_a_spreadsheet_would_run_is_escaped_and_read_back_exactly(tmp_path: Path) -> None:
    names = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\tx", "'=x", "'quoted", "plain"]
    rows = []
    for name in names:
        m = replace(ROWS[0][1], workload=name, environment={"device": ROWS[0][1].environment["device"]})
        rows.append((LatencyKey(name, str(m.target), "=1+1", "d"), m))
    path = tmp_path / "t.csv"
    write_table(path, rows, "me")
    cells = [line.split(",")[0] for line in path.read_text().splitlines()[2:]]
    assert not any(cell.lstrip('"').startswith(("=", "+", "-", "@", "\t")) for cell in cells)
    assert list(read_table(path).rows) == rows


def test_a_parquet_column_of_another_type_is_not_converted(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "t.parquet"
    write_table(path, ROWS, "me")
    table = parquet.read_table(path)
    changes = {
        "median_ms": pa.array([str(m.median_ms) for _, m in ROWS]),
        "runs": pa.array([m.runs + 0.5 for _, m in ROWS]),
        "version": pa.array([1 for _ in ROWS]),
        "p90_ms": pa.array([True for _ in ROWS]),
    }
    for name, column in changes.items():
        parquet.write_table(table.set_column(table.schema.get_field_index(name), name, column), path)
        if name == "median_ms":
            continue  # text that is a number is accepted, since a CSV has nothing else
        with pytest.raises(InputError, match=f"row 1: {name}"):
            read_table(path)


@pytest.mark.parametrize("cell", ["-1", "nan", "inf", "1e12", "1,000", "true", "0x10"])
def test_a_published_table_has_positive_milliseconds(cell: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f'name,ms\na,"{cell}"\n')
    with pytest.raises(InputError, match="line 2: ms .* milliseconds above 0"):
        import_table(path, TableColumns("name", "ms", Target("tensorrt"), "A40"))


# a server that goes away


def failing(times: int, message: str = "server closed the connection unexpectedly") -> Callable[[], str]:
    left = [times]

    def operation() -> str:
        if left[0]:
            left[0] -= 1
            raise OperationalError("SELECT 1", {}, Exception(message))
        return "done"

    return operation


def test_an_operation_is_repeated_with_growing_pauses_and_a_line_each(caplog: pytest.LogCaptureFixture) -> None:
    pauses: list[float] = []
    with caplog.at_level(logging.WARNING):
        found = with_retries(failing(4), "lab", Backoff(60, 1, 4), lambda: sum(pauses), pauses.append)
    assert found == "done" and pauses == [1, 2, 4, 4]
    assert len(caplog.messages) == 4 and all("database lab cannot be reached" in line for line in caplog.messages)


def test_waiting_ends_and_what_a_server_refuses_is_not_repeated() -> None:
    pauses: list[float] = []
    with pytest.raises(OperationalError):
        with_retries(failing(99), "lab", Backoff(10, 1, 4), lambda: sum(pauses), pauses.append)
    assert sum(pauses) == pytest.approx(10)
    for message in ("password authentication failed", 'database "x" does not exist', "permission denied for table"):
        with pytest.raises(OperationalError):
            with_retries(failing(1, message), "lab", Backoff(10, 1, 4), lambda: 0.0, pauses.append)
    assert sum(pauses) == pytest.approx(10)
