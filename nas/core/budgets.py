"""Named bounds of one estimate, parsed from and written as text: ``S=2ms,M=4ms,L=6ms``, or values of reference models:
``S=ref:yolov8n,M=ref:yolo11s@320``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from search_spaces.errors import InputError
from search_spaces.image_size import OptionalSizeField
from search_spaces.references import reference
from search_spaces.registry import unknown

RUN_FILES = ("run", "front", "report", "certificate", "supernet")
"""Names that other files of a run have."""
LONGEST_NAME = 64
"""Longest name of a budget, in characters; names become file names."""
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_ENTRY = re.compile(r"([A-Za-z0-9_-]+)\s*=\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([^\s\d.]*)")
_REFERENCE = re.compile(r"([A-Za-z0-9_-]+)\s*=\s*(?:ref|like):\s*([^@\s]+)(?:@([0-9]{1,5}(?:x[0-9]{1,5})?))?")
"""``like:`` is what the version before wrote, in its ``run.json`` too."""
BUDGET, GOAL = "budget", "goal"
"""What a bound is called in messages: an upper bound of a cost, a lower bound of an accuracy."""
_FORM = {
    BUDGET: "NAME=NUMBER[UNIT] or NAME=ref:REFERENCE[@SIZE], comma-separated, for example S=2ms,M=4ms,L=ref:yolo-nas-s",
    GOAL: "NAME=NUMBER or NAME=ref:REFERENCE[@SIZE], comma-separated, for example S=0.40,M=0.45,L=ref:yolov8n",
}


@dataclass(frozen=True)
class Budgets:
    """Ordered ``(name, bound in unit)`` pairs from small to large; the names become file names. ``kind`` is what messages
    call one.

    Raises InputError for repeated names, bounds that are not positive, or a falling order.
    """

    entries: tuple[tuple[str, float], ...]
    unit: str = "ms"
    kind: str = BUDGET

    def __post_init__(self) -> None:
        _check_names([name for name, _ in self.entries], self.kind)
        for name, bound in self.entries:
            if not (math.isfinite(bound) and bound > 0):
                raise InputError(f"{self.kind} {name}={bound:g}{self.unit}", "a positive number")
        _check_order(self.entries, {name: f"{name}={bound:g}{self.unit}" for name, bound in self.entries}, self.kind)

    def __str__(self) -> str:
        return ",".join(f"{name}={_shortest(bound)}{self.unit}" for name, bound in self.entries)

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return iter(self.entries)

    def __getitem__(self, name: str) -> float:
        table = dict(self.entries)
        if name not in table:
            raise unknown(self.kind, name, table)
        return table[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Names in their order."""
        return tuple(name for name, _ in self.entries)


@dataclass(frozen=True)
class ReferenceBound:
    """A bound that is a reference model's value: its name, and its image size (None: the target's size,
    else its own).

    Raises InputError for an unknown reference or a size that is no multiple of 32.
    """

    reference: str
    image_size: OptionalSizeField = OptionalSizeField()

    def __post_init__(self) -> None:
        reference(self.reference)
        if self.image_size is not None:
            self.image_size.check(str(self))

    def __str__(self) -> str:
        return f"ref:{self.reference}" + ("" if self.image_size is None else f"@{self.image_size}")


@dataclass(frozen=True)
class BudgetRequest:
    """Budgets as the user wrote them: numbers in ``unit``, or reference models whose values are not measured yet."""

    entries: tuple[tuple[str, float | ReferenceBound], ...]
    unit: str = "ms"
    kind: str = BUDGET

    def __post_init__(self) -> None:
        _check_names([name for name, _ in self.entries], self.kind)
        if numbers := tuple((name, bound) for name, bound in self.entries if not isinstance(bound, ReferenceBound)):
            Budgets(numbers, self.unit, self.kind)

    @property
    def references(self) -> dict[str, ReferenceBound]:
        """The bounds that are a reference model's value, by their names."""
        return {name: bound for name, bound in self.entries if isinstance(bound, ReferenceBound)}

    def resolve(self, measured: Mapping[str, float]) -> Budgets:
        """Return all bounds as numbers.

        ``measured`` gives the values in ``unit`` for the names of :attr:`references`. Raises InputError that names two
        bounds in the wrong order.
        """
        entries = tuple(
            (name, measured[name] if isinstance(bound, ReferenceBound) else bound) for name, bound in self.entries
        )
        texts = {
            name: f"{name}={bound}, measured {measured[name]:.4g} {self.unit},"
            if isinstance(bound, ReferenceBound)
            else f"{name}={bound:g}{self.unit}"
            for name, bound in self.entries
        }
        _check_order(entries, texts, self.kind)
        return Budgets(entries, self.unit, self.kind)


def parse_budgets(text: str, unit: str = "ms") -> Budgets:
    """Parse budgets in ``unit``.

    A number without a unit is in ``unit``; other units of time are converted if ``unit`` is one. Raises InputError for
    anything else, a reference model included.
    """
    request = parse_request(text, unit)
    if request.references:
        name, bound = next(iter(request.references.items()))
        raise InputError(f"budget {name}={bound}", "a number: nothing is measured here")
    return request.resolve({})


def parse_request(text: str, unit: str = "ms", kind: str = BUDGET) -> BudgetRequest:
    """Parse as :func:`parse_budgets`; a bound may also be ``ref:REFERENCE`` or ``ref:REFERENCE@SIZE``."""
    return BudgetRequest(tuple(_entry(part.strip(), unit, kind) for part in text.split(",")), unit, kind)


def _entry(part: str, unit: str, kind: str) -> tuple[str, float | ReferenceBound]:
    if found := _REFERENCE.fullmatch(part):
        return found[1], ReferenceBound(found[2], found[3])
    match = _ENTRY.fullmatch(part)
    if match is None:
        raise InputError(f"{kind} {part!r}", _FORM[kind])
    name, number, given = match.groups()
    try:
        bound = float(number)
    except ValueError:
        raise InputError(f"{kind} {part!r}", _FORM[kind]) from None
    return name, converted(bound, given or unit, unit, f"{kind} {part!r}")


def _check_names(names: Sequence[str], kind: str) -> None:
    if not names or len({name.casefold() for name in names}) != len(names):
        raise InputError(
            f"{kind}s named {', '.join(names) or 'nothing'}",
            "at least one, each name once (upper and lower case are one)",
        )
    for name in names:
        if name.casefold() in RUN_FILES:
            raise InputError(f"a {kind} named {name}", f"another name: {name}.json is a file of the run")
        if len(name) > LONGEST_NAME:
            raise InputError(f"a {kind}'s name of {len(name)} characters", f"at most {LONGEST_NAME}")


def _check_order(entries: Sequence[tuple[str, float]], texts: Mapping[str, str], kind: str) -> None:
    for (name, bound), (after, larger) in pairwise(entries):
        if not bound < larger:
            raise InputError(
                f"{kind} {texts[after]} is not above {texts[name].rstrip(',')}", f"{kind}s written from small to large"
            )


def converted(number: float, given: str, unit: str, what: str) -> float:
    """Convert a number from the unit ``given`` to ``unit``: equal units, or two units of time.

    ``what`` names the number in the message. Raises InputError for other pairs of units.
    """
    if given == unit:
        return number
    if unit not in _SECONDS:
        raise InputError(what, f"a number in {unit or 'the plain unit of its estimate'}")
    if given not in _SECONDS:
        raise unknown(f"unit of {what}:", given, ("ms", "us", "s"))
    # Fifteen digits: 0.002 s is 2 ms and not 2.0000000000000004.
    return float(f"{number * _SECONDS[given] / _SECONDS[unit]:.15g}")


def _shortest(number: float) -> str:
    text = repr(number)
    return text.removesuffix(".0")
