"""A search that keeps its study and its latencies on a PostgreSQL server, which is restarted while it runs."""

from __future__ import annotations

import _thread
import threading
import time
from pathlib import Path

import pytest

from latency_db.core.profiler import Network
from latency_db.database.db import LatencyDB
from nas.cli import main
from nas.core.estimate import Estimate
from nas.estimators import ESTIMATORS
from nas.search.settings import SearchSettings
from nas.search.study_reader import read_candidates
from search_spaces.architecture import Architecture
from tests._fakes import HashLatency, tiny_space
from tests._measured import measurement, row
from tests._postgresql import Server, running

pytest.importorskip("psycopg", reason="pip install psycopg[binary]")
RESTARTS, TRIALS, CLASSES = 5, 24, 2
FIXED = [part for c in tiny_space().choices for part in ("--fix", f"{c.name}={','.join(map(str, c.values))}")]


class Kept(HashLatency):
    """A latency from the architecture's hash, which the database keeps as one that was measured."""

    def __call__(self, architecture: Architecture) -> Estimate:
        found = super().__call__(architecture)
        network = Network(architecture, CLASSES, int(architecture["image_size"]))
        key, measured = row(network, measurement(network, found.value))
        assert self.context.database is not None
        if self.context.database.find(key) is None:
            self.context.database.put(key, measured)
        return found


def restart(server: Server, ended: threading.Event, done: list[int]) -> None:
    """Restart the server whenever the search has measured another seventh of its candidates."""
    for number in range(1, RESTARTS + 1):
        while not ended.is_set():
            (count,) = server.sql("latency", "SELECT count(*) FROM measurements")[0]
            if count >= number * TRIALS // (RESTARTS + 2):
                break
            time.sleep(0.05)
        if ended.is_set():
            return
        try:
            server.stop()
            server.start()
        except BaseException:
            _thread.interrupt_main()  # the search would wait for the server
            raise
        done.append(count)


def test_a_search_survives_restarts_of_its_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ESTIMATORS._targets, "latency", "tests.nas.search.test_postgresql_restarts:Kept")
    monkeypatch.setattr("nas.search.storage.FIRST_WAIT_S", 0.2, raising=False)
    ended, done = threading.Event(), list[int]()
    with running() as server:
        for name in ("study", "latency"):
            server.sql("postgres", f"CREATE DATABASE {name}")
        LatencyDB(server.url("latency")).close()
        restarting = threading.Thread(target=restart, args=(server, ended, done))
        restarting.start()
        try:
            call = ["search", "--accuracy", "elements", "--num-classes", str(CLASSES), "--sampler", "random", *FIXED]
            where = ["--storage", server.url("study"), "--latency-db", server.url("latency")]
            run = tmp_path / "run"
            assert main([*call, "--trials", str(TRIALS), *where, "--out", str(run)]) == 0
        finally:
            ended.set()
            restarting.join()
        assert len(done) == RESTARTS
        settings = SearchSettings.read(run)
        candidates = list(read_candidates(settings.storage_of(run), settings.study_name(run)))
        with LatencyDB(server.url("latency")) as database:
            kept = {m.workload for m in database.all()}
        networks = {Network(c.architecture, CLASSES, int(c.architecture["image_size"])).key for c in candidates}
        assert len(candidates) == len(networks) == TRIALS and networks <= kept
