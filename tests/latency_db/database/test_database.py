"""The database keeps measurements exactly, for many processes at once, and says in one line what is wrong with a
file."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.dialects import postgresql

from latency_db.core.measurement import LatencyKey, Measurement
from latency_db.core.profiler import Profiler, Workload
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB, MissingLatency
from latency_db.database.schema import upsert
from search_spaces.errors import InputError

ROOT = Path(__file__).resolve().parents[3]


def measurement(workload: str = "w", median_ms: float = 2.0) -> Measurement:
    return Measurement(
        median_ms=median_ms,
        p90_ms=median_ms * 1.1,
        p99_ms=median_ms * 1.2,
        low_ms=median_ms * 0.99,
        high_ms=median_ms * 1.01,
        runs=40,
        source="measured",
        verdict="clean",
        clock="wall",
        target=Target("onnxruntime"),
        workload=workload,
        environment={"anchor": {"wall_ms": 1.5, "cpu_ms": 1.5}},
    )


def key(workload: str = "w", device: str = "d") -> LatencyKey:
    return LatencyKey(workload, "onnxruntime:fp32", "1.0", device)


class Counting(Profiler):
    """A runtime that answers with a number of its own and counts how often it is asked."""

    runtime = "onnxruntime"
    precisions = ("fp32",)
    asked = 0

    @classmethod
    def available(cls) -> str | None:
        return None

    @classmethod
    def version(cls) -> str:
        return "1.0"

    def measure(self, workload: Workload) -> Measurement:
        workload.path()
        self.asked += 1
        return measurement(workload.key, float(self.asked))


def test_what_was_put_is_got_bit_for_bit(tmp_path: Path) -> None:
    with LatencyDB(tmp_path / "new" / "folder" / "l.db") as db:
        db.put(key(), measurement(median_ms=0.1 + 0.2))
        assert db.find(key("other")) is None
    with LatencyDB(str(tmp_path / "new" / "folder" / "l.db")) as db:
        assert db.get(key()) == measurement(median_ms=0.1 + 0.2)
        assert list(db.rows()) == [(key(), measurement(median_ms=0.1 + 0.2))] and db.all() == [db.get(key())]


def test_the_newest_of_a_key_is_kept(tmp_path: Path) -> None:
    db = LatencyDB(tmp_path / "l.db")
    db.put(key(), measurement(median_ms=2.0))
    db.put(key(), measurement(median_ms=3.0))
    db.put(key(device="e"), measurement(median_ms=4.0))
    assert [m.median_ms for m in db.all()] == [3.0, 4.0]


def test_missing_latency_says_what_there_is(tmp_path: Path) -> None:
    db = LatencyDB(tmp_path / "l.db")
    db.put(key(device="other-device"), measurement())
    with pytest.raises(
        MissingLatency, match=r"no latency of w on onnxruntime:fp32.*other-device.*nas measure"
    ) as error:
        db.get(key())
    assert isinstance(error.value, LookupError) and isinstance(error.value, InputError) and "\n" not in str(error.value)


def test_a_measurement_belongs_to_its_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="as its key says"):
        LatencyDB(tmp_path / "l.db").put(key("v"), measurement("w"))


def test_measured_once_and_the_model_made_only_then(tmp_path: Path) -> None:
    made: list[str] = []

    def make() -> Path:
        made.append("model")
        path = tmp_path / "model.onnx"
        path.write_bytes(b"x")
        return path

    db, profiler = LatencyDB(tmp_path / "l.db"), Counting(Target("onnxruntime"))
    first = db.measure_cached(profiler, Workload("w", make))
    again = LatencyDB(tmp_path / "l.db").measure_cached(profiler, Workload("w", make))
    assert first == again and profiler.asked == 1 and made == ["model"]
    assert db.measure_cached(profiler, Workload("w", make), fresh=True).median_ms == 2.0
    assert db.get(profiler.key("w")).median_ms == 2.0


def test_a_failed_measurement_leaves_nothing(tmp_path: Path) -> None:
    db, profiler = LatencyDB(tmp_path / "l.db"), Counting(Target("onnxruntime"))
    with pytest.raises(InputError, match="no model file"):
        db.measure_cached(profiler, Workload("w", tmp_path / "none.onnx"))
    assert db.find(profiler.key("w")) is None


def test_reference_of_the_anchor_is_the_median_of_its_kind(tmp_path: Path) -> None:
    db = LatencyDB(tmp_path / "l.db")
    assert db.nominal_reference_ms(key()) is None
    for i, ms in enumerate([1.0, 1.2, 9.0]):
        db.put(key(f"w{i}"), replace(measurement(f"w{i}"), environment={"anchor": {"wall_ms": ms, "cpu_ms": 0.0}}))
    db.put(key("w9", device="e"), replace(measurement("w9"), environment={"anchor": {"wall_ms": 100.0, "cpu_ms": 0.0}}))
    assert db.nominal_reference_ms(key()) == 1.2


def sql(path: Path, statement: str) -> tuple[object, ...] | None:
    """First row of a statement run beside our own code."""
    with closing(sqlite3.connect(path)) as connection, connection:
        row: tuple[object, ...] | None = connection.execute(statement).fetchone()
    return row


WRITER = """
import sys
from dataclasses import replace
sys.path.insert(0, sys.argv[1])
from tests.latency_db.database.test_database import key, measurement
from latency_db.database.db import LatencyDB
db = LatencyDB(sys.argv[2])
name, count = sys.argv[3], int(sys.argv[4])
for i in range(count):
    db.put(key(f"{name}-{i}"), measurement(f"{name}-{i}"))
    db.put(key("shared"), measurement("shared", 1.0 + i))
    print(i, flush=True)
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(ROOT), str(path), name, str(count)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_several_processes_open_and_write_one_new_file(tmp_path: Path) -> None:
    path, count = tmp_path / "l.db", 25
    writers = [writer(path, f"p{n}", count) for n in range(4)]
    assert [w.communicate()[0].split()[-1] for w in writers] == [str(count - 1)] * 4
    assert [w.returncode for w in writers] == [0] * 4
    names = {m.workload for m in LatencyDB(path).all()}
    assert sql(path, "PRAGMA journal_mode") == ("wal",)
    assert names == {f"p{n}-{i}" for n in range(4) for i in range(count)} | {"shared"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_takes_connections_of_its_own(tmp_path: Path) -> None:
    db = LatencyDB(tmp_path / "l.db")
    db.put(key("parent"), measurement("parent"))
    child = os.fork()
    if child == 0:
        ok = db.find(key("parent")) is not None
        db.put(key("child"), measurement("child"))
        os._exit(0 if ok else 1)
    for i in range(20):
        db.put(key(f"w{i}"), measurement(f"w{i}"))
    assert os.waitpid(child, 0)[1] == 0
    assert len(db.all()) == 22


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_kill_9_of_a_writer_loses_nothing_that_was_put(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    for n, lines in enumerate((1, 7, 30)):
        process = writer(path, f"k{n}", 100_000)
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        rest = len(process.stdout.read().splitlines())
        process.stdout.close()
        process.wait()
        with LatencyDB(path) as db:
            kept = [m for m in db.all() if m.workload.startswith(f"k{n}-")]
            assert lines + rest <= len(kept) <= lines + rest + 1
            db.put(key("after"), measurement("after"))
    assert sql(path, "PRAGMA integrity_check") == ("ok",)


def one_line(error: pytest.ExceptionInfo[InputError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text and all(w in text for w in words), text


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    path.write_bytes(b"this is not SQLite" * 100)
    with pytest.raises(InputError) as error:
        LatencyDB(path)
    one_line(error, str(path), "damaged or no database")
    assert path.read_bytes().startswith(b"this is not")


def test_a_database_that_was_damaged(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    with LatencyDB(path) as db:
        for i in range(50):
            db.put(key(f"w{i}"), measurement(f"w{i}"))
    sql(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(InputError) as error:
        LatencyDB(path).all()
    one_line(error, "damaged or no database")


def test_a_record_that_was_edited(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    db = LatencyDB(path)
    db.put(key(), measurement())
    sql(path, "UPDATE measurements SET record = '{\"median_ms\": 1}'")
    with pytest.raises(InputError) as error:
        db.get(key())
    one_line(error, "a record of", "is damaged")


def test_a_file_that_may_only_be_read(tmp_path: Path) -> None:
    LatencyDB(tmp_path / "l.db").put(key(), measurement())
    db = LatencyDB(f"sqlite:///file:{tmp_path}/l.db?mode=ro&uri=true")
    assert db.get(key()) == measurement()
    with pytest.raises(InputError) as error:
        db.put(key("v"), measurement("v"))
    one_line(error, "cannot be written", "a folder that you may write to")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write to")
def test_a_folder_that_cannot_be_written() -> None:
    with pytest.raises(InputError) as error:
        LatencyDB("/proc/l.db")
    one_line(error, "/proc/l.db", "cannot be written")
    with pytest.raises(InputError) as error:
        LatencyDB("/proc/new/l.db")
    one_line(error, "cannot make the folder")


def test_a_full_disk(tmp_path: Path) -> None:
    """SQLite's own page limit gives the very error of a full disk."""
    db = LatencyDB(tmp_path / "l.db")
    db.close()  # the limit belongs to a connection: a new one has to be made
    event.listen(db._engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count=8").close())
    with pytest.raises(InputError) as error:
        for i in range(1000):
            db.put(key(f"w{i}"), measurement(f"w{i}"))
    one_line(error, "disk is full", "free some space")
    kept = LatencyDB(tmp_path / "l.db").all()
    assert kept and all(m == measurement(m.workload) for m in kept)


def test_a_database_locked_for_too_long(tmp_path: Path) -> None:
    db = LatencyDB(tmp_path / "l.db", busy_s=0.05)
    other = sqlite3.connect(tmp_path / "l.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(InputError) as error:
        db.put(key(), measurement())
    one_line(error, "locked by another process")
    other.execute("ROLLBACK")
    other.close()
    db.put(key(), measurement())


def test_a_database_of_another_schema(tmp_path: Path) -> None:
    LatencyDB(tmp_path / "l.db").close()
    sql(tmp_path / "l.db", "UPDATE latency_meta SET value = '99'")
    with pytest.raises(InputError) as error:
        LatencyDB(tmp_path / "l.db")
    one_line(error, "schema version 99", "expected 1")


@pytest.mark.parametrize("url", ["sqlite://", "mysql://host/name", "://", "postgresql+nosuchdriver://host/name"])
def test_a_url_that_means_no_database_we_can_use(url: str) -> None:
    with pytest.raises(InputError) as error:
        LatencyDB(url)
    one_line(error)


def test_the_statements_are_postgresql_too() -> None:
    text = str(
        upsert("postgresql", {"workload": "w", "target": "t", "version": "v", "device": "d", "record": "r"}).compile(
            dialect=postgresql.dialect()
        )
    )
    assert "ON CONFLICT (workload, target, version, device) DO UPDATE SET record" in text
