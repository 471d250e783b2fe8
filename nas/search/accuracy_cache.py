"""Accuracies of a supernet's subnets by content, kept as latencies are: another search with the same supernet, for
another device, evaluates no architecture again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import URL, Column, MetaData, String, Table, Text, select

from latency_db.database.connection import database_name, open_engine, parse_url
from latency_db.database.driver_errors import explained
from latency_db.database.retry import Backoff, with_retries
from latency_db.database.schema import exclusive
from latency_db.database.sqlite_file import foreign_database, tables_in
from nas.core.estimate import Estimate
from nas.core.precision_choice import split
from nas.profiling.default_database import default_latency_db
from nas.quantization.candidate import is_lower_precision
from nas.search.evaluate_candidate import KnownAccuracy
from nas.search.plan import SearchPlan
from nas.search.study_identity import StudyIdentity
from search_spaces.architecture import Architecture

VERSION = 2
"""Changes with the way in which accuracies are evaluated: older ones are not used any more."""
BUSY_S = 30.0
_METADATA = MetaData()
ACCURACIES = Table(
    "accuracies",
    _METADATA,
    Column("key", String, primary_key=True),
    Column("architecture", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("record", Text, nullable=False),
)


def _record(known: KnownAccuracy) -> str:
    estimate = known.estimate
    kept = {"estimate": estimate.to_dict(), "early": dict(known.early)}
    return json.dumps(kept | {"replicates": estimate.replicates, "remarks": estimate.remarks})


def _parsed(record: str) -> KnownAccuracy | None:
    """Return what a record holds; None for a damaged one, whose architecture is evaluated again."""
    try:
        data = json.loads(record)
        estimate, replicates, remarks = data["estimate"], tuple(data["replicates"]), tuple(data["remarks"])
        made = replace(Estimate.from_dict(estimate), replicates=replicates, remarks=remarks)
        return KnownAccuracy(made, dict(data["early"]))
    except (ValueError, KeyError, TypeError):  # an InputError is a ValueError
        return None


class AccuracyCache:
    """Accuracies of one supernet on one set of evaluation images.

    Args:
        plan: Plan of the search; its latency database decides where accuracies are kept.
        identity: Weights, data and device of the search.

    Raises InputError if the database cannot be opened.
    """

    def __init__(self, plan: SearchPlan, identity: StudyIdentity) -> None:
        url = accuracy_url(plan.settings.latency_db)
        self._name, self._plan, self._identity = database_name(url), plan, identity
        check_accuracies(url)
        self._engine = open_engine(url, BUSY_S)
        with explained(self._name), exclusive(self._engine) as connection:
            _METADATA.create_all(connection)

    def find(self, names: Sequence[str], point: Architecture) -> list[KnownAccuracy] | None:
        """Return the accuracies of a point of the search in the order of their names; None unless all are known."""
        found = self._read(self._key(point), split(point)[0].id, names)
        known = [_parsed(found[name]) for name in names if name in found]
        kept = [one for one in known if one is not None]
        return kept if len(kept) == len(names) else None

    def put(self, known: Sequence[KnownAccuracy], point: Architecture) -> None:
        """Keep accuracies of a point of the search."""
        self._write(self._key(point), split(point)[0].id, {one.estimate.name: _record(one) for one in known})

    def find_text(self, what: str) -> str | None:
        """Return a text about this supernet and these images, such as the check of its ranking."""
        return self._read(self._key(None), "", [what]).get(what)

    def put_text(self, what: str, text: str) -> None:
        """Keep a text about this supernet and these images."""
        self._write(self._key(None), "", {what: text})

    def _key(self, point: Architecture | None) -> str:
        """Return the digest of what an accuracy depends on besides the architecture."""
        precision = split(point)[1] if point is not None else None
        target = self._plan.targets[precision] if precision else self._plan.target
        settings = self._plan.settings
        parts: list[Any] = [VERSION, self._identity.weights, self._identity.data, settings.eval_images, settings.seed]
        # What is evaluated in the precision of the runtime is of its target and device; all else holds for any.
        parts += [str(target), self._identity.device] if is_lower_precision(target) else ["float"]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    def _read(self, key: str, architecture: str, names: Sequence[str]) -> dict[str, str]:
        columns = ACCURACIES.c
        where = (columns.key == key, columns.architecture == architecture, columns.name.in_(names))

        def read() -> dict[str, str]:
            with self._engine.connect() as connection:
                rows = connection.execute(select(columns.name, columns.record).where(*where))
                return {str(row[0]): str(row[1]) for row in rows}

        with explained(self._name):
            return with_retries(read, self._name, Backoff())

    def _write(self, key: str, architecture: str, records: Mapping[str, str]) -> None:
        columns = ACCURACIES.c
        where = (columns.key == key, columns.architecture == architecture, columns.name.in_(list(records)))
        rows = [{"key": key, "architecture": architecture, "name": n, "record": text} for n, text in records.items()]

        def write() -> None:
            with self._engine.begin() as connection:
                connection.execute(ACCURACIES.delete().where(*where))
                connection.execute(ACCURACIES.insert(), rows)

        with explained(self._name):
            with_retries(write, self._name, Backoff())

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> AccuracyCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def check_accuracies(url: URL) -> None:
    """Raise InputError if the SQLite file at ``url`` is another program's: its tables are never mixed with others."""
    if url.get_backend_name() != "sqlite":
        return
    path = Path(str(url.database))
    tables = tables_in(path)
    if tables and not tables.get(ACCURACIES.name, set()) >= set(ACCURACIES.c.keys()):
        hint = "move it away, or name another file with --latency-db"
        raise foreign_database(path, tables, "the accuracies that searches keep beside a latency database", hint)


def accuracy_url(latency_db: str | None) -> URL:
    """Return where accuracies are kept: on the server of the latencies, or in ``NAME-accuracies.sqlite`` beside their
    file."""
    url = parse_url(latency_db or default_latency_db())
    if url.get_backend_name() != "sqlite":
        return url
    file = Path(str(url.database))
    return parse_url(file.with_name(f"{file.stem}-accuracies.sqlite"))
