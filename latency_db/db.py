"""Measurements kept by content: a second search re-uses every one. SQLite file by default, PostgreSQL by URL; several processes at once."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

from sqlalchemy import Column, Double, Engine, MetaData, String, Table, Text, create_engine, event, inspect, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, InterfaceError, NoSuchModuleError, OperationalError, ProgrammingError
from sqlalchemy.schema import CreateTable

from latency_db.measurement import LatencyKey, Measurement
from latency_db.profiler import Profiler, Workload
from search_spaces.errors import InputError

SCHEMA_VERSION = 1

_METADATA = MetaData()
_META = Table("latency_meta", _METADATA, Column("name", String, primary_key=True), Column("value", String, nullable=False))
# The record is the whole measurement and the truth; the columns beside it are for whoever looks with SQL.
_MEASUREMENTS = Table(
    "measurements",
    _METADATA,
    Column("workload", String, primary_key=True),
    Column("target", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("device", String, primary_key=True),
    Column("median_ms", Double, nullable=False),
    Column("source", String, nullable=False),
    Column("verdict", String, nullable=False),
    Column("time", String, nullable=False),
    Column("record", Text, nullable=False),
)
_KEY = ("workload", "target", "version", "device")
# What a driver says -> what it means and what to do; drivers give no codes that all of them share.
_REASONS = (
    (("not a database", "malformed"), "is damaged or no database", "move the file away: what it held is measured again"),
    (("readonly", "read-only", "unable to open"), "cannot be written", "choose a folder that you may write to"),
    (("disk is full", "disk i/o", "no space left"), "cannot be written: the disk is full or fails", "free some space"),
    (("locked",), "stayed locked by another process", "wait for the other process or choose another file"),
)


class MissingLatency(InputError, LookupError):
    """A latency was asked for that nobody has measured. It never becomes a default number."""


class LatencyDB:
    """Measurements keyed by :class:`LatencyKey`, in the database at a path (SQLite file, made when missing) or SQLAlchemy URL.

    Another process that writes is waited for ``busy_s`` seconds. Raises InputError, one line, for what cannot be opened or written.
    """

    def __init__(self, url_or_path: str | Path, busy_s: float = 30.0) -> None:
        self._url = _url(url_or_path)
        self._name = str(self._url.database if self._url.get_backend_name() == "sqlite" else self._url.render_as_string(hide_password=True))
        with self._explained():
            self._engine = _engine(self._url, busy_s)
            self._pid = os.getpid()
            if self._version() is None:
                _retry(self._create, busy_s)
            version = self._version()
        if version != str(SCHEMA_VERSION):
            hint = "it was written by another version of this package: update the package, or choose another file"
            raise InputError(f"{self._name} has schema version {version}", str(SCHEMA_VERSION), hint)

    def find(self, key: LatencyKey) -> Measurement | None:
        """The measurement of a key, or None."""
        with self._explained(), self._live().connect() as connection:
            record = connection.execute(select(_MEASUREMENTS.c.record).where(*_where(key))).scalar_one_or_none()
        return None if record is None else self._parse(record)

    def get(self, key: LatencyKey) -> Measurement:
        """The measurement of a key; MissingLatency says what there is instead."""
        if found := self.find(key):
            return found
        others = [k for k, _ in self._records(key.workload)]
        near = "; ".join(f"{k.target} {k.version} on device {k.device}" for k in others[:3])
        raise MissingLatency(
            f"no latency of {key.workload} on {key.target} (version {key.version}, device {key.device}) in {self._name}",
            "one that was measured" + (f" (there is: {near}{'; …' if len(others) > 3 else ''})" if others else ""),
            f"measure it with: nas measure … --target {key.target}",
        )

    def put(self, key: LatencyKey, measurement: Measurement) -> None:
        """Keeps a measurement, in place of an older one of the same key. Once this returns, a kill of this process loses nothing."""
        if (key.workload, key.target) != (measurement.workload, str(measurement.target)):
            raise InputError(
                f"measurement of {measurement.workload} on {measurement.target}", f"one of {key.workload} on {key.target}, as its key says"
            )
        values = {
            **{name: getattr(key, name) for name in _KEY},
            **{name: getattr(measurement, name) for name in ("median_ms", "source", "verdict", "time")},
            "record": json.dumps(measurement.to_dict()),
        }
        with self._explained(), self._live().begin() as connection:
            connection.execute(upsert(connection.dialect.name, values))

    def measure_cached(self, profiler: Profiler, workload: Workload, fresh: bool = False) -> Measurement:
        """The kept measurement of a workload on the profiler's target, else a new one, which is kept.

        The workload's ONNX is made only when it is measured. ``fresh`` measures in any case (finalists, before they are reported).
        """
        key = profiler.key(workload.key)
        found = None if fresh else self.find(key)
        if found is not None:
            return found
        measurement = profiler.measure(workload)
        self.put(key, measurement)
        return measurement

    def rows(self) -> Iterator[tuple[LatencyKey, Measurement]]:
        """All measurements with their keys, in the order of the keys."""
        for key, record in self._records():
            yield key, self._parse(record)

    def all(self) -> list[Measurement]:
        """All measurements."""
        return [measurement for _, measurement in self.rows()]

    def reference_anchor_ms(self, key: LatencyKey) -> float | None:
        """The anchor's usual time in ms beside the measurements of one target, version and device (their median); None where there is none.

        With it :meth:`Measurement.at_reference` makes measurements comparable that were taken while the machine ran at different speeds.
        """
        same = [m.anchor_ms for k, m in self.rows() if (k.target, k.version, k.device) == (key.target, key.version, key.device)]
        known = [ms for ms in same if ms is not None]
        return median(known) if known else None

    def close(self) -> None:
        """Gives connections back; the database can still be used afterwards."""
        self._engine.dispose()

    def __enter__(self) -> LatencyDB:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _live(self) -> Engine:
        """The engine; connections of before a fork stay with the parent."""
        if self._pid != os.getpid():
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        return self._engine

    def _records(self, workload: str | None = None) -> list[tuple[LatencyKey, str]]:
        columns = [_MEASUREMENTS.c[name] for name in (*_KEY, "record")]
        query = select(*columns).order_by(*columns[:4])
        if workload is not None:
            query = query.where(_MEASUREMENTS.c.workload == workload)
        with self._explained(), self._live().connect() as connection:
            return [(LatencyKey(*row[:4]), row[4]) for row in connection.execute(query)]

    def _parse(self, record: str) -> Measurement:
        try:
            return Measurement.from_dict(json.loads(record))
        except (json.JSONDecodeError, InputError) as error:
            raise InputError(f"a record of {self._name} is damaged: {error}") from None

    def _create(self) -> None:
        with self._live().begin() as connection:
            for table in _METADATA.sorted_tables:
                connection.execute(CreateTable(table, if_not_exists=True))
            insert = _insert(connection.dialect.name)(_META).values(name="schema", value=str(SCHEMA_VERSION))
            connection.execute(insert.on_conflict_do_nothing())

    def _version(self) -> str | None:
        """Schema version; None in a database that is not one of ours yet."""
        with self._live().connect() as connection:
            if not inspect(connection).has_table(_META.name):
                return None
            found = connection.execute(select(_META.c.value).where(_META.c.name == "schema")).scalar_one_or_none()
        return None if found is None else str(found)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what a database refuses into one line; errors of our own statements pass."""
        try:
            yield
        except (IntegrityError, ProgrammingError):
            raise
        except (OperationalError, DatabaseError, InterfaceError) as error:
            said = " ".join(str(error.orig).split())
            for words, meaning, hint in _REASONS:
                if any(word in said.lower() for word in words):
                    raise InputError(f"{self._name} {meaning} ({said})", hint=hint) from None
            raise InputError(f"database {self._name}: {said}") from None


def upsert(dialect: str, values: dict[str, Any]) -> Any:
    """The statement that inserts a row of measurements or replaces the one of its key."""
    statement = _insert(dialect)(_MEASUREMENTS).values(values)
    return statement.on_conflict_do_update(index_elements=list(_KEY), set_={k: v for k, v in values.items() if k not in _KEY})


def _insert(dialect: str) -> Any:
    return {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[dialect]


def _where(key: LatencyKey) -> list[Any]:
    return [_MEASUREMENTS.c[name] == getattr(key, name) for name in _KEY]


def _url(url_or_path: str | Path) -> URL:
    text = str(url_or_path)
    if isinstance(url_or_path, Path) or "://" not in text:
        path = Path(text).expanduser().resolve()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {path.parent}: {error.strerror}", "a folder that you may write to") from None
        return URL.create("sqlite", database=str(path))
    try:
        url = make_url(text)
        kind = url.get_backend_name()
    except ArgumentError:
        raise InputError(f"database URL {text!r}", "a path, or a URL such as postgresql://user@host/name") from None
    if kind not in ("sqlite", "postgresql") or (kind == "sqlite" and not url.database):
        raise InputError(f"database URL of kind {kind!r}", "a path, sqlite:///<file> or postgresql://…")
    return url


def _engine(url: URL, busy_s: float) -> Engine:
    try:
        if url.get_backend_name() != "sqlite":
            return create_engine(url)
        engine = create_engine(url, connect_args={"timeout": busy_s})
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise InputError(
            f"the driver of {url.drivername} is missing ({error})", hint="install it, for PostgreSQL: pip install psycopg[binary]"
        ) from None
    event.listen(engine, "connect", lambda connection, _record: _prepare(connection, busy_s))
    return engine


def _prepare(connection: Any, busy_s: float) -> None:
    """Readers and one writer side by side; a process that is killed loses nothing that was committed."""
    cursor = connection.cursor()
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        _retry(lambda: cursor.execute("PRAGMA journal_mode=WAL"), busy_s)
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _retry(action: Callable[[], object], patience_s: float) -> None:
    """Changing the journal or making tables at the same moment as another process fails at once, whatever the busy timeout says."""
    end = time.monotonic() + patience_s
    while True:
        try:
            action()
            return
        except Exception as error:
            raced = any(words in str(error).lower() for words in ("locked", "already exists", "duplicate key"))
            if not raced or time.monotonic() >= end:
                raise
            time.sleep(0.05)
