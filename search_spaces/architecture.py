"""An architecture is a value: one point of a named, versioned search space."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from search_spaces.errors import InputError
from search_spaces.image_size import ImageSize

Value = int | float | str


@dataclass(frozen=True, order=True)
class Architecture:
    """A point of a search space: immutable, hashable, JSON in and out.

    ``choices`` are ordered ``(name, value)`` pairs in the order of the space. The object is a cache key, a database
    key, a file and a test parameter alike; it says nothing of classes, weights or devices.
    """

    space: str
    version: int
    choices: tuple[tuple[str, Value], ...]

    def __getitem__(self, name: str) -> Value:
        return self._table[name]

    @property
    def image_size(self) -> ImageSize:
        """Return the value of the choice ``image_size``. Raises KeyError if the space has no such choice."""
        return ImageSize.of(self["image_size"])  # type: ignore[arg-type]

    @cached_property
    def _table(self) -> dict[str, Value]:
        return dict(self.choices)

    def replace(self, **changes: Value) -> Architecture:
        """Return the same point with some choices changed. Raises InputError for a name that it does not have."""
        if missing := changes.keys() - self._table.keys():
            raise InputError(
                f"architecture of {self.space} has no choice {sorted(missing)}", f"one of {list(self._table)}"
            )
        return Architecture(self.space, self.version, tuple((k, changes.get(k, v)) for k, v in self.choices))

    @cached_property
    def id(self) -> str:
        """Return the first 12 hex digits of the SHA-256 of the canonical JSON.

        48 bits: two of 10⁵ points have the same id with a probability of 2·10⁻⁵.
        """
        return hashlib.sha256(json.dumps(self._content(), separators=(",", ":")).encode()).hexdigest()[:12]

    def _content(self) -> dict[str, Any]:
        return {"space": self.space, "version": self.version, "choices": dict(self.choices)}

    def to_dict(self) -> dict[str, Any]:
        """Return space, version, choices and id, JSON-ready. A reader recomputes the id."""
        return {**self._content(), "id": self.id}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Architecture:
        """Read what :meth:`to_dict` returns.

        Whether the point is one of its space is checked by :func:`search_spaces.spaces.space_of`. Raises InputError if
        the value is no architecture or its id does not belong to its choices.
        """
        try:
            choices = tuple((str(k), v) for k, v in data["choices"].items())
            architecture = cls(data["space"], data["version"], choices)
            if type(architecture.space) is not str or type(architecture.version) is not int:
                raise TypeError("space is a string, version an integer")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"not an architecture ({type(error).__name__}: {error})",
                "an object with space, version, choices and id",
            ) from None
        if data.get("id") != architecture.id:
            raise InputError(
                f"architecture id {data.get('id')!r} does not belong to its choices",
                f"{architecture.id!r}",
                "the file was edited: export it again, or correct the id if the edit was meant",
            )
        return architecture
