"""What a measurement says: a latency with its interval, where it comes from and under which conditions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from typing import Any

from latency_db.core.target import Target
from search_spaces.errors import InputError
from search_spaces.registry import unknown

SOURCES = ("measured", "predicted", "table")
VERDICTS = ("clean", "contended", "throttled")
CLOCKS = ("wall", "cpu")


@dataclass(frozen=True)
class LatencyKey:
    """What a latency belongs to: content key of the workload × target × runtime version × device fingerprint id."""

    workload: str
    target: str
    version: str
    device: str


@dataclass(frozen=True)
class Measurement:
    """Latency in ms of one workload on one target.

    ``low_ms`` and ``high_ms`` are the 95 % interval of the median, ``p90_ms`` and ``p99_ms`` quantiles of the same
    ``runs`` samples by the same ``clock``: wall time, or process CPU time when the machine was too busy for wall time
    to mean anything (verdict ``contended``). ``wall_median_ms`` and ``cpu_median_ms`` give both where both were read.
    ``environment`` is JSON-ready. ``time`` is ISO 8601, UTC.
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
        if not all(isinstance(x, (int, float)) and math.isfinite(x) and x > 0 for x in numbers):
            raise InputError(f"latency {numbers} ms of {self.workload}", "finite positive numbers")
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
        """Median of the anchor model beside this one, by the same clock; None where there was no anchor."""
        anchor = self.environment.get("anchor")
        return (
            None
            if anchor is None
            else float(anchor[f"{self.clock}_ms"]) * float(self.environment.get("anchor_factor", 1))
        )

    def at_nominal_speed(self, reference_ms: float) -> Measurement:
        """As if the anchor had taken ``reference_ms``: all times scaled, the factor noted as ``anchor_factor`` in the
        environment.

        A shared machine changes its speed by 10-20 % within minutes, and the interval of one session cannot know. It
        narrows the spread between sessions at times and at times does nothing for it, so the database keeps what was
        measured. Unchanged where there was no anchor.
        """
        if self.reference_ms is None:
            return self
        factor = reference_ms / self.reference_ms
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
        """JSON-ready, all fields; the target as its string."""
        return {**asdict(self), "target": str(self.target)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Measurement:
        """Exact inverse of :meth:`to_dict`."""
        names = [f.name for f in fields(cls)]
        try:
            values = {name: data[name] for name in names}
            return cls(**{**values, "target": Target.read(values["target"])})
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"not a measurement ({type(error).__name__}: {error})", f"an object with {', '.join(names)}"
            ) from None


def now() -> str:
    """This moment as ISO 8601 in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
