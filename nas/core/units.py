"""Formats of numbers as text, one per quantity.

mAP, AP, F1, recall        share 0..1, three decimals      0.452
difference of two of them  signed, new - old               -0.007
count                      grouped, with its noun          1 class, 2,000 images
parameters, MACs           decimal prefix                  12.2 M
latency                    rounded to its interval         1.84 ± 0.03 ms
"""

from __future__ import annotations

import math
import re

from nas.core.estimate import Estimate

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))

_SHARES = re.compile(r"map(50)?(_(small|medium|large))?(@|$)")
"""Names of estimates that are shares 0..1."""

LABELS = {
    "latency_ms": "Latency",
    "latency_end_to_end_ms": "End-to-end latency",
    "map": "mAP 50–95",
    "map50": "mAP 50",
    "params": "Parameters",
    "macs": "MACs",
    "elements_written": "Elements written",
    "nwot": "NWOT score",
    "synflow": "Synflow score",
}
"""Names of estimates -> labels. An estimate without an entry is labelled with its name."""


def label(name: str) -> str:
    """Return the label of an estimate in tables and on axes."""
    return LABELS.get(name, name)


def axis_label(name: str, unit: str) -> str:
    """Return the label of an estimate with its unit: ``Latency (ms)``."""
    return f"{label(name)} ({unit})" if unit else label(name)


def share(value: float | None) -> str:
    """Return a share 0..1, such as mAP, with three decimals; a dash for None."""
    return "–" if value is None else f"{value:.3f}"


def share_difference(new: float, old: float) -> str:
    """Return ``new - old`` of two shares with its sign; below zero is a loss: ``-0.007``."""
    return f"{round(new - old, 3) + 0.0:+.3f}"


def change_of_map(points: float) -> str:
    """Describe lost points of mAP: ``0.72 points lost``, ``0.72 points gained`` (for -0.72), ``no change``."""
    if f"{abs(points):.2f}" == "0.00":
        return "no change"
    return f"{abs(points):.2f} points {'lost' if points > 0 else 'gained'}"


def number(value: float, digits: int = 3) -> str:
    """Format a number with ``digits`` significant digits, from 10,000 on with a decimal prefix: ``0.712``,
    ``12.2 M``."""
    if abs(value) < 1e4:
        return _significant(value, digits)
    scale, prefix = next(
        (scale, prefix) for scale, prefix in _PREFIXES if abs(value) >= scale * (1 - 0.5 * 10**-digits)
    )
    return f"{_significant(value / scale, digits)} {prefix}"


def compact(value: float) -> str:
    """Format a round number without trailing zeros, for ticks and bounds: ``2.5``, ``20 M``."""
    if abs(value) < 1e4:
        return f"{value:.6g}"
    scale, prefix = next((scale, prefix) for scale, prefix in _PREFIXES if abs(value) >= scale)
    return f"{value / scale:.6g} {prefix}"


def quantity(estimate: Estimate, interval: bool = True) -> str:
    """Format a value with its unit and, if it has an interval, half the width of that interval: ``1.84 ± 0.03 ms``.

    Both numbers are rounded to the first significant digit of the half width, or to the second if the first is a 1.
    mAP without an interval has three decimals, as every share.
    """
    half = None if estimate.low is None or estimate.high is None else (estimate.high - estimate.low) / 2
    unit = f" {estimate.unit}" if estimate.unit else ""
    zero = estimate.value == 0
    if not interval or not half or not (zero or 1e-6 < abs(estimate.value) < 1e4):
        if _SHARES.match(estimate.name) and not unit:
            return share(estimate.value)
        return number(estimate.value, 4 if abs(estimate.value) >= 1e4 else 3) + unit
    exponent = math.floor(math.log10(half))
    places = max(0, (1 if half < 2 * 10**exponent else 0) - exponent)
    return f"{estimate.value:.{places}f} ± {half:.{places}f}{unit}"


def _significant(value: float, digits: int) -> str:
    if value == 0 or not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits}g}"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])  # after rounding: 0.9999 has that of 1.00
    return f"{value:.{max(0, digits - 1 - exponent)}f}"
