"""Objectives and constraints of a search, by the names of estimators."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nas.core.budgets import converted
from nas.core.estimate import Objective
from nas.estimators import ESTIMATORS
from nas.search.evaluate_candidate import Bound
from search_spaces.errors import InputError

LATENCIES = {"measured": "latency", "predicted": "predicted_latency"}
"""Source of candidates' latencies -> registry name of its estimator."""
ALWAYS = ("params", "macs", "latency")
"""Estimators of every candidate, whatever the objectives are."""
_PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_NUMBER = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)\s*(.*)")


@dataclass(frozen=True)
class Aims:
    """Objectives by registry names of estimators, one or more to minimise and to maximise.

    The first of ``minimize`` is the cost and the first of ``maximize`` the gain, by which S, M and L are chosen and the
    front is plotted. If nothing is minimised (throughput is maximised instead), the cost is latency.
    """

    minimize: tuple[str, ...]
    maximize: tuple[str, ...]

    @classmethod
    def of(cls, minimize: Sequence[str], maximize: Sequence[str], accuracy: str) -> Aims:
        """Make aims from names of estimators or estimates; latency and ``accuracy`` fill in what is missing.

        Raises InputError for unknown names, fewer than two or more than four objectives, or one given twice.
        """
        low, high = (tuple(registry_name(n) for n in names) for names in (minimize, maximize))
        rates = tuple(n for n in high if n == "throughput")
        aims = cls(low or (() if rates else ("latency",)), high if len(high) > len(rates) else (*high, accuracy))
        every = (*aims.minimize, *aims.maximize)
        if len(every) > 4 or len(set(every)) < len(every):
            raise InputError(f"objectives {', '.join(every)}", "two to four, each once")
        return aims

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives, costs first."""
        pairs = [*((n, "min") for n in self.minimize), *((n, "max") for n in self.maximize)]
        return tuple(Objective(ESTIMATORS[n].name, direction, ESTIMATORS[n].unit) for n, direction in pairs)

    @property
    def cost(self) -> Objective:
        """The objective of budgets and of the plot's horizontal axis."""
        name = self.minimize[0] if self.minimize else "latency"
        return Objective(ESTIMATORS[name].name, "min", ESTIMATORS[name].unit)

    @property
    def gain(self) -> Objective:
        """The accuracy by which S, M and L are chosen."""
        name = next(n for n in self.maximize if n != "throughput")
        return Objective(ESTIMATORS[name].name, "max", ESTIMATORS[name].unit)


def estimators_of(aims: Aims, bounds: Sequence[Bound], latency: str) -> tuple[str, ...]:
    """Return the registry names of all estimators of a candidate, each once; ``latency`` is a key of
    :data:`LATENCIES`."""
    names = (*ALWAYS, *aims.minimize, *aims.maximize, *(registry_name(b.name) for b in bounds))
    return tuple(dict.fromkeys(LATENCIES[latency] if name == "latency" else name for name in names))


def parse_bound(text: str) -> Bound:
    """Parse ``latency_ms<=5``, ``latency<=5ms``, ``params<=1.5M`` or ``map>=0.4``.

    The bound is on the estimate's name. Raises InputError for anything else.
    """
    for sign in ("<=", ">="):
        name, found, value = text.partition(sign)
        if found:
            estimator = ESTIMATORS[registry_name(name.strip())]
            return Bound(estimator.name, sign == "<=", _value(value.strip(), estimator.unit, text))
    raise InputError(f"bound {text!r}", "NAME<=NUMBER or NAME>=NUMBER, for example params<=1e6")


def _value(text: str, unit: str, whole: str) -> float:
    match = _NUMBER.fullmatch(text)
    try:
        number = float(match[1]) if match else None
    except ValueError:
        number = None
    if match is None or number is None:
        raise InputError(f"bound {whole!r}", "a number after the sign, for example params<=1e6 or latency<=5ms")
    given = match[2]
    if given in _PREFIXES and not unit:
        return number * _PREFIXES[given]
    return converted(number, given or unit, unit, f"bound {whole!r}")


def registry_name(estimate: str) -> str:
    """Return the registry name of an estimator from its own or its estimate's name. Raises InputError for an unknown
    name."""
    for name in ESTIMATORS:
        if estimate in (ESTIMATORS[name].name, name):
            return name
    raise InputError(f"nothing is known by the name {estimate!r}", f"one of {', '.join(ESTIMATORS)}")
