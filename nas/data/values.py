"""Values of foreign annotation files, whose types differ from tool to tool."""

from __future__ import annotations

import math

_TRUE, _FALSE = ("true", "yes"), ("false", "no", "")


def number_of(value: object) -> float | None:
    """Return the number that ``value`` is, infinite where no float holds it; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def flag_of(value: object) -> bool | None:
    """Return whether a flag is set, also where a tool wrote a number as text; None where it says neither.

    A missing or empty flag is not set.
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        try:
            value = float(text) if text.isascii() else math.nan
        except ValueError:
            return None
    number = number_of(value)
    return None if number is None or not math.isfinite(number) else number != 0
