"""Older databases are brought up to date, measurements travel between databases and files unchanged, and damaged ones
are named by line."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import Network
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.database.filters import MeasurementFilter, MergeCounts
from latency_db.database.import_table import TableColumns, import_table
from latency_db.database.schema import SCHEMA_VERSION
from latency_db.database.table_io import Row, merged, read_table, shared_part, write_table
from nas.cli import main
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES
from tests._measured import DEVICE, measurement, row

ROOT = Path(__file__).resolve().parents[3]
NANO = SPACES["yolo-nano"]
NETWORKS = [Network(NANO.smallest.replace(width=width), 3, 96) for width in NANO["width"].values]
ROWS = [
    row(n, measurement(n, 1.0 + i / 3, anchor={"wall_ms": 1.5, "cpu_ms": 1.4 + i, "drift": 0}, rounds=i))
    for i, n in enumerate(NETWORKS)
]
ODD = row(
    NETWORKS[0],
    replace(
        measurement(NETWORKS[0]),
        workload='onnx/1 "quoted", line',
        environment={"network": None},
        time="",
        wall_median_ms=2,
    ),
)


def one_line(error: pytest.ExceptionInfo[InputError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text and all(w in text for w in words), text


def exported(path: Path, rows: list[Row]) -> Path:
    write_table(path, rows, "me")
    return path


# files


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], [*ROWS, ODD]])
def test_what_is_exported_is_read_exactly(tmp_path: Path, suffix: str, rows: list[Row]) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    table = read_table(exported(tmp_path / f"t{suffix}", rows))
    assert list(table.rows) == rows
    assert [m.to_dict() for _, m in table.rows] == [json.loads(json.dumps(m.to_dict())) for _, m in rows]
    assert (
        table.provenance["by"] == "me"
        and table.provenance["tool"].startswith("hw-nas-yolo")
        and table.provenance["time"].endswith("+00:00")
    )
    assert table.provenance["devices"][DEVICE.id] == rows[-1][1].environment.get("device")


def test_other_tools_read_the_csv(tmp_path: Path) -> None:
    with exported(tmp_path / "t.csv", ROWS).open(newline="") as file:
        provenance = json.loads(file.readline().removeprefix("# "))
        cells = list(csv.DictReader(file))
    assert [float(c["median_ms"]) for c in cells] == [m.median_ms for _, m in ROWS]
    assert [Network.from_dict(json.loads(c["network"])) for c in cells] == NETWORKS
    assert provenance["shared"]["device"] == DEVICE.to_dict() and "device" not in json.loads(cells[0]["environment"])


def test_the_shared_part_and_the_rest_are_the_whole() -> None:
    objects: list[dict[str, Any]] = [
        {"a": {"b": 1, "c": {}, "d": {"e": 1}}, "f": [1], "g": {}, "h": 1, "i": None, "j": True},
        {"a": {"b": 1, "c": {"x": 1}, "d": {"e": 2}}, "f": [1], "g": {}, "h": 1.0, "j": 1},
    ]
    shared, own = shared_part(objects)
    assert [json.dumps(merged(shared, o), sort_keys=True) for o in own] == [
        json.dumps(o, sort_keys=True) for o in objects
    ]
    assert shared["a"]["b"] == 1 and shared["f"] == [1] and "h" not in shared
    assert shared_part([]) == ({}, []) and shared_part(objects[:1])[1] == [{}]


def edit(path: Path, change: Callable[[list[str]], None]) -> Path:
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("\n".join(lines) + "\n")
    return path


def swap(number: int, old: str, new: str) -> Callable[[list[str]], None]:
    def change(lines: list[str]) -> None:
        assert old in lines[number - 1]
        lines[number - 1] = lines[number - 1].replace(old, new, 1)

    return change


DAMAGE: dict[str, tuple[Callable[[list[str]], None], tuple[str, ...]]] = {
    "negative latency": (swap(4, str(ROWS[1][1].median_ms), "-1"), ("line 4", "finite positive")),
    "not a number": (swap(3, ",40,", ",many,"), ("line 3", "many")),
    "unknown verdict": (swap(5, "contended", "fine"), ("line 5", "'fine'", "clean")),
    "unknown target": (swap(3, "onnxruntime:fp32", "onnxruntime:fp31"), ("line 3", "fp31")),
    "another architecture": (swap(3, '""width"":', '""width"":9'), ("line 3", "does not belong to its choices")),
    "another workload": (swap(3, "yolo-nano@1", "yolo-nano@2"), ("line 3", "under the key yolo-nano@2")),
    "half a cell of JSON": (swap(3, "{", "["), ("line 3", "not JSON")),
    "a cell too many": (lambda lines: lines.__setitem__(2, lines[2] + ",x"), ("line 3", "more cells")),
    "time without a zone": (swap(3, "+00:00", ""), ("line 3", "UTC")),
    "cut within a line": (lambda lines: lines.__setitem__(-1, lines[-1][:200]), (f"line {len(ROWS) + 2}",)),
    "cut between lines": (lambda lines: lines.__delitem__(-1), (f"{len(ROWS) - 1} rows", "cut or edited")),
    "every line": (
        lambda lines: lines.__setitem__(slice(2, None), [line.replace(",40,", ",,") for line in lines[2:]]),
        ("line 3", f"(and {len(ROWS) - 1} more)"),
    ),
    "no provenance": (lambda lines: lines.__delitem__(0), ("no export of this package", "--key")),
    "a later format": (swap(1, '"latency_db":1', '"latency_db":7'), ("export format 7", "expected 1")),
    "other columns": (swap(2, "median_ms", "ms"), ("line 3", "median_ms")),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named_by_line_and_nothing_is_taken(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = DAMAGE[case]
    path = edit(exported(tmp_path / "t.csv", ROWS), change)
    with pytest.raises(InputError) as error:
        read_table(path)
    one_line(error, str(path), *words)
    database = tmp_path / "l.sqlite"
    LatencyDB(database).put(*row(NETWORKS[0]))
    assert main(["db", "import", str(path), "--latency-db", str(database)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and len(LatencyDB(database).all()) == 1


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = exported(tmp_path / "t.parquet", ROWS)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError) as error:
        read_table(path)
    one_line(error, "no whole Parquet file")


# merging


def test_the_newer_measurement_wins(tmp_path: Path) -> None:
    a, b, c = NETWORKS[:3]
    db = LatencyDB(tmp_path / "l.sqlite")
    for network, when in ((a, "2026-01-02T00:00:00+00:00"), (b, "2026-01-04T00:00:00+00:00")):
        db.put(*row(network, measurement(network, 1.0, when)))
    others = [row(n, measurement(n, 2.0, "2026-01-03T00:00:00+00:00")) for n in (a, b, c)]
    assert db.merge(others) == MergeCounts(added=1, replaced=1, kept=1)
    assert {m.workload: m.median_ms for m in db.all()} == {a.key: 2.0, b.key: 1.0, c.key: 2.0}
    assert db.merge(others) == MergeCounts(0, 0, 3)
    twice = [row(a, measurement(a, ms, f"2026-01-0{ms}T00:00:00+00:00")) for ms in (6, 5)]
    assert db.merge(twice) == MergeCounts(0, 1, 0) and db.get(twice[0][0]).median_ms == 6


def test_a_merge_that_fails_takes_nothing(tmp_path: Path) -> None:
    db = LatencyDB(tmp_path / "l.sqlite")
    db.put(*ROWS[0])
    with closing(sqlite3.connect(tmp_path / "l.sqlite")) as connection, connection:
        stop = "CREATE TRIGGER stop BEFORE INSERT ON measurements WHEN NEW.workload = '{}' BEGIN SELECT RAISE(ABORT, 'disk I/O failed'); END"
        connection.execute(stop.format(NETWORKS[-1].key))
    with pytest.raises(Exception, match="disk I/O failed"):
        db.merge(ROWS)
    assert [m.workload for m in db.all()] == [NETWORKS[0].key]


def test_rows_are_chosen(tmp_path: Path) -> None:
    db = LatencyDB(tmp_path / "l.sqlite")
    db.merge(
        [
            *ROWS,
            row(NETWORKS[0], device="feedbeef"),
            ODD,
            row(NETWORKS[0], replace(ROWS[0][1], target=Target("onnxruntime-x"))),
        ]
    )
    counts = {
        MeasurementFilter(): len(ROWS) + 3,
        MeasurementFilter(target="onnxruntime"): len(ROWS) + 2,
        MeasurementFilter(target="onnxruntime:fp32"): len(ROWS) + 2,
        MeasurementFilter(target="onnxruntime:fp3"): 0,
        MeasurementFilter(space="yolo-nano"): len(ROWS) + 2,
        MeasurementFilter(device="feed"): 1,
        MeasurementFilter(device="ODD"): len(ROWS) + 2,
        MeasurementFilter(workload=NETWORKS[1].architecture.id): 1,
        MeasurementFilter(workload="%"): 0,
        MeasurementFilter(version="2.0"): 0,
    }
    assert {chosen: len(list(db.rows(chosen))) for chosen in counts} == counts
    assert {chosen: sum(len(g.times_ms) for g in db.groups(chosen)) for chosen in counts} == counts


# migration


def old_database(path: Path, rows: list[Row]) -> Path:
    """As version 1 of the schema left it."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE latency_meta (name VARCHAR NOT NULL, value VARCHAR NOT NULL, PRIMARY KEY (name))"
        )
        connection.execute(
            "CREATE TABLE measurements (workload VARCHAR NOT NULL, target VARCHAR NOT NULL, version VARCHAR NOT NULL, device VARCHAR NOT NULL, "
            "median_ms DOUBLE NOT NULL, source VARCHAR NOT NULL, verdict VARCHAR NOT NULL, time VARCHAR NOT NULL, record TEXT NOT NULL, "
            "PRIMARY KEY (workload, target, version, device))"
        )
        connection.execute("INSERT INTO latency_meta VALUES ('schema', '1')")
        for k, m in rows:
            values = (
                k.workload,
                k.target,
                k.version,
                k.device,
                m.median_ms,
                m.source,
                m.verdict,
                m.time,
                json.dumps(m.to_dict()),
            )
            connection.execute("INSERT INTO measurements VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    return path


def state(path: Path) -> tuple[str, int, int]:
    """Schema version, number of columns, number of rows."""
    with closing(sqlite3.connect(path)) as connection:
        version = connection.execute("SELECT value FROM latency_meta").fetchone()[0]
        columns = connection.execute("PRAGMA table_info(measurements)").fetchall()
        return version, len(columns), connection.execute("SELECT count(*) FROM measurements").fetchone()[0]


OPENER = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from latency_db.database.db import LatencyDB; "
    "print('go', flush=True); print(len(LatencyDB(sys.argv[2]).all()))"
)


def opener(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OPENER, str(ROOT), str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_an_older_database_is_migrated_by_whoever_opens_it_first(tmp_path: Path) -> None:
    path = old_database(tmp_path / "l.sqlite", ROWS)
    openers = [opener(path) for _ in range(4)]
    assert [o.communicate() for o in openers] == [(f"go\n{len(ROWS)}\n", "")] * 4
    db = LatencyDB(path)
    assert sorted(db.rows(), key=str) == sorted(ROWS, key=str)
    assert state(path) == (str(SCHEMA_VERSION), 11, len(ROWS))
    assert [(g.space, g.device_name, len(g.times_ms)) for g in db.groups()] == [("yolo-nano", DEVICE.cpu, len(ROWS))]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_kill_9_during_a_migration_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    many = [(replace(k, device=f"d{i}"), m) for i in range(600) for k, m in ROWS]
    old = old_database(tmp_path / "old.sqlite", many).read_bytes()
    seen = set()
    for n, delay in enumerate((0.0, 0.02, 0.06, 0.15, 0.4)):
        path = tmp_path / f"{n}.sqlite"
        path.write_bytes(old)
        process = opener(path)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        seen.add(state(path))
        assert len(LatencyDB(path).groups()) == 600
        assert state(path) == (str(SCHEMA_VERSION), 11, len(many))
    assert seen <= {("1", 9, len(many)), (str(SCHEMA_VERSION), 11, len(many))}


def test_an_older_database_with_a_damaged_record_is_migrated_too(tmp_path: Path) -> None:
    path = old_database(tmp_path / "l.sqlite", ROWS)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE measurements SET record = 'x' WHERE workload = ?", (NETWORKS[0].key,))
        connection.execute("DELETE FROM latency_meta")  # version 1 was killed before it wrote its number
    db = LatencyDB(path)
    assert sum(len(g.times_ms) for g in db.groups()) == len(ROWS)
    assert db.get(ROWS[1][0]) == ROWS[1][1]
    with pytest.raises(InputError, match="damaged"):
        db.get(ROWS[0][0])


# others' tables


def test_a_column_of_another_table(tmp_path: Path) -> None:
    path = tmp_path / "yolobench.csv"
    path.write_text("model_name,params,latency_a40\nyolo_160,10,1.5\nyolo_192,10,\nyolo_224,11,2.5\n")
    rows, skipped = import_table(
        path, TableColumns("model_name", "latency_a40", Target("tensorrt", "fp16"), "NVIDIA A40")
    )
    assert skipped == 1 and [(k.workload, k.target, m.median_ms) for k, m in rows] == [
        ("yolo_160", "tensorrt:fp16", 1.5),
        ("yolo_224", "tensorrt:fp16", 2.5),
    ]
    assert {(m.source, m.runs) for _, m in rows} == {("table", 0)} and rows[0][1].environment["columns"][
        "params"
    ] == "10"
    for text, words in (
        ("model_name,latency_a40\na,1\na,2\n", ("line 3", "second time")),
        ("model_name,latency_a40\na,fast\n", ("line 2", "'fast'", "milliseconds")),
        ("model_name,latency_a40\na,0\n", ("line 2", "above 0")),
        ("model_name,latency_a40\na,1_000\n", ("line 2", "1_000", "above 0")),
        ("model_name,latency_a4\na,1\n", ("'latency_a40'", "did you mean 'latency_a4'")),
    ):
        path.write_text(text)
        with pytest.raises(InputError) as error:
            import_table(path, TableColumns("model_name", "latency_a40", Target("tensorrt"), "A40"))
        one_line(error, str(path), *words)


# the command


def test_the_command_moves_a_database_to_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs, table = (str(tmp_path / name) for name in ("ours.sqlite", "theirs.sqlite", "t.csv"))
    LatencyDB(ours).merge([*ROWS, ODD])
    for argv in (
        ["export", table, "--space", "yolo-nano", "--by", "me"],
        ["import", table, "--latency-db", theirs],
        ["merge", ours, "--latency-db", theirs],
        ["ls", "--latency-db", theirs],
        ["ls", "--each", "--space", "yolo-nano"],
    ):
        assert main(["db", *argv, *([] if "--latency-db" in argv else ["--latency-db", ours])]) == 0
    shown = capsys.readouterr().out
    assert (
        f"{len(ROWS)} measurements: {len(ROWS)} new, 0 newer" in shown
        and f"{len(ROWS) + 1} measurements: 1 new, 0 newer" in shown
    )
    assert (
        f"{len(ROWS)} of {len(ROWS) + 1} measurements in" in shown and NETWORKS[0].key in shown and DEVICE.cpu in shown
    )
    assert sorted(LatencyDB(theirs).rows(), key=str) == sorted(LatencyDB(ours).rows(), key=str)
    assert main(["db", "show", NETWORKS[1].architecture.id, "--latency-db", ours]) == 0
    assert [Measurement.from_dict(found["measurement"]) for found in json.loads(capsys.readouterr().out)] == [
        ROWS[1][1]
    ]


CASES = {
    "no database": ("ls --latency-db {tmp}/none.sqlite", "none.sqlite", "nas measure"),
    "nothing to show": ("show abc --latency-db {tmp}/l.sqlite", "'abc'", "list --each"),
    "nothing to export": (
        "export {tmp}/t.csv --space yolo-nas --latency-db {tmp}/l.sqlite",
        "no measurement",
        "nas db list",
    ),
    "export of another kind": ("export {tmp}/t.xlsx --latency-db {tmp}/l.sqlite", ".xlsx", ".csv or .parquet"),
    "export to nowhere": ("export {tmp}/none/t.csv --latency-db {tmp}/l.sqlite", "cannot write", "none/t.csv"),
    "import of nothing": ("import {tmp}/none.csv --latency-db {tmp}/new.sqlite", "does not exist", "none.csv"),
    "import of a database": ("import {tmp}/renamed.csv --latency-db {tmp}/new.sqlite", "is a database", "nas db merge"),
    "import of garbage": ("import {tmp}/garbage.csv --latency-db {tmp}/new.sqlite", "line 2", "no UTF-8"),
    "half a foreign import": (
        "import {tmp}/garbage.csv --key a --latency-db {tmp}/new.sqlite",
        "without --value",
        "--target",
    ),
    "merge of nothing": ("merge {tmp}/none.sqlite --latency-db {tmp}/new.sqlite", "no database at", "none.sqlite"),
    "merge of a table": ("merge {tmp}/garbage.csv --latency-db {tmp}/new.sqlite", "is a table", "nas db import"),
    "merge of no database": (
        "merge {tmp}/garbage.sqlite --latency-db {tmp}/new.sqlite",
        "damaged or no database",
        "garbage.sqlite",
    ),
    "a newer schema": ("ls --latency-db {tmp}/newer.sqlite", "schema version 99", f"1 to {SCHEMA_VERSION}"),
    "locked": ("merge {tmp}/l.sqlite --latency-db {tmp}/locked.sqlite", "locked by another process"),
    "no such driver": ("ls --latency-db postgresql+none://server/db", "driver", "psycopg"),
    "no action": ("", "ACTION", "--help"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    LatencyDB(tmp_path / "l.sqlite").merge(ROWS)
    for name in ("newer", "locked"):
        LatencyDB(tmp_path / f"{name}.sqlite").close()
    (tmp_path / "renamed.csv").write_bytes((tmp_path / "l.sqlite").read_bytes())
    for name in ("garbage.csv", "garbage.sqlite"):
        (tmp_path / name).write_bytes(b"one line\n\xff\x00garbage" * 99)
    with closing(sqlite3.connect(tmp_path / "newer.sqlite")) as connection, connection:
        connection.execute("UPDATE latency_meta SET value = '99'")
    monkeypatch.setattr(LatencyDB.__init__, "__defaults__", (0.05, *(LatencyDB.__init__.__defaults__ or ())[1:]))
    other = sqlite3.connect(tmp_path / "locked.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    text, *words = CASES[case]
    assert main(["db", *(word.format(tmp=tmp_path) for word in text.split())]) == 2
    other.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("nas db: ")
    assert all(word in lines[0] for word in words), lines[0]
    assert not (tmp_path / "new.sqlite").exists()
