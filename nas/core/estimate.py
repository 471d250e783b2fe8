"""Estimates, candidates and objectives: numbers that keep their unit, interval, source and target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, SupportsFloat

from latency_db.core.target import PRECISIONS
from nas.core.precision_choice import id_of, joined, split
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.json_checks import check_fields, check_type
from search_spaces.registry import unknown

SOURCES = ("computed", "measured", "predicted", "trained", "table")
DIRECTIONS = ("min", "max")
_UNIT_SUFFIXES = ("ms", "us", "s", "mib", "gib", "mj", "j", "w")
_LOGARITHMIC = ("ms", "us", "s", "mj", "j", "w", "img/s")


@dataclass(frozen=True)
class Estimate:
    """One number about one architecture.

    Args:
        name: Name of the quantity, for example ``latency_ms`` or ``map``.
        value: The number, finite. A failure is an error with a message, never a value.
        unit: Unit of the value; empty for plain numbers.
        low, high: Ends of the 95 % interval, both or neither. The interval need not contain the value (a bootstrap
            interval may miss it by a little).
        source: Origin of the number, one of :data:`SOURCES`.
        target: Target that the number holds for; None if it depends on none.
        replicates: Bootstrap replicates of the value, computed on the same resampled data sets for every candidate,
            so that the noise that two candidates share cancels in their difference. Empty if there are none.
        remarks: Lines about how the number was obtained, for the user.

    ``replicates`` and ``remarks`` are not part of the JSON form and do not count in comparisons: a study keeps them
    beside its candidates.

    Raises InputError for a number that is not finite, half an interval, an inverted interval or an unknown source.
    """

    name: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    source: str = "computed"
    target: str | None = None
    replicates: tuple[float, ...] = field(default=(), compare=False, repr=False)
    remarks: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise unknown(f"source of estimate {self.name!r}:", self.source, SOURCES)
        for part in ("value", "low", "high"):
            if (number := getattr(self, part)) is not None or part == "value":
                object.__setattr__(self, part, _finite(number, f"{part} of estimate {self.name!r}"))
        if (self.low is None) != (self.high is None):
            raise InputError(f"estimate {self.name!r} has only one end of its interval", "low and high, or neither")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise InputError(f"interval {self.low}..{self.high} of estimate {self.name!r}", "low <= high")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; :meth:`from_dict` restores an equal estimate, bit for bit."""
        return {part: getattr(self, part) for part in _ESTIMATE_FIELDS}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Estimate:
        """Restore an estimate from :meth:`to_dict`. Raises InputError for a missing, unknown or wrongly typed field."""
        check_fields(data, _ESTIMATE_FIELDS, "estimate")
        for part in ("name", "unit", "source"):
            check_type(data[part], str, f"{part} of an estimate")
        if data["target"] is not None:
            check_type(data["target"], str, f"target of estimate {data['name']!r}")
        return cls(**{part: data[part] for part in _ESTIMATE_FIELDS})


_ESTIMATE_FIELDS = ("name", "value", "unit", "low", "high", "source", "target")


@dataclass(frozen=True)
class Candidate:
    """An architecture with its estimates.

    Args:
        architecture: The architecture.
        estimates: At most one estimate of each name.
        trial: Number of the trial in the study that proposed it; None outside a study.
        precision: Precision of the deployment if the search chose it; None if the target fixes it for all candidates.

    Raises InputError for two estimates of one name or an unknown precision.
    """

    architecture: Architecture
    estimates: tuple[Estimate, ...] = ()
    trial: int | None = None
    precision: str | None = None

    def __post_init__(self) -> None:
        if self.precision is not None:
            check_precision(self.precision)
        names = [estimate.name for estimate in self.estimates]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"candidate {self.id} has several estimates named {', '.join(twice)}", "one of each name")

    @classmethod
    def of(cls, point: Architecture, estimates: tuple[Estimate, ...] = (), trial: int | None = None) -> Candidate:
        """Make a candidate from a point of a search (:mod:`nas.core.precision_choice`)."""
        architecture, precision = split(point)
        return cls(architecture, estimates, trial, precision)

    @property
    def point(self) -> Architecture:
        """The point of the search, inverse of :meth:`of`: the argument of the search's estimators."""
        return joined(self.architecture, self.precision)

    @property
    def id(self) -> str:
        """Id of the architecture, followed by the precision if the search chose it: ``ab12cd34ef56-int8``."""
        return id_of(self.point)

    def __contains__(self, name: object) -> bool:
        return any(estimate.name == name for estimate in self.estimates)

    def __getitem__(self, name: str) -> Estimate:
        for estimate in self.estimates:
            if estimate.name == name:
                return estimate
        raise unknown(f"estimate of candidate {self.id}:", name, tuple(estimate.name for estimate in self.estimates))

    def with_estimate(self, estimate: Estimate) -> Candidate:
        """Return the candidate with ``estimate`` added, or in place of the estimate of the same name."""
        if estimate.name not in self:
            return replace(self, estimates=(*self.estimates, estimate))
        return replace(self, estimates=tuple(estimate if old.name == estimate.name else old for old in self.estimates))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: architecture, precision if the search chose it, estimates, trial."""
        precision = {} if self.precision is None else {"precision": self.precision}
        return {
            "architecture": self.architecture.to_dict(),
            **precision,
            "estimates": [e.to_dict() for e in self.estimates],
            "trial": self.trial,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Candidate:
        """Restore a candidate from :meth:`to_dict`. Raises InputError as its parts do."""
        check_fields(data, ("architecture", "estimates", "trial"), "candidate", optional=("precision",))
        check_type(data["estimates"], list, "estimates of a candidate")
        if data["trial"] is not None:
            check_type(data["trial"], int, "trial of a candidate")
        estimates = tuple(Estimate.from_dict(estimate) for estimate in data["estimates"])
        return cls(Architecture.from_dict(data["architecture"]), estimates, data["trial"], data.get("precision"))


@dataclass(frozen=True)
class Objective:
    """An estimate to minimise or maximise.

    Written ``min:latency_ms``, or ``max:map:%`` if the name does not end in the unit. Raises InputError for an unknown
    direction or a name that contains a colon.
    """

    name: str
    direction: str
    unit: str = ""

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise unknown(f"direction of objective {self.name!r}:", self.direction, DIRECTIONS)
        if not self.name or ":" in self.name or ":" in self.unit:
            raise InputError(f"objective named {self.name!r} in {self.unit!r}", "a name and a unit without ':'")

    @property
    def sign(self) -> int:
        """1 to minimise, -1 to maximise: ``sign * value`` is always minimised."""
        return 1 if self.direction == "min" else -1

    @property
    def logarithmic(self) -> bool:
        """Whether ratios matter instead of differences (1 to 2 ms counts as much as 10 to 20 ms): times, energies,
        rates, parameters and MACs."""
        return self.unit in _LOGARITHMIC or self.name in ("params", "macs")

    def __str__(self) -> str:
        return f"{self.direction}:{self.name}" + ("" if self.unit == _implied_unit(self.name) else f":{self.unit}")

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Parse ``direction:name`` or ``direction:name:unit``, the inverse of ``str``.

        Without a unit, a suffix of the name such as ``_ms`` gives it. Raises InputError for any other form.
        """
        direction, *rest = text.strip().split(":")
        if len(rest) not in (1, 2):
            raise InputError(f"objective {text!r}", "direction:name, for example min:latency_ms or max:map")
        return cls(rest[0], direction, rest[1] if len(rest) == 2 else _implied_unit(rest[0]))


def _implied_unit(name: str) -> str:
    suffix = name.rpartition("_")[2] if "_" in name else ""
    return suffix if suffix in _UNIT_SUFFIXES else ""


def _finite(number: object, what: str) -> float:
    if isinstance(number, bool) or not isinstance(number, SupportsFloat):
        raise InputError(f"{what} is {number!r}", "a number")
    try:
        value = float(number)
    except OverflowError:  # an integer beyond 1.8e308
        value = math.inf
    if not math.isfinite(value):
        raise InputError(f"{what} is {value}", "a finite number", "a failed estimate raises, it has no value")
    return value


def check_precision(given: object) -> str:
    """Return the name of a precision. Raises InputError with the known ones for anything else."""
    check_type(given, str, "precision")
    if given not in PRECISIONS:
        raise unknown("precision", str(given), PRECISIONS)
    return str(given)


def speed_up(name: str, before: Estimate, after: Estimate) -> Estimate:
    """Return the ratio of two latencies, ``before / after``: above 1 if ``after`` is faster.

    The relative half-widths of the two intervals add in quadrature; without both intervals the ratio has none.
    """
    ratio = before.value / after.value
    halves = [(e.high - e.low) / 2 / e.value for e in (before, after) if e.low is not None and e.high is not None]
    known, reach = len(halves) == 2, ratio * math.hypot(*halves)
    return Estimate(
        name, ratio, "x", ratio - reach if known else None, ratio + reach if known else None, after.source, after.target
    )
