"""A measurement: a latency with its interval, its source and the conditions of measuring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from latency_db.core.target import Target
from search_spaces.errors import InputError
from search_spaces.registry import unknown
from search_spaces.text import brief

SOURCES = ("measured", "predicted", "table")
VERDICTS = ("clean", "contended", "throttled")
CLOCKS = ("wall", "cpu")
MAX_MS = 1e9
"""Largest latency that is accepted, ms: eleven days."""
MAX_RUNS = 10**9
MAX_TEXT = 1000


@dataclass(frozen=True)
class LatencyKey:
    """Key of a latency: content key of the workload, target, runtime version, id of the device fingerprint."""

    workload: str
    target: str
    version: str
    device: str


@dataclass(frozen=True)
class Measurement:
    """Latency of one workload on one target.

    Attributes:
        median_ms: Median of the samples, ms.
        p90_ms: 90th percentile, ms.
        p99_ms: 99th percentile, ms.
        low_ms: Lower bound of the 95 % interval of the median, ms.
        high_ms: Upper bound, ms.
        runs: Number of samples; 0 if unknown (an imported table) or predicted.
        source: ``measured``, ``predicted`` or ``table``.
        verdict: ``clean``, ``contended`` (other processes interfered) or ``throttled`` (by heat or power).
        clock: ``wall`` time, or process ``cpu`` time where contention made wall time meaningless.
        target: What was measured on.
        workload: Content key of what was measured.
        wall_median_ms: Median wall time, ms; None if not measured.
        cpu_median_ms: Median CPU time, ms; None if not measured.
        environment: Conditions, JSON-ready. ``anchor`` holds the reference model's times (a name of earlier versions).
        time: When it was measured, ISO 8601 in UTC.

    Raises:
        InputError: A field has an unknown value, or a number is not finite and positive.
    """

    median_ms: float
    p90_ms: float
    p99_ms: float
    low_ms: float
    high_ms: float
    runs: int
    source: str
    verdict: str
    clock: str
    target: Target
    workload: str
    wall_median_ms: float | None = None
    cpu_median_ms: float | None = None
    environment: Mapping[str, Any] = field(default_factory=dict, hash=False)
    time: str = ""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("source", self.source, SOURCES),
            ("verdict", self.verdict, VERDICTS),
            ("clock", self.clock, CLOCKS),
        ):
            if value not in known:
                raise unknown(f"{name} of a measurement:", value, known)
        numbers = [self.median_ms, self.p90_ms, self.p99_ms, self.low_ms, self.high_ms]
        if not all(is_positive(x) for x in numbers):
            raise InputError(f"latency {brief(numbers)} ms of {self.workload}", "finite positive numbers")
        for name, ms in (("wall_median_ms", self.wall_median_ms), ("cpu_median_ms", self.cpu_median_ms)):
            if ms is not None and not is_positive(ms):
                raise InputError(f"{name} {brief(ms)} of {self.workload}", "a finite positive number, or none")
        if isinstance(self.runs, bool) or not isinstance(self.runs, int) or not 0 <= self.runs <= MAX_RUNS:
            raise InputError(f"runs {brief(self.runs)} of {self.workload}", f"a whole number from 0 to {MAX_RUNS:,}")
        if not self.low_ms <= self.median_ms <= self.high_ms:
            raise InputError(
                f"interval {self.low_ms} to {self.high_ms} ms of {self.workload}",
                f"one that holds the median {self.median_ms} ms",
            )

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval, as a share of the median."""
        return (self.high_ms - self.low_ms) / 2 / self.median_ms

    @property
    def reference_ms(self) -> float | None:
        """Median of the reference model beside this measurement, ms, by the same clock; None if there was none."""
        reference = self.environment.get("anchor")
        if reference is None:
            return None
        ms = reference.get(f"{self.clock}_ms")
        return None if not ms else float(ms) * float(self.environment.get("anchor_factor", 1))

    def at_nominal_speed(self, nominal_ms: float) -> Measurement:
        """Return the measurement scaled by ``nominal_ms / reference_ms``, as if the reference model had taken that
        time.

        A shared machine changes its speed by 10 to 20 % within minutes, which the interval of one measurement does
        not cover. Scaling often narrows the spread between measurements, not always, so the database keeps what was
        measured. The environment notes the factor as ``anchor_factor``. Without a reference model nothing changes.
        """
        if self.reference_ms is None:
            return self
        factor = nominal_ms / self.reference_ms
        return replace(
            self,
            median_ms=self.median_ms * factor,
            p90_ms=self.p90_ms * factor,
            p99_ms=self.p99_ms * factor,
            low_ms=self.low_ms * factor,
            high_ms=self.high_ms * factor,
            wall_median_ms=None if self.wall_median_ms is None else self.wall_median_ms * factor,
            cpu_median_ms=None if self.cpu_median_ms is None else self.cpu_median_ms * factor,
            environment={**self.environment, "anchor_factor": factor * float(self.environment.get("anchor_factor", 1))},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, JSON-ready; the target as its string."""
        return {**asdict(self), "target": str(self.target)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Measurement:
        """Return the measurement of :meth:`to_dict`'s result; the exact inverse.

        The values may come from outside: types, ranges, the time, and the parts of the environment that are read
        later are checked.

        Raises:
            InputError: A field is missing, of another type, or out of its range.
        """
        names = [f.name for f in fields(cls)]
        try:
            values = {name: data[name] for name in names}
        except (KeyError, TypeError, IndexError) as error:
            kind = f"{type(error).__name__}: {error}"
            raise InputError(f"not a measurement ({kind})", f"an object with {', '.join(names)}") from None
        for name in ("source", "verdict", "clock", "target", "workload", "time"):
            if not isinstance(values[name], str) or len(values[name]) > MAX_TEXT:
                raise InputError(
                    f"{name} of a measurement: {brief(values[name])}", f"text of at most {MAX_TEXT} characters"
                )
        check_time(values["time"])
        check_environment(values["environment"])
        return cls(**{**values, "target": Target.read(values["target"])})


def is_positive(value: object) -> bool:
    """Return whether a value is a finite number above 0; a boolean is not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 < value <= MAX_MS


def check_time(text: str) -> None:
    """Raise InputError unless ``text`` is empty or ISO 8601 in UTC, from 2000 on."""
    if not text:
        return
    try:
        moment = datetime.fromisoformat(text)
        valid = moment.utcoffset() == timedelta(0) and moment.year >= 2000
    except ValueError:
        valid = False
    if not valid:
        raise InputError(f"time {brief(text)}", "ISO 8601 in UTC, such as 2026-01-02T03:04:05+00:00")


def check_past(text: str) -> None:
    """Raise InputError for a time of a measurement that is more than a day ahead; it would replace any other.

    For measurements that are imported. Those in a database stay readable, whatever the clock was when they were made.
    """
    check_time(text)
    if text and datetime.fromisoformat(text) > datetime.now(timezone.utc) + timedelta(days=1):
        raise InputError(f"time {brief(text)}", "a time that is past", "check the clock of the machine that measured")


def check_environment(environment: object) -> None:
    """Raise InputError unless an environment is an object with valid entries of the reference model.

    ``anchor_factor``, if there is one, is a finite positive number. ``anchor``, if there is one, has the times
    ``wall_ms`` and ``cpu_ms``: one of them is positive, the other one is positive, 0 or missing.
    """
    if not isinstance(environment, Mapping):
        raise InputError(f"environment of a measurement: {brief(environment)}", "an object")
    factor = environment.get("anchor_factor", 1)
    if not is_positive(factor):
        raise InputError(f"anchor_factor {brief(factor)} of a measurement", "a finite positive number")
    reference = environment.get("anchor")
    if reference is None:
        return
    times = [reference.get(f"{clock}_ms") for clock in CLOCKS] if isinstance(reference, Mapping) else []
    # A clock of coarse resolution may have read 0; such a clock gives no reference latency.
    if not any(map(is_positive, times)) or not all(ms is None or ms == 0 or is_positive(ms) for ms in times):
        raise InputError(f"anchor {brief(reference)} of a measurement", "an object with wall_ms or cpu_ms above 0")


def now() -> str:
    """Return this moment as ISO 8601 in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
