"""Measurements kept by content: a second search re-uses every one. SQLite file by default, PostgreSQL by URL; several
processes at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

from sqlalchemy import ColumnElement, Engine, or_, select
from sqlalchemy.exc import DatabaseError, IntegrityError, InterfaceError, OperationalError, ProgrammingError

from latency_db.core.measurement import LatencyKey, Measurement
from latency_db.core.profiler import Profiler, Workload
from latency_db.database.connection import database_name, open_engine, parse_url
from latency_db.database.schema import (
    KEY,
    MEASUREMENTS,
    SCHEMA_VERSION,
    bring_up,
    chosen_by,
    exclusive,
    read_version,
    upsert,
)
from search_spaces.errors import InputError

# What a driver says -> what it means and what to do; drivers give no codes that all of them share.
_REASONS = (
    (
        ("not a database", "malformed"),
        "is damaged or no database",
        "move the file away: what it held is measured again",
    ),
    (("readonly", "read-only", "unable to open"), "cannot be written", "choose a folder that you may write to"),
    (("disk is full", "disk i/o", "no space left"), "cannot be written: the disk is full or fails", "free some space"),
    (
        ("locked", "lock timeout"),
        "stayed locked by another process",
        "wait for the other process or choose another file",
    ),
    (("permission denied",), "may not be written by this user", "ask for the right to create and write tables there"),
    (
        ("authentication", "no password supplied", "does not exist"),
        "refuses this user",
        "check user, password and database name in the URL",
    ),
    (
        (
            "connection to server",
            "connection is bad",
            "connection failed",
            "timeout",
            "timed out",
            "server closed",
            "terminating connection",
        ),
        "cannot be reached",
        "check that the server runs, its host and port, or use a file: --latency-db FILE",
    ),
)


class MissingLatency(InputError, LookupError):
    """A latency was asked for that nobody has measured. It never becomes a default number."""


class LatencyDB:
    """Measurements keyed by :class:`LatencyKey`, in the database at a path (SQLite file, made when missing) or
    SQLAlchemy URL.

    Another process that writes is waited for ``busy_s`` seconds. Raises InputError, one line, for what cannot be
    opened or written.
    """

    def __init__(self, url_or_path: str | Path, busy_s: float = 30.0) -> None:
        url = parse_url(url_or_path)
        self.name = database_name(url)
        with self._explained():
            self._engine = open_engine(url, busy_s)
            self._pid = os.getpid()
            version = self._version()
            if version != str(SCHEMA_VERSION):
                with exclusive(self._live()) as connection:
                    bring_up(connection)
                version = self._version()
        if version != str(SCHEMA_VERSION):
            hint = "a newer version of this package wrote it: update the package, or choose another file"
            raise InputError(f"{self.name} has schema version {version}", f"1 to {SCHEMA_VERSION}", hint)

    def find(self, key: LatencyKey) -> Measurement | None:
        """The measurement of a key, or None."""
        with self._explained(), self._live().connect() as connection:
            record = connection.execute(select(MEASUREMENTS.c.record).where(*_where(key))).scalar_one_or_none()
        return None if record is None else self._parse(record)

    def get(self, key: LatencyKey) -> Measurement:
        """The measurement of a key; MissingLatency says what there is instead."""
        if found := self.find(key):
            return found
        others = [k for k, _ in self._records(MEASUREMENTS.c.workload == key.workload)]
        near = "; ".join(f"{k.target} {k.version} on device {k.device}" for k in others[:3])
        raise MissingLatency(
            f"no latency of {key.workload} on {key.target} (version {key.version}, device {key.device}) in {self.name}",
            "one that was measured" + (f" (there is: {near}{'; …' if len(others) > 3 else ''})" if others else ""),
            f"measure it with: nas measure … --target {key.target}",
        )

    def put(self, key: LatencyKey, measurement: Measurement) -> None:
        """Keeps a measurement, in place of an older one of the same key. Once this returns, a kill of this process
        loses nothing."""
        if (key.workload, key.target) != (measurement.workload, str(measurement.target)):
            raise InputError(
                f"measurement of {measurement.workload} on {measurement.target}",
                f"one of {key.workload} on {key.target}, as its key says",
            )
        with self._explained(), self._live().begin() as connection:
            connection.execute(upsert(connection.dialect.name, MEASUREMENTS.c.keys()), _values(key, measurement))

    def merge(self, rows: Iterable[tuple[LatencyKey, Measurement]]) -> MergeCounts:
        """Takes rows over in one transaction: all or none. Of two measurements of a key the newer stays, of equally
        old ones the one that is here."""
        wanted: dict[LatencyKey, Measurement] = {}
        for key, measurement in rows:
            if key not in wanted or measurement.time > wanted[key].time:
                wanted[key] = measurement
        with self._explained(), exclusive(self._live()) as connection:
            columns = [MEASUREMENTS.c[name] for name in (*KEY, "time")]
            here = {LatencyKey(*row[:4]): row[4] for row in connection.execute(select(*columns))}
            values = [_values(key, m) for key, m in wanted.items() if key not in here or m.time > here[key]]
            if values:
                connection.execute(upsert(connection.dialect.name, MEASUREMENTS.c.keys(), newer=True), values)
        newer = sum(key in here and m.time > here[key] for key, m in wanted.items())
        added = len(wanted.keys() - here.keys())
        return MergeCounts(added, newer, len(wanted) - added - newer)

    def measure_cached(self, profiler: Profiler, workload: Workload, fresh: bool = False) -> Measurement:
        """The kept measurement of a workload on the profiler's target, else a new one, which is kept.

        The workload's ONNX is made only when it is measured. ``fresh`` measures in any case (finalists, before they
        are reported). What a profiler answers from others' measurements is not kept here a second time.
        """
        if not profiler.measures:
            return profiler.measure(workload)
        key = profiler.key(workload.key)
        found = None if fresh else self.find(key)
        if found is not None:
            return found
        measurement = profiler.measure(workload)
        self.put(key, measurement)
        return measurement

    def rows(self, chosen: MeasurementFilter | None = None) -> Iterator[tuple[LatencyKey, Measurement]]:
        """The chosen measurements (default: all) with their keys, in the order of the keys."""
        for key, record in self._records(*(chosen or MeasurementFilter()).conditions()):
            yield key, self._parse(record)

    def groups(self, chosen: MeasurementFilter | None = None) -> list[MeasurementGroup]:
        """What the database holds, by space, target, version and device; reads no records, so that it is quick in a
        large one."""
        names = ("space", "target", "version", "device", "device_name", "median_ms", "verdict", "time")
        query = select(*(MEASUREMENTS.c[name] for name in names)).where(*(chosen or MeasurementFilter()).conditions())
        found: dict[tuple[str, str, str, str], list[Any]] = {}
        with self._explained(), self._live().connect() as connection:
            for row in connection.execute(query):
                found.setdefault((row.space or "", row.target, row.version, row.device), []).append(row)
        return [_group(key, rows) for key, rows in sorted(found.items())]

    def all(self) -> list[Measurement]:
        """All measurements."""
        return [measurement for _, measurement in self.rows()]

    def nominal_reference_ms(self, *keys: LatencyKey) -> float | None:
        """The anchor's usual time in ms beside the measurements of each key's target, version and device (their
        median); None where there is none.

        With it :meth:`Measurement.at_nominal_speed` makes measurements comparable that were taken while the machine ran
        at different speeds.
        """
        same = [
            [MEASUREMENTS.c[name] == getattr(key, name) for name in ("target", "version", "device")] for key in keys
        ]
        return nominal_reference_ms(
            self._parse(record) for conditions in same for _, record in self._records(*conditions)
        )

    def close(self) -> None:
        """Gives connections back; the database can still be used afterwards."""
        self._engine.dispose()

    def __enter__(self) -> LatencyDB:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _live(self) -> Engine:
        """The engine; connections of before a fork stay with the parent."""
        if self._pid != os.getpid():
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        return self._engine

    def _records(self, *conditions: ColumnElement[bool]) -> list[tuple[LatencyKey, str]]:
        columns = [MEASUREMENTS.c[name] for name in (*KEY, "record")]
        with self._explained(), self._live().connect() as connection:
            return [
                (LatencyKey(*row[:4]), row[4])
                for row in connection.execute(select(*columns).where(*conditions).order_by(*columns[:4]))
            ]

    def _parse(self, record: str) -> Measurement:
        try:
            return Measurement.from_dict(json.loads(record))
        except (json.JSONDecodeError, InputError) as error:
            raise InputError(f"a record of {self.name} is damaged: {error}") from None

    def _version(self) -> str | None:
        with self._live().connect() as connection:
            return read_version(connection)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what a database refuses into one line; errors of our own statements pass."""
        try:
            yield
        except (OperationalError, DatabaseError, InterfaceError) as error:
            said = " ".join(str(error.orig).split())
            if isinstance(error, (IntegrityError, ProgrammingError)) and "permission denied" not in said:
                raise
            for words, meaning, hint in _REASONS:
                if any(word in said.lower() for word in words):
                    raise InputError(f"{self.name} {meaning} ({said})", hint=hint) from None
            raise InputError(f"database {self.name}: {said}") from None


@dataclass(frozen=True)
class MergeCounts:
    """How many rows were new, how many replaced an older measurement, how many were not taken because what is here is
    as new or newer."""

    added: int
    replaced: int
    kept: int


@dataclass(frozen=True)
class MeasurementGroup:
    """The measurements of one space on one target, runtime version and device; the space is "" for files.
    ``times_ms`` are their medians, sorted."""

    space: str
    target: str
    version: str
    device: str
    device_name: str
    times_ms: tuple[float, ...]
    clean: int
    newest: str


@dataclass(frozen=True)
class MeasurementFilter:
    """Which measurements; None: any.

    ``target`` is a whole target or its beginning (``onnxruntime``, ``onnxruntime:fp32``), ``device`` the beginning of
    a device's id or a part of its name, ``workload`` a whole key or a part of it (an architecture's id).
    """

    target: str | None = None
    space: str | None = None
    version: str | None = None
    device: str | None = None
    workload: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """For a query of measurements."""
        c = MEASUREMENTS.c
        found: list[ColumnElement[bool]] = [
            c[name] == value for name in ("space", "version") if (value := getattr(self, name)) is not None
        ]
        if self.target is not None:
            found.append(
                or_(
                    c.target == self.target,
                    *(c.target.startswith(self.target + sign, autoescape=True) for sign in ":@/"),
                )
            )
        if self.device is not None:
            found.append(
                or_(
                    c.device.startswith(self.device, autoescape=True),
                    c.device_name.icontains(self.device, autoescape=True),
                )
            )
        if self.workload is not None:
            found.append(c.workload.contains(self.workload, autoescape=True))
        return found


def nominal_reference_ms(measurements: Iterable[Measurement]) -> float | None:
    """The median of the anchor's times beside measurements, ms; None where none had an anchor."""
    known = [ms for m in measurements if (ms := m.reference_ms) is not None]
    return median(known) if known else None


def _group(key: tuple[str, str, str, str], rows: list[Any]) -> MeasurementGroup:
    name = next((row.device_name for row in rows if row.device_name), "")
    clean = sum(row.verdict == "clean" for row in rows)
    return MeasurementGroup(
        *key, name, tuple(sorted(row.median_ms for row in rows)), clean, max(row.time for row in rows)
    )


def _values(key: LatencyKey, measurement: Measurement) -> dict[str, Any]:
    return {
        **{name: getattr(key, name) for name in KEY},
        **{name: getattr(measurement, name) for name in ("median_ms", "source", "verdict", "time")},
        **chosen_by(key.workload, measurement.environment),
        "record": json.dumps(measurement.to_dict()),
    }


def _where(key: LatencyKey) -> list[ColumnElement[bool]]:
    return [MEASUREMENTS.c[name] == getattr(key, name) for name in KEY]
