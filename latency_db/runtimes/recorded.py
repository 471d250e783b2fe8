"""Recorded tables instead of hardware: ``recorded:fp32/NAME`` returns what was measured elsewhere, by the workload's
key.

NAME is a table shipped in ``latency_db/tables/``, or one in the environment variable ``NAS_TABLES``: folders or files
(``.csv``, ``.parquet`` or a database ``.sqlite``), separated as in ``PATH``; these come first. A name is that of the
file without its suffix.

``recorded:fp32/NAME:predict`` also answers for networks that are not in the table but of a space that is, by a
predictor fitted on it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median, mode
from typing import TYPE_CHECKING

from latency_db.core.device import DeviceFingerprint
from latency_db.core.measurement import LatencyKey, Measurement, now
from latency_db.core.profiler import SEARCHING, Network, Profiler, Protocol, Workload, file_hash
from latency_db.core.target import PRECISIONS, Target
from latency_db.database.db import LatencyDB, MissingLatency, nominal_reference_ms
from latency_db.database.table_io import KINDS, Row, read_table
from search_spaces.errors import InputError
from search_spaces.registry import unknown

if TYPE_CHECKING:
    from latency_db.predictor.model import Predictor

SHIPPED = Path(__file__).resolve().parents[1] / "tables"
VARIABLE = "NAS_TABLES"
DATABASES = (".sqlite", ".db")
PREDICT = ":predict"


class Recorded(Profiler):
    """Replays the measurements of one table.

    Their source is ``table``, and the environment holds their origin under ``table``. A network that is not in the
    table is predicted if the target ends in ``:predict`` (source ``predicted``), and is an error otherwise. Precision,
    batch and threads of the target filter the rows. The rows have one target, runtime version and device, since
    latencies of several cannot be ranked together.

    Raises:
        InputError: No such table, no such rows, or rows of several targets, versions or devices.
    """

    runtime = "recorded"
    precisions = PRECISIONS
    default_device = "none"
    measures = False

    def __init__(self, target: Target, protocol: Protocol = SEARCHING) -> None:
        super().__init__(target, protocol)
        self._name = target.device.removesuffix(PREDICT)
        path = _find(target, self._name)
        self._rows = {key.workload: (key, m) for key, m in _series(target, _read(path))}
        self._origin = next(iter(self._rows.values()))
        self._hash = file_hash(path)
        self._predictors: dict[str, Predictor] = {}

    @classmethod
    def available(cls) -> str | None:
        """Return None: a table is replayed on any machine."""
        return None

    @classmethod
    def version(cls) -> str:
        """Return the version of replaying; the key holds the table's content."""
        return "1"

    @classmethod
    def stands_for(cls, target: Target) -> Target:
        """Return the runtime and precision that the table was measured with, on that runtime's default device.

        Raises:
            InputError: No such table, no rows for the target, or rows of several targets, versions or devices.
        """
        _, measured = _series(target, _read(_find(target, target.device.removesuffix(PREDICT))))[0]
        return Target(measured.target.runtime, target.precision)

    def fingerprint(self) -> DeviceFingerprint:
        """Return the device that the table was measured on."""
        device = self._origin[1].environment.get("device")
        return (
            DeviceFingerprint.from_dict(device) if device else DeviceFingerprint("", self._origin[0].device, 0, (), 0)
        )

    def key(self, workload: str, beside: Target | None = None) -> LatencyKey:
        """Return the database key of a workload; its version is a hash of the table, its device that of the table."""
        return LatencyKey(workload, str(beside or self.target), self._hash, self._origin[0].device)

    def nominal_reference_ms(self) -> float | None:
        """Return the median latency of the reference model in the table, ms; None if it has none."""
        return nominal_reference_ms(m for _, m in self._rows.values())

    def measure(self, workload: Workload) -> Measurement:
        """Return the row of the workload; nothing is run.

        Raises:
            MissingLatency: The table has no such network, and none is predicted.
        """
        if workload.key in self._rows:
            _, measured = self._rows[workload.key]
            return replace(
                measured,
                source="table",
                target=self.target,
                environment={**measured.environment, "table": self._table()},
            )
        if self.target.device != self._name and workload.network is not None:
            return self._predicted(workload.key, workload.network)
        raise self._missing(workload.key)

    def _table(self) -> dict[str, str]:
        key = self._origin[0]
        return {"name": self._name, "target": key.target, "version": key.version, "device": key.device}

    def _predicted(self, workload: str, network: Network) -> Measurement:
        """Predict a latency at the nominal speed of the table's machine.

        The 90th and 99th percentile follow from the table's median ratio to the median. Raises MissingLatency outside
        the predictor's domain.
        """
        from latency_db.predictor.features import network_features

        try:
            predictor = self._predictor(network.architecture.space)
            found = predictor.predict(network_features(network, self.target.batch))
        except InputError as error:
            raise MissingLatency(
                f"no latency of {workload} in table {self._name}, and none can be predicted: {error}"
            ) from None
        rows = [m for _, m in self._rows.values()]
        p90, p99 = (found.ms * median(getattr(m, name) / m.median_ms for m in rows) for name in ("p90_ms", "p99_ms"))
        basis = {
            "table": self._table(),
            "device": self.fingerprint().to_dict(),
            "predictor": {"rows": len(predictor.rows)},
            "network": network.to_dict(),
        }
        return Measurement(
            median_ms=found.ms,
            p90_ms=p90,
            p99_ms=p99,
            low_ms=found.low_ms,
            high_ms=found.high_ms,
            runs=0,
            source="predicted",
            verdict="clean",
            clock=mode(m.clock for m in rows),
            target=self.target,
            workload=workload,
            environment=basis,
            time=now(),
        )

    def _predictor(self, space: str) -> Predictor:
        """Return the predictor of a space, fitted on the table at the first use."""
        from latency_db.predictor.database import rows_of_measurements
        from latency_db.predictor.model import Predictor

        if space not in self._predictors:
            rows = rows_of_measurements(m for _, m in self._rows.values())
            self._predictors[space] = Predictor.fit([row for row in rows if row.features.family == space])
        return self._predictors[space]

    def _missing(self, workload: str) -> MissingLatency:
        origin = self._origin[0]
        device = self.fingerprint().accelerator or self.fingerprint().cpu
        near = [known for known in self._rows if known.split("/")[:2] == workload.split("/")[:2]]
        other = (
            f"; of the same architecture there is {near[0]} (c: classes, r: image size)"
            if near and "/" in workload
            else ""
        )
        return MissingLatency(
            f"no latency of {workload} in table {self._name}",
            f"one of its {len(self._rows)} networks, measured on {origin.target} of {device}{other}",
            f"restrict the search to them (--fix, --num-classes), have others predicted (/{self._name}{PREDICT}), "
            "or measure on a target of your own",
        )


def tables() -> dict[str, Path]:
    """Return the files of all tables by name; earlier places hide later ones.

    Raises:
        InputError: ``NAS_TABLES`` names a place that does not exist.
    """
    found: dict[str, Path] = {}
    for path in _places():
        if path.suffix in (*KINDS, *DATABASES):
            found.setdefault(path.stem, path)
    return found


def _places() -> Iterator[Path]:
    for text in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        place = Path(text).expanduser()
        if not place.exists():
            raise InputError(f"{VARIABLE} names {text}, which is not there", "folders and table files")
        yield from sorted(place.iterdir()) if place.is_dir() else [place]
    yield from sorted(SHIPPED.iterdir())


def _find(target: Target, name: str) -> Path:
    known = tables()
    if name not in known:
        if not known:
            raise InputError(
                f"table {name!r} of {target}", f"a table in a folder or file named by {VARIABLE}", "there is none"
            )
        raise InputError(
            str(unknown("table", name, tuple(known))), hint=f"more are found in folders or files named by {VARIABLE}"
        )
    return known[name]


def _read(path: Path) -> tuple[Row, ...]:
    if path.suffix in KINDS:
        return read_table(path).rows
    with LatencyDB(path, read_only=True) as database:
        return tuple(database.rows())


def _series(target: Target, rows: tuple[Row, ...]) -> list[Row]:
    """Return the rows of a target's precision, batch and threads; the image size is in the workload's key."""

    def asked(m: Measurement) -> Target:
        return Target(
            "recorded", m.target.precision, target.device, target.image_size, m.target.batch, m.target.threads
        )

    fitting = [(key, m) for key, m in rows if asked(m) == target]
    if not fitting:
        there = sorted({str(asked(m)) for _, m in rows}) or ["a table with rows"]
        raise InputError(f"table {target.device} has nothing for {target}", " or ".join(there))
    series = sorted({f"{replace(m.target, image_size=None)} {key.version} on {key.device}" for key, m in fitting})
    if len(series) > 1:
        hint = "export them one by one: nas db export FILE --target … --version … --device …"
        raise InputError(
            f"table {target.device} mixes {'; '.join(series)}", "one target, runtime version and device", hint
        )
    return fitting
