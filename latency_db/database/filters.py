"""Filters, groups and counts of measurements in the latency database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, or_

from latency_db.database.schema import MEASUREMENTS


@dataclass(frozen=True)
class MergeCounts:
    """Counts of a merge: rows that were new, that replaced an older one, and that were as old or older (``kept``)."""

    added: int
    replaced: int
    kept: int


@dataclass(frozen=True)
class MeasurementGroup:
    """The measurements of one space on one target, runtime version and device.

    Attributes:
        space: Name of the search space, "" for files.
        target: Target, as text.
        version: Version of the runtime.
        device: Id of the device fingerprint.
        device_name: Name of the accelerator or CPU, "" if unknown.
        times_ms: Median latencies, sorted, ms.
        clean: Number of clean measurements.
        newest: Time of the newest one, ISO 8601 in UTC.
    """

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
    """A filter of measurements; None admits any.

    Attributes:
        target: A whole target or its beginning (``onnxruntime``, ``onnxruntime:fp32``).
        space: Name of a search space.
        version: Version of the runtime.
        device: Beginning of a device's id, or a part of its name.
        workload: A whole key or a part of it (an architecture's id).
    """

    target: str | None = None
    space: str | None = None
    version: str | None = None
    device: str | None = None
    workload: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions of an SQL query."""
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


def group_of(key: tuple[str, str, str, str], rows: Sequence[Any]) -> MeasurementGroup:
    """Return the group of rows that have one space, target, version and device.

    Args:
        key: Space, target, version and device.
        rows: Rows with ``device_name``, ``median_ms``, ``verdict`` and ``time``; at least one.
    """
    name = next((row.device_name for row in rows if row.device_name), "")
    clean = sum(row.verdict == "clean" for row in rows)
    return MeasurementGroup(
        *key, name, tuple(sorted(row.median_ms for row in rows)), clean, max(row.time for row in rows)
    )
