"""Defects of a data set by kind, with counts and examples. The other images and boxes of the data set are used."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

KEPT_PER_KIND = 20
"""Examples remembered of each kind; all are counted."""
SHOWN_PER_KIND = 3
"""Examples in a report for a person."""


MAX_LENGTH = 500
"""Characters of a place or a message that are kept: both may hold text of the file."""


@dataclass(frozen=True)
class Problem:
    """One defect: ``kind`` groups equal ones, ``where`` is the file, ``message`` says what was found and what was
    done about it."""

    kind: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class Problems:
    """A counter of :class:`Problem` that keeps the first examples of each kind. Safe to add to from several threads."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        """Facts that are no defects: what was passed over, how something ambiguous was read."""
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[Problem]] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value for name, value in self.__dict__.items() if name != "_lock"
        }  # a lock cannot go to another process

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def add(self, kind: str, where: object, message: str, count: int = 1) -> None:
        """Count ``count`` defects of one kind, all in the file ``where``."""
        with self._lock:
            self._counts[kind] += count
            examples = self._examples.setdefault(kind, [])
            if len(examples) < KEPT_PER_KIND:
                examples.append(Problem(kind, _clipped(str(where)), _clipped(message)))

    @property
    def counts(self) -> dict[str, int]:
        """Return kind -> number of defects."""
        return dict(self._counts)

    def __len__(self) -> int:
        return sum(self._counts.values())

    def __iter__(self) -> Iterator[Problem]:
        return iter([problem for examples in self._examples.values() for problem in examples])

    def lines(self) -> list[str]:
        """Return one line per kind, most frequent first: the count and the place of the first case."""
        return [f"{count} x {kind}, first in {self._examples[kind][0]}" for kind, count in self._counts.most_common()]

    def report(self) -> list[str]:
        """Return a line per kind with its count, most frequent first, and indented lines with its first cases."""
        lines = []
        for kind, count in self._counts.most_common():
            examples = self._examples[kind][:SHOWN_PER_KIND]
            lines += [f"{count} x {kind}", *(f"    {example}" for example in examples)]
            if len(examples) < min(len(self._examples[kind]), count):
                lines.append(f"    and {count - len(examples)} more")
        return lines

    def to_dict(self) -> list[dict[str, Any]]:
        """Return kinds with their counts and the examples that are kept, JSON-ready."""
        return [
            {
                "kind": kind,
                "count": count,
                "examples": [{"where": e.where, "message": e.message} for e in self._examples[kind]],
            }
            for kind, count in self._counts.most_common()
        ]


def _clipped(text: str) -> str:
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1]}…"
