"""The latency database: measurements by content key, in an SQLite file or on a PostgreSQL server, for many
processes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Engine, select

from latency_db.core.measurement import LatencyKey, Measurement, is_positive
from latency_db.core.profiler import Profiler, Workload
from latency_db.database.connection import database_name, open_engine, open_reader, parse_url
from latency_db.database.driver_errors import explained
from latency_db.database.filters import MeasurementFilter, MeasurementGroup, MergeCounts, group_of
from latency_db.database.retry import Backoff, with_retries
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
from latency_db.database.sqlite_file import check_file
from search_spaces.errors import InputError
from search_spaces.json_checks import parse_json
from search_spaces.text import brief, printable

T = TypeVar("T")


class MissingLatency(InputError, LookupError):
    """A latency that was not measured. No default takes its place."""


class LatencyDB:
    """Measurements keyed by :class:`LatencyKey`.

    Args:
        url_or_path: SQLite file (made if missing), or an SQLAlchemy URL.
        busy_s: Seconds to wait for another process that writes.
        read_only: Never write: an SQLite file is opened for reading, and one of an older schema is read as a migrated
            copy in memory. Writing methods then fail.
        backoff: How long to wait for a server that goes away after it was opened.

    Raises:
        InputError: The database cannot be opened or written, is another program's, or of a newer schema.
    """

    def __init__(
        self,
        url_or_path: str | Path,
        busy_s: float = 30.0,
        read_only: bool = False,
        backoff: Backoff | None = None,
    ) -> None:
        url = parse_url(url_or_path, make_folder=not read_only)
        self.name = printable(database_name(url))
        self._backoff = backoff or Backoff()
        file = Path(str(url.database)) if url.get_backend_name() == "sqlite" else None
        if file is not None:
            check_file(file)
            if read_only and not file.exists():
                raise InputError(f"no database at {self.name}", "a file or URL")
        with explained(self.name):
            self._pid = os.getpid()
            self._engine = open_reader(url, busy_s) if read_only and file else open_engine(url, busy_s)
            version = self._version()
            if version != str(SCHEMA_VERSION):
                if read_only and file:
                    self._engine = open_reader(url, busy_s, copied=True)
                with exclusive(self._live()) as connection:
                    bring_up(connection)
                version = self._version()
        if version != str(SCHEMA_VERSION):
            hint = "a newer version of this package wrote it: update the package, or choose another file"
            raise InputError(
                f"{self.name} has schema version {printable(version)[:40]}", f"1 to {SCHEMA_VERSION}", hint
            )

    def find(self, key: LatencyKey) -> Measurement | None:
        """Return the measurement of a key, or None. Raises InputError if its record is damaged."""

        def read() -> str | None:
            with self._live().connect() as connection:
                return connection.execute(select(MEASUREMENTS.c.record).where(*_where(key))).scalar_one_or_none()

        record = self._transact(read)
        return None if record is None else self._parse(record)

    def get(self, key: LatencyKey) -> Measurement:
        """Return the measurement of a key. Raises MissingLatency, which names what there is instead."""
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
        """Store a measurement in place of an older one of its key; durable once this returns.

        Raises:
            InputError: Key and measurement do not belong together, or the database cannot be written.
        """
        if (key.workload, key.target) != (measurement.workload, str(measurement.target)):
            raise InputError(
                f"measurement of {measurement.workload} on {measurement.target}",
                f"one of {key.workload} on {key.target}, as its key says",
            )

        def write() -> None:
            with self._live().begin() as connection:
                connection.execute(upsert(connection.dialect.name, MEASUREMENTS.c.keys()), _values(key, measurement))

        self._transact(write)

    def merge(self, rows: Iterable[tuple[LatencyKey, Measurement]]) -> MergeCounts:
        """Store rows in one transaction: all or none.

        Of two measurements of a key the newer stays; of equally old ones the one in the database.

        Raises:
            InputError: The database cannot be written.
        """
        wanted: dict[LatencyKey, Measurement] = {}
        for key, measurement in rows:
            if key not in wanted or measurement.time > wanted[key].time:
                wanted[key] = measurement

        def write() -> dict[LatencyKey, str]:
            with exclusive(self._live()) as connection:
                columns = [MEASUREMENTS.c[name] for name in (*KEY, "time")]
                here = {LatencyKey(*row[:4]): str(row[4]) for row in connection.execute(select(*columns))}
                values = [_values(key, m) for key, m in wanted.items() if key not in here or m.time > here[key]]
                if values:
                    connection.execute(upsert(connection.dialect.name, MEASUREMENTS.c.keys(), newer=True), values)
                return here

        here = self._transact(write)
        newer = sum(key in here and m.time > here[key] for key, m in wanted.items())
        added = len(wanted.keys() - here.keys())
        return MergeCounts(added, newer, len(wanted) - added - newer)

    def measure_cached(self, profiler: Profiler, workload: Workload, fresh: bool = False) -> Measurement:
        """Return the stored measurement of a workload on the profiler's target, else measure and store it.

        Args:
            profiler: Measures; what a recorded table answers is not stored a second time.
            workload: Its ONNX file is written only if it is measured.
            fresh: Measure in any case (finalists, before they are reported).

        Raises:
            InputError: The stored record is damaged, the runtime refuses the model, a recorded table lacks it, or the
                database cannot be written.
            RuntimeFailure: A run failed.
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
        """Yield the measurements that a filter admits (default: all) with their keys, ordered by key.

        Raises:
            InputError: A record is damaged.
        """
        for key, record in self._records(*(chosen or MeasurementFilter()).conditions()):
            yield key, self._parse(record)

    def groups(self, chosen: MeasurementFilter | None = None) -> list[MeasurementGroup]:
        """Return the measurements grouped by space, target, version and device, ordered by these.

        No record is read, so that this is quick also for many measurements.
        """
        names = ("space", "target", "version", "device", "device_name", "median_ms", "verdict", "time")
        query = select(*(MEASUREMENTS.c[name] for name in names)).where(*(chosen or MeasurementFilter()).conditions())
        found: dict[tuple[str, str, str, str], list[Any]] = {}

        def read() -> list[Any]:
            with self._live().connect() as connection:
                return list(connection.execute(query))

        for row in self._transact(read):
            if is_positive(row.median_ms):
                found.setdefault((row.space or "", row.target, row.version, row.device), []).append(row)
        return [group_of(key, rows) for key, rows in sorted(found.items())]

    def all(self) -> list[Measurement]:
        """Return all measurements, ordered by key. Raises InputError if a record is damaged."""
        return [measurement for _, measurement in self.rows()]

    def nominal_reference_ms(self, *keys: LatencyKey) -> float | None:
        """Return the nominal latency of the reference model, ms: its median beside the measurements of a group.

        The group has the target, version and device of any of ``keys``; None if it has no reference model.
        :meth:`Measurement.at_nominal_speed` takes the result.

        Raises:
            InputError: A record is damaged.
        """
        same = [
            [MEASUREMENTS.c[name] == getattr(key, name) for name in ("target", "version", "device")] for key in keys
        ]
        return nominal_reference_ms(
            self._parse(record) for conditions in same for _, record in self._records(*conditions)
        )

    def close(self) -> None:
        """Close all connections; the database can still be used afterwards."""
        self._engine.dispose()

    def __enter__(self) -> LatencyDB:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _live(self) -> Engine:
        """Return the engine; connections from before a fork stay with the parent."""
        if self._pid != os.getpid():
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        return self._engine

    def _records(self, *conditions: ColumnElement[bool]) -> list[tuple[LatencyKey, str]]:
        columns = [MEASUREMENTS.c[name] for name in (*KEY, "record")]

        def read() -> list[tuple[LatencyKey, str]]:
            with self._live().connect() as connection:
                rows = connection.execute(select(*columns).where(*conditions).order_by(*columns[:4]))
                return [(LatencyKey(*row[:4]), row[4]) for row in rows]

        return self._transact(read)

    def _parse(self, record: object) -> Measurement:
        where = f"a record of {self.name} is damaged"
        if not isinstance(record, str):
            raise InputError(f"{where}: {brief(record)}", "JSON text")
        parsed = parse_json(record, where)
        try:
            return Measurement.from_dict(parsed)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None

    def _version(self) -> str | None:
        with self._live().connect() as connection:
            return read_version(connection)

    def _transact(self, operation: Callable[[], T]) -> T:
        """Return the result of one transaction; it is repeated while a server is away."""
        with explained(self.name):
            return with_retries(operation, self.name, self._backoff)


def nominal_reference_ms(measurements: Iterable[Measurement]) -> float | None:
    """Return the median of the reference model's latencies beside measurements, ms; None if there are none."""
    known = [ms for m in measurements if (ms := m.reference_ms) is not None]
    return median(known) if known else None


def _values(key: LatencyKey, measurement: Measurement) -> dict[str, Any]:
    return {
        **{name: getattr(key, name) for name in KEY},
        **{name: getattr(measurement, name) for name in ("median_ms", "source", "verdict", "time")},
        **chosen_by(key.workload, measurement.environment),
        "record": json.dumps(measurement.to_dict()),
    }


def _where(key: LatencyKey) -> list[ColumnElement[bool]]:
    return [MEASUREMENTS.c[name] == getattr(key, name) for name in KEY]
