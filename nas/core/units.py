"""Numbers as people read them: 12.17 M parameters, 1.84 ± 0.03 ms."""

from __future__ import annotations

import math

from nas.core.estimate import Estimate

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))

#: Names that people know better by another one; anything else is shown as it is called.
LABELS = {
    "latency_ms": "Latency",
    "map": "mAP 50–95",
    "map50": "mAP 50",
    "params": "Parameters",
    "macs": "MACs",
    "elements_written": "Elements written",
    "nwot": "NWOT score",
    "synflow": "Synflow score",
}


def label(name: str) -> str:
    """How an estimate is called in tables and on axes."""
    return LABELS.get(name, name)


def axis_label(name: str, unit: str) -> str:
    """Label with its unit: ``Latency (ms)``."""
    return f"{label(name)} ({unit})" if unit else label(name)


def number(value: float, digits: int = 3) -> str:
    """Plain text with ``digits`` significant digits, from 10,000 on with a decimal prefix: ``0.712``, ``12.2 M``."""
    if abs(value) < 1e4:
        return _significant(value, digits)
    scale, prefix = next(
        (scale, prefix) for scale, prefix in _PREFIXES if abs(value) >= scale * (1 - 0.5 * 10**-digits)
    )
    return f"{_significant(value / scale, digits)} {prefix}"


def compact(value: float) -> str:
    """A round number as short as it goes, for ticks and bounds: ``2.5``, ``20 M``."""
    if abs(value) < 1e4:
        return f"{value:.6g}"
    scale, prefix = next((scale, prefix) for scale, prefix in _PREFIXES if abs(value) >= scale)
    return f"{value / scale:.6g} {prefix}"


def quantity(estimate: Estimate, interval: bool = True) -> str:
    """The value with its unit and, where known, half the width of its 95 % interval: ``1.84 ± 0.03 ms``.

    Both are cut where the interval makes further digits meaningless: at its first digit, or its second where the
    first is a 1.
    """
    half = None if estimate.low is None or estimate.high is None else (estimate.high - estimate.low) / 2
    unit = f" {estimate.unit}" if estimate.unit else ""
    if not interval or not half or not 1e-6 < abs(estimate.value) < 1e4:
        return number(estimate.value, 4 if abs(estimate.value) >= 1e4 else 3) + unit
    exponent = math.floor(math.log10(half))
    places = max(0, (1 if half < 2 * 10**exponent else 0) - exponent)
    return f"{estimate.value:.{places}f} ± {half:.{places}f}{unit}"


def _significant(value: float, digits: int) -> str:
    if value == 0 or not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits}g}"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])  # after rounding: 0.9999 has that of 1.00
    return f"{value:.{max(0, digits - 1 - exponent)}f}"
