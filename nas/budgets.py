"""Named upper bounds on one cost, as text both ways: ``S=2ms,M=4ms,L=6ms``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from search_spaces.errors import InputError
from search_spaces.registry import unknown

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_ENTRY = re.compile(r"([A-Za-z0-9_-]+)\s*=\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([^\s\d.]*)")
_EXAMPLE = "NAME=NUMBER[UNIT], comma-separated, for example S=2ms,M=4ms,L=6ms"


@dataclass(frozen=True)
class Budgets:
    """Ordered ``(name, upper bound in unit)`` pairs, from small to large; the names become file names."""

    entries: tuple[tuple[str, float], ...]
    unit: str = "ms"

    def __post_init__(self) -> None:
        names = [name for name, _ in self.entries]
        if not names or len({name.casefold() for name in names}) != len(names):
            raise InputError(f"budgets named {', '.join(names) or 'nothing'}", "at least one, each name once (upper and lower case are one)")
        for name, bound in self.entries:
            if not (math.isfinite(bound) and bound > 0):
                raise InputError(f"budget {name}={bound:g}{self.unit}", "a positive number")
        for (name, bound), (after, larger) in zip(self.entries, self.entries[1:], strict=False):
            if not bound < larger:
                raise InputError(
                    f"budget {after}={larger:g}{self.unit} is not above {name}={bound:g}{self.unit}", "budgets written from small to large"
                )

    def __str__(self) -> str:
        return ",".join(f"{name}={_shortest(bound)}{self.unit}" for name, bound in self.entries)

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return iter(self.entries)

    def __getitem__(self, name: str) -> float:
        table = dict(self.entries)
        if name not in table:
            raise unknown("budget", name, table)
        return table[name]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.entries)


def parse_budgets(text: str, unit: str = "ms") -> Budgets:
    """Budgets in ``unit`` from text; a number without a unit is in ``unit``, other units of time are converted where ``unit`` is one."""
    entries = []
    for part in text.split(","):
        match = _ENTRY.fullmatch(part.strip())
        if match is None:
            raise InputError(f"budget {part.strip()!r}", _EXAMPLE)
        name, number, given = match.groups()
        try:
            bound = float(number)
        except ValueError:
            raise InputError(f"budget {part.strip()!r}", _EXAMPLE) from None
        entries.append((name, _convert(bound, given or unit, unit, part.strip())))
    return Budgets(tuple(entries), unit)


def _convert(bound: float, given: str, unit: str, part: str) -> float:
    if given == unit:
        return bound
    if unit not in _SECONDS:
        raise InputError(f"budget {part!r}", f"a number in {unit or 'the plain unit of its estimate'}")
    if given not in _SECONDS:
        raise unknown(f"unit of budget {part!r}:", given, ("ms", "us", "s"))
    # Fifteen digits: 0.002 s is 2 ms and not 2.0000000000000004.
    return float(f"{bound * _SECONDS[given] / _SECONDS[unit]:.15g}")


def _shortest(number: float) -> str:
    text = repr(number)
    return text.removesuffix(".0")
