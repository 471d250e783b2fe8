"""What is known of a candidate: numbers that keep their unit, interval, source and target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    """One number about one architecture, in ``unit``, with its 95 % interval ``low``..``high`` where one is known
    (both or none).

    ``source`` says how it came about (one of :data:`SOURCES`), ``target`` on which target (``None``: it depends on
    none). A number that is not finite is refused: a failure is an error with a message, never a value. The interval
    need not hold the value (a bootstrap may miss it by a hair).
    """

    name: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    source: str = "computed"
    target: str | None = None

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise unknown(f"source of estimate {self.name!r}:", self.source, SOURCES)
        for field in ("value", "low", "high"):
            if (number := getattr(self, field)) is not None or field == "value":
                object.__setattr__(self, field, _finite(number, f"{field} of estimate {self.name!r}"))
        if (self.low is None) != (self.high is None):
            raise InputError(f"estimate {self.name!r} has only one end of its interval", "low and high, or neither")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise InputError(f"interval {self.low}..{self.high} of estimate {self.name!r}", "low <= high")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; :meth:`from_dict` gives back an equal estimate, bit for bit."""
        return {field: getattr(self, field) for field in _ESTIMATE_FIELDS}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Estimate:
        """Inverse of :meth:`to_dict`; a missing, unknown or wrongly typed field is an error."""
        check_fields(data, _ESTIMATE_FIELDS, "estimate")
        for field in ("name", "unit", "source"):
            check_type(data[field], str, f"{field} of an estimate")
        if data["target"] is not None:
            check_type(data["target"], str, f"target of estimate {data['name']!r}")
        return cls(**{field: data[field] for field in _ESTIMATE_FIELDS})


_ESTIMATE_FIELDS = ("name", "value", "unit", "low", "high", "source", "target")


@dataclass(frozen=True)
class Candidate:
    """An architecture and what is known of it; ``trial`` is its number in the study that proposed it.

    ``precision`` is the one that it is to be deployed in, where that is a choice of the search; None where the target
    says it for all.
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
        """Of a point of a search (:mod:`nas.core.precision_choice`)."""
        architecture, precision = split(point)
        return cls(architecture, estimates, trial, precision)

    @property
    def point(self) -> Architecture:
        """Inverse of :meth:`of`: what estimators of the search are asked with."""
        return joined(self.architecture, self.precision)

    @property
    def id(self) -> str:
        """The architecture's, with the precision behind it where that is a choice."""
        return id_of(self.point)

    def __contains__(self, name: object) -> bool:
        return any(estimate.name == name for estimate in self.estimates)

    def __getitem__(self, name: str) -> Estimate:
        for estimate in self.estimates:
            if estimate.name == name:
                return estimate
        raise unknown(f"estimate of candidate {self.id}:", name, tuple(estimate.name for estimate in self.estimates))

    def with_estimate(self, estimate: Estimate) -> Candidate:
        """The same candidate with ``estimate`` in the place of the one of that name, or added."""
        if estimate.name not in self:
            return replace(self, estimates=(*self.estimates, estimate))
        return replace(self, estimates=tuple(estimate if old.name == estimate.name else old for old in self.estimates))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: architecture, precision where it is a choice, estimates, trial."""
        precision = {} if self.precision is None else {"precision": self.precision}
        return {
            "architecture": self.architecture.to_dict(),
            **precision,
            "estimates": [e.to_dict() for e in self.estimates],
            "trial": self.trial,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Candidate:
        """Inverse of :meth:`to_dict`, with the checks of its parts."""
        check_fields(data, ("architecture", "estimates", "trial"), "candidate", optional=("precision",))
        check_type(data["estimates"], list, "estimates of a candidate")
        if data["trial"] is not None:
            check_type(data["trial"], int, "trial of a candidate")
        estimates = tuple(Estimate.from_dict(estimate) for estimate in data["estimates"])
        return cls(Architecture.from_dict(data["architecture"]), estimates, data["trial"], data.get("precision"))


@dataclass(frozen=True)
class Objective:
    """An estimate to make small or large. As text ``min:latency_ms`` or, where the name does not end in the unit,
    ``max:map:%``."""

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
        """Times a value, this gives a number to minimise: 1 or -1."""
        return 1 if self.direction == "min" else -1

    @property
    def logarithmic(self) -> bool:
        """Whether ratios count and not differences: from 1 to 2 ms is as much as from 10 to 20. So of times,
        energies, rates, and costs on paper."""
        return self.unit in _LOGARITHMIC or self.name in ("params", "macs")

    def __str__(self) -> str:
        return f"{self.direction}:{self.name}" + ("" if self.unit == _implied_unit(self.name) else f":{self.unit}")

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Inverse of ``str``: ``direction:name`` or ``direction:name:unit``; without a unit, a suffix of the name
        such as ``_ms`` says it."""
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
    """The name of a precision, or an error that lists them."""
    check_type(given, str, "precision")
    if given not in PRECISIONS:
        raise unknown("precision", str(given), PRECISIONS)
    return str(given)


def speed_up(name: str, before: Estimate, after: Estimate) -> Estimate:
    """Ratio of two latencies, above 1 where ``after`` is the faster; with an interval where both have one, their
    relative halves added in squares."""
    ratio = before.value / after.value
    halves = [(e.high - e.low) / 2 / e.value for e in (before, after) if e.low is not None and e.high is not None]
    known, reach = len(halves) == 2, ratio * math.hypot(*halves)
    return Estimate(
        name, ratio, "x", ratio - reach if known else None, ratio + reach if known else None, after.source, after.target
    )
