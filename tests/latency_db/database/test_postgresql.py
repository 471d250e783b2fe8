"""The database on a real PostgreSQL server, which the test starts and ends; skipped where its programs are not
installed (Debian: postgresql)."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from benchmarks.kills import killed
from benchmarks.workers import open_shared
from latency_db.core.profiler import Network
from latency_db.database.db import LatencyDB
from latency_db.database.filters import MeasurementFilter, MergeCounts
from latency_db.database.retry import Backoff
from latency_db.database.schema import SCHEMA_VERSION
from nas.cli import main
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES
from tests._measured import DEVICE, measurement, row
from tests._postgresql import Server, running

pytest.importorskip("psycopg", reason="pip install psycopg[binary]")
ROOT = Path(__file__).resolve().parents[3]
NANO = SPACES["yolo-nano"]
NETWORKS = [Network(NANO.smallest.replace(width=width), 3, 96) for width in NANO["width"].values]
ROWS = [row(n, measurement(n, 1.0 + i, anchor={"wall_ms": 1.5, "cpu_ms": 1.0 + i})) for i, n in enumerate(NETWORKS)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as started:
        yield started


@pytest.fixture
def url(server: Server, request: pytest.FixtureRequest) -> str:
    """An empty database of the test's own."""
    name = f"t{request.session.items.index(request.node)}"
    server.sql("postgres", f"CREATE DATABASE {name}")
    return server.url(name)


def one_line(error: pytest.ExceptionInfo[InputError], *words: str) -> None:
    said = str(error.value)
    assert "\n" not in said and all(w in said for w in words), said


WRITER = """
import sys
from dataclasses import replace
sys.path.insert(0, sys.argv[1])
from latency_db.database.db import LatencyDB
from tests.latency_db.database.test_postgresql import ROWS
db = LatencyDB(sys.argv[2])
for i in range(int(sys.argv[4])):
    key, m = ROWS[0]
    db.put(replace(key, device=f"{sys.argv[3]}-{i}"), m)
    db.put(key, replace(m, runs=i))
"""


def test_several_processes_open_a_new_database_and_write_at_once(url: str) -> None:
    command = [sys.executable, "-c", WRITER, str(ROOT), url]
    writers = [subprocess.Popen([*command, f"p{n}", "20"], stderr=subprocess.PIPE, text=True) for n in range(4)]
    assert [w.communicate()[1] for w in writers] == [""] * 4
    with LatencyDB(url) as db:
        assert {k.device for k, _ in db.rows()} == {f"p{n}-{i}" for n in range(4) for i in range(20)} | {DEVICE.id}
        assert db.get(ROWS[0][0]).runs == 19


def test_everything_a_file_does_a_server_does(url: str, tmp_path: Path) -> None:
    with LatencyDB(url) as db, LatencyDB(tmp_path / "l.sqlite") as file:
        for one in (db, file):
            for key, m in ROWS:
                one.put(key, m)
            assert one.merge(
                [(k, replace(m, time="2030-01-01T00:00:00+00:00", runs=7)) for k, m in ROWS[:1]]
            ) == MergeCounts(0, 1, 0)
            assert one.merge(ROWS) == MergeCounts(0, 0, len(ROWS))
        assert sorted(db.rows(), key=str) == sorted(file.rows(), key=str)
        assert db.groups() == file.groups()
        for chosen in (
            MeasurementFilter(target="onnxruntime"),
            MeasurementFilter(device="odd"),
            MeasurementFilter(workload=NETWORKS[1].architecture.id),
            MeasurementFilter(space="none"),
        ):
            assert sorted(db.rows(chosen), key=str) == sorted(file.rows(chosen), key=str)
        assert db.nominal_reference_ms(ROWS[0][0]) == file.nominal_reference_ms(ROWS[0][0]) is not None


def test_the_command_takes_a_url(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    LatencyDB(tmp_path / "l.sqlite").merge(ROWS)
    table = str(tmp_path / "t.csv")
    for argv in (["merge", str(tmp_path / "l.sqlite")], ["export", table], ["import", table], ["ls"]):
        assert main(["db", *argv, "--latency-db", url]) == 0
    assert f"{len(ROWS)} measurements: {len(ROWS)} new" in capsys.readouterr().out


def test_an_older_schema_is_migrated_and_a_newer_refused(server: Server, url: str) -> None:
    name = url.partition("@/")[2].partition("?")[0]
    LatencyDB(url).merge(ROWS)
    for column in ("space", "device_name"):
        server.sql(name, f"ALTER TABLE measurements DROP COLUMN {column}")
    server.sql(name, "UPDATE latency_meta SET value = '1'")  # now as version 1 left it
    opening = "import sys; sys.path.insert(0, sys.argv[1]); from latency_db.database.db import LatencyDB; print(len(LatencyDB(sys.argv[2]).groups()))"
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", opening, str(ROOT), url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    assert [o.communicate() for o in openers] == [("1\n", "")] * 3
    assert server.sql(name, "SELECT DISTINCT space, device_name FROM measurements") == [("yolo-nano", DEVICE.cpu)]
    assert server.sql(name, "SELECT value FROM latency_meta") == [(str(SCHEMA_VERSION),)]
    server.sql(name, "UPDATE latency_meta SET value = '99'")
    with pytest.raises(InputError) as error:
        LatencyDB(url)
    one_line(error, "schema version 99", f"1 to {SCHEMA_VERSION}")


def test_a_server_that_was_restarted_is_found_again(server: Server, url: str) -> None:
    with LatencyDB(url, backoff=Backoff(0.2, 0.1, 0.1)) as db:
        db.put(*ROWS[0])
        server.stop()
        try:
            with pytest.raises(InputError) as error:
                db.put(*ROWS[1])
            one_line(error, "cannot be reached")
        finally:
            server.start()
        db.put(*ROWS[1])
        assert sorted(db.rows(), key=str) == sorted(ROWS[:2], key=str)


def test_a_server_that_is_away_is_waited_for(
    server: Server, url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads and writes that begin while the server is stopped end when it is back; without it they end in one line."""
    with LatencyDB(url, backoff=Backoff(60.0, 0.1, 0.5)) as db:
        db.put(*ROWS[0])
        server.stop()
        starting = threading.Timer(2.0, server.start)
        starting.start()
        try:
            db.put(*ROWS[1])
        finally:
            starting.join()
        assert db.get(ROWS[0][0]) == ROWS[0][1] and db.get(ROWS[1][0]) == ROWS[1][1]
        assert any("cannot be reached; next attempt" in line for line in caplog.messages)
        server.stop()
        monkeypatch.setattr(db, "_backoff", Backoff(0.3, 0.1, 0.1))
        try:
            with pytest.raises(InputError) as error:
                db.find(ROWS[0][0])
        finally:
            server.start()
        one_line(error, "cannot be reached")


def test_a_row_that_stays_locked(server: Server, url: str) -> None:
    with LatencyDB(url, busy_s=0.05) as db:
        db.put(*ROWS[0])
        other = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        with other.connect() as connection:
            connection.execute(text("LOCK TABLE measurements"))
            with pytest.raises(InputError) as error:
                db.put(*ROWS[0])
        other.dispose()
        one_line(error, "locked by another process")
        db.put(*ROWS[0])


def test_what_cannot_be_opened(server: Server, url: str) -> None:
    server.sql("postgres", "DROP ROLE IF EXISTS guest")
    server.sql("postgres", "CREATE ROLE guest LOGIN")
    for wrong, words in {
        "postgresql://nas:secret@127.0.0.1:1/latency": ("cannot be reached", "--latency-db"),
        "postgresql://nas@/x?host=/nowhere": ("cannot be reached",),
        server.url("no_such_database"): ("refuses this user", "database name"),
        url.replace("nas@", "nobody_known@"): ("refuses this user",),
        url.replace("nas@", "guest@"): ("may not be written by this user",),
    }.items():
        with pytest.raises(InputError) as error:
            LatencyDB(wrong)
        one_line(error, *words)
        assert "secret" not in str(error.value)


def test_workers_of_a_study_on_a_server_are_killed(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.search.driver.SETTLE_S", 0.1)
    found = killed(tmp_path, url, kills=1, trials=10, seconds=0.1, seed=3, workers=2)
    assert found["candidates"] == 10 and found["told_twice"] == 0 and found["lost"] <= 1


def test_a_study_on_a_server_has_one_driver_and_a_killed_one_is_replaced(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.search.driver.SETTLE_S", 0.1)
    program = f"""
import time
from benchmarks.workers import open_shared
with open_shared({url!r}).driver:
    print("held", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    study = open_shared(url)
    with pytest.raises(InputError) as error, study.driver:
        pass
    one_line(error, f"process {holder.pid} on", "--take-over")
    holder.kill()
    holder.wait()
    with study.driver:
        study.driver.check()
