"""Precision as a choice of the search: each point has an architecture and the precision of its deployment.

The choice is added to the search space; the network depends on the architecture only. With a single precision, that of
the target, the space is unchanged, and a point is an architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from search_spaces.architecture import Architecture
from search_spaces.space import Choice, SearchSpace

CHOICE = "precision"
LOWEST_FIRST = ("int8", "bf16", "fp16", "fp32")
"""Order of the choice: the smallest point is the fastest and the largest the most accurate; a search begins with both."""


def with_precisions(space: SearchSpace, precisions: Sequence[str]) -> SearchSpace:
    """Return the space with the precision as one more choice, or the space itself without several precisions."""
    if len(precisions) < 2:
        return space
    choice = Choice(CHOICE, tuple(p for p in LOWEST_FIRST if p in precisions), ordered=False, weights=False)
    return replace(space, choices=(*space.choices, choice))


def joined(architecture: Architecture, precision: str | None) -> Architecture:
    """Return the point of an architecture and a precision; the architecture itself for None (no choice)."""
    return (
        architecture
        if precision is None
        else replace(architecture, choices=(*architecture.choices, (CHOICE, precision)))
    )


def split(point: Architecture) -> tuple[Architecture, str | None]:
    """Return architecture and precision of a point (None: no choice), the inverse of :func:`joined`."""
    if not point.choices or point.choices[-1][0] != CHOICE:
        return point, None
    *choices, (_, precision) = point.choices
    return replace(point, choices=tuple(choices)), str(precision)


def id_of(point: Architecture) -> str:
    """Return the architecture's id, followed by the precision if it is a choice: ``ab12cd34ef56-int8``."""
    architecture, precision = split(point)
    return architecture.id if precision is None else f"{architecture.id}-{precision}"
