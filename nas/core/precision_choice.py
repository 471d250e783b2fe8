"""Precision as one more choice: the points that a search draws, each an architecture and the precision that it is to
be deployed in.

A point is a value of the wrapped space; the network, and all that is built of it, is the architecture's alone. Where
one precision was asked for it is the target's, nothing is wrapped, and a point is an architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from search_spaces.architecture import Architecture
from search_spaces.space import Choice, SearchSpace

CHOICE = "precision"
LOWEST_FIRST = ("int8", "bf16", "fp16", "fp32")
"""So that the smallest point is the fastest of all and the largest the most accurate: a search begins with both."""


def with_precisions(space: SearchSpace, precisions: Sequence[str]) -> SearchSpace:
    """The space with the precision as one more alternative; itself where there are not several."""
    if len(precisions) < 2:
        return space
    choice = Choice(CHOICE, tuple(p for p in LOWEST_FIRST if p in precisions), ordered=False, weights=False)
    return replace(space, choices=(*space.choices, choice))


def joined(architecture: Architecture, precision: str | None) -> Architecture:
    """The point of an architecture and a precision; None where precision is no choice."""
    return (
        architecture
        if precision is None
        else replace(architecture, choices=(*architecture.choices, (CHOICE, precision)))
    )


def split(point: Architecture) -> tuple[Architecture, str | None]:
    """Inverse of :func:`joined`."""
    if not point.choices or point.choices[-1][0] != CHOICE:
        return point, None
    *choices, (_, precision) = point.choices
    return replace(point, choices=tuple(choices)), str(precision)


def id_of(point: Architecture) -> str:
    """The architecture's id, with the precision behind it where that is a choice: ``ab12cd34ef56-int8``."""
    architecture, precision = split(point)
    return architecture.id if precision is None else f"{architecture.id}-{precision}"
