"""The tables of the database, the version of their schema, and migrations from older versions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Double,
    Engine,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    func,
    inspect,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError

SCHEMA_VERSION = 2

_METADATA = MetaData()
META = Table(
    "latency_meta", _METADATA, Column("name", String, primary_key=True), Column("value", String, nullable=False)
)
# The record is the whole measurement and the truth; the columns beside it are to choose rows by, here and for whoever
# looks with SQL.
MEASUREMENTS = Table(
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
    Column("space", String),  # of the workload; null for a file
    Column("device_name", String),  # accelerator, else CPU; null where the record does not say
)
KEY = ("workload", "target", "version", "device")
_SPACE = re.compile(r"([^/@]+)@\d+/")
_LOCK = 0x6C61_7465
"""Any number: the advisory lock of processes that change the schema of a PostgreSQL database."""


def read_version(connection: Connection) -> str | None:
    """Return the stored schema version; None in a database without the tables of this module."""
    if not inspect(connection).has_table(META.name):
        return None
    found = connection.execute(select(META.c.value).where(META.c.name == "schema")).scalar_one_or_none()
    return None if found is None else str(found)


def bring_up(connection: Connection) -> None:
    """Create the tables, or migrate an older schema step by step.

    Runs inside :func:`exclusive`, so that it happens once and as a whole. A newer schema is left as it is.
    """
    version = read_version(connection)
    if version is None:
        # Version 1 made its tables before it wrote its number: a kill between the two left measurements without a
        # number.
        version = "1" if inspect(connection).has_table(MEASUREMENTS.name) else str(SCHEMA_VERSION)
        _METADATA.create_all(connection)
        connection.execute(META.insert().values(name="schema", value=version))
    while (step := _MIGRATIONS.get(version)) is not None:
        step(connection)
        version = str(int(version) + 1)
        connection.execute(META.update().where(META.c.name == "schema").values(value=version))


def _to_2(connection: Connection) -> None:
    """Columns ``space`` and ``device_name``, filled from what is there."""
    for name in ("space", "device_name"):
        connection.exec_driver_sql(f"ALTER TABLE measurements ADD COLUMN {name} VARCHAR")
    rows = connection.execute(select(*(MEASUREMENTS.c[name] for name in KEY), MEASUREMENTS.c.record)).all()
    values = [
        {**{f"old_{n}": v for n, v in zip(KEY, row, strict=False)}, **chosen_by(row[0], _lenient(row[4]))}
        for row in rows
    ]
    if values:
        same = [MEASUREMENTS.c[name] == bindparam(f"old_{name}") for name in KEY]
        changed: dict[str, Any] = {name: bindparam(name) for name in ("space", "device_name")}
        connection.execute(update(MEASUREMENTS).where(*same).values(changed), values)


_MIGRATIONS: dict[str, Callable[[Connection], None]] = {"1": _to_2}


def chosen_by(workload: str, environment: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the columns that filters use, of a workload's key and the environment of its measurement."""
    space, device = _SPACE.match(workload), environment.get("device")
    device = device if isinstance(device, Mapping) else {}
    name = device.get("accelerator") or device.get("cpu")
    return {"space": space[1] if space else None, "device_name": name if isinstance(name, str) else None}


def _lenient(record: str) -> Mapping[str, Any]:
    """Return the environment of a record, empty if damaged: a migration does not fail for one record."""
    try:
        environment = json.loads(record)["environment"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return environment if isinstance(environment, Mapping) else {}


@contextmanager
def exclusive(engine: Engine) -> Iterator[Connection]:
    """Open one transaction under a lock that all processes share; table definitions are part of it."""
    if engine.dialect.name != "sqlite":
        with engine.begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            yield connection
        return
    # The driver begins no transaction of its own for table definitions, and one that begins by reading cannot wait for
    # a writer.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            with suppress(DatabaseError):  # a full disk has rolled back already
                connection.exec_driver_sql("ROLLBACK")
            raise


def upsert(dialect: str, columns: Iterable[str], newer: bool = False) -> Any:
    """Return the statement that inserts rows or replaces those of their keys; with ``newer`` older ones only."""
    insert: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[dialect]
    statement = insert(MEASUREMENTS)
    changes = {name: statement.excluded[name] for name in columns if name not in KEY}
    where = statement.excluded.time > MEASUREMENTS.c.time if newer else None
    return statement.on_conflict_do_update(index_elements=list(KEY), set_=changes, where=where)
