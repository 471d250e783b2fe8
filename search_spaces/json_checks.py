"""JSON from outside: parsed with bounds and read with checks.

Every JSON that was not written by the running process goes through :func:`read_json` or :func:`parse_json`: files of
a run, metadata of weights and ONNX files, records of a database, lines of a journal. What they return is plain,
bounded JSON; :class:`JsonObject` reads typed entries from it. Each error is one line that names the file and the entry.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from search_spaces.errors import InputError
from search_spaces.foreign_files import UnreadableFile, read_bytes
from search_spaces.text import brief, printable

MAX_BYTES = 64 << 20
"""Largest JSON text that is parsed unless the caller gives another bound."""
MAX_DEPTH = 64
"""Deepest nesting of arrays and objects."""
MOST = 2**63 - 1
"""Largest magnitude of a whole number among settings: what fixed-width integers hold."""
MAX_DIGITS = 400
"""Most characters of a number; the longest float needs 309 digits before its point."""

JSON_TYPES = {str: "string", int: "integer", float: "number", list: "array", dict: "object", bool: "boolean"}


def read_json(path: str | os.PathLike[str], hint: str = "", max_bytes: int = MAX_BYTES) -> Any:
    """Read the JSON in a regular file.

    Args:
        path: The file; each error starts with it.
        hint: What to do if the file is damaged; ends the error.
        max_bytes: Size up to which the file is read.

    Raises:
        InputError: The file cannot be read, is no regular file, or :func:`parse_json` refuses its content.
    """
    name = os.fspath(path)
    try:
        content = read_bytes(path, max_bytes)
    except UnreadableFile as error:
        raise InputError(f"{name}: {error.reason}", "a JSON file") from None
    return parse_json(content, name, hint, max_bytes)


def parse_json(text: str | bytes, where: str, hint: str = "", max_bytes: int = MAX_BYTES) -> Any:
    """Parse JSON strictly and with bounds.

    Refused are a text of more than ``max_bytes``, nesting deeper than :data:`MAX_DEPTH`, numbers that are not finite
    or longer than :data:`MAX_DIGITS`, strings that are not Unicode text, and a key that one object has twice. The
    surrogates U+DC80 to U+DCFF are accepted: Python writes the bytes of file names that are not UTF-8 so.

    Args:
        text: The JSON, as UTF-8 if bytes.
        where: Where the text comes from; each error starts with it.
        hint: What to do if the text is damaged; ends the error.
        max_bytes: Largest size of ``text``.

    Raises:
        InputError: The text is refused.
    """
    where = printable(where)
    if len(text) > max_bytes:
        raise InputError(f"{where}: more than {max_bytes:,} bytes", "a smaller JSON text", hint)
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        value = json.loads(
            decoded, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_integer
        )
        _check_bounds(value)
    except UnicodeDecodeError:
        raise InputError(f"{where}: not UTF-8 text", "JSON", hint) from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise InputError(f"{where}: not JSON ({error.msg} at {place})", "JSON", hint) from None
    except InputError as error:
        raise InputError(f"{where}: {error}", hint=hint) from None
    except (RecursionError, ValueError, MemoryError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else printable(error)
        raise InputError(f"{where}: not JSON that can be read ({reason})", "JSON", hint) from None
    return value


@dataclass(frozen=True)
class JsonObject:
    """A JSON object whose entries are checked when they are read.

    ``where`` names the file and the place in it, and starts every error: ``S.safetensors: record``. Every getter
    raises :class:`InputError` if the entry is missing or of another type; use :meth:`has` for entries that may be
    missing or null.

    >>> JsonObject.of({"map": 0.5}, "S.safetensors: record").number("map", 0, 1)
    0.5
    """

    entries: Mapping[str, Any]
    where: str

    @classmethod
    def of(cls, value: object, where: str) -> JsonObject:
        """Wrap ``value``; raises InputError unless it is an object."""
        if not isinstance(value, Mapping):
            raise InputError(f"{where} is {brief(value)}", "a JSON object")
        return cls(value, where)

    def has(self, key: str) -> bool:
        """Return whether the entry exists and is not null."""
        return self.entries.get(key) is not None

    def text(self, key: str) -> str:
        """Return a string."""
        return str(self._typed(key, str))

    def boolean(self, key: str) -> bool:
        """Return true or false."""
        return bool(self._typed(key, bool))

    def integer(self, key: str, low: int | None = None, high: int | None = None) -> int:
        """Return an integer between ``low`` and ``high``, both included."""
        value = int(self._typed(key, int))
        self._check_range(key, value, low, high)
        return value

    def number(self, key: str, low: float | None = None, high: float | None = None) -> float:
        """Return a finite number between ``low`` and ``high``, both included, as a float."""
        value = self._entry(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_finite(value):
            raise InputError(f"{self.where}: {printable(key)} is {brief(value)}", "a finite JSON number")
        self._check_range(key, float(value), low, high)
        return float(value)

    def array(self, key: str) -> list[Any]:
        """Return an array."""
        return list(self._typed(key, list))

    def texts(self, key: str) -> tuple[str, ...]:
        """Return an array of strings."""
        values = self.array(key)
        for value in values:
            if not isinstance(value, str):
                raise InputError(f"{self.where}: {printable(key)} holds {brief(value)}", "strings only")
        return tuple(values)

    def object(self, key: str) -> JsonObject:
        """Return an object, checked in the same way."""
        return JsonObject(self._typed(key, dict), f"{self.where}: {printable(key)}")

    def objects(self, key: str) -> Iterator[JsonObject]:
        """Yield the objects of an array."""
        for i, value in enumerate(self.array(key)):
            yield JsonObject.of(value, f"{self.where}: {printable(key)}[{i}]")

    def _entry(self, key: str) -> Any:
        if key not in self.entries:
            raise InputError(f"{self.where} lacks {printable(key)}")
        return self.entries[key]

    def _typed(self, key: str, kind: type) -> Any:
        value = self._entry(key)
        try:
            check_type(value, kind, printable(key))
        except InputError as error:
            raise InputError(f"{self.where}: {error}") from None
        return value

    def _check_range(self, key: str, value: float, low: float | None, high: float | None) -> None:
        if (low is not None and value < low) or (high is not None and value > high):
            wanted = [f"at least {low}"] * (low is not None) + [f"at most {high}"] * (high is not None)
            raise InputError(f"{self.where}: {printable(key)} is {brief(value)}", " and ".join(wanted))


def check_fields(data: object, fields: tuple[str, ...], what: str, optional: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """Return ``data``; raises InputError unless it is an object with exactly ``fields`` and perhaps ``optional`` ones."""
    if not isinstance(data, Mapping):
        raise InputError(f"{what} is a JSON {type(data).__name__}", f"an object with {', '.join(fields)}")
    if missing := [field for field in fields if field not in data]:
        raise InputError(f"{what} lacks {', '.join(missing)}", f"an object with {', '.join(fields)}")
    if extra := [printable(field) for field in data if field not in (*fields, *optional)]:
        raise InputError(f"{what} has unknown keys {brief_list(extra)}", f"only {', '.join(fields)}")
    return data


def check_type(value: object, kind: type, what: str) -> None:
    """Raise InputError unless ``value`` is of this type; a boolean is not a number."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{what} is {brief(value)}", f"a JSON {JSON_TYPES[kind]}")


def check_like(value: object, default: object, what: str) -> None:
    """Raise InputError unless ``value`` has the type of ``default``: a boolean, a whole number, a finite number, a
    string, an object, or a pair of finite numbers for a tuple."""
    if isinstance(default, bool):
        right, expected = isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        right, expected = isinstance(value, int) and not isinstance(value, bool), "a whole number"
    elif isinstance(default, float):
        right, expected = _is_number(value), "a finite number"
    elif isinstance(default, tuple):
        pair = isinstance(value, (list, tuple)) and len(value) == 2
        right, expected = pair and all(map(_is_number, value)), "two finite numbers"  # type: ignore[call-overload]
    elif isinstance(default, Mapping):
        right, expected = isinstance(value, Mapping), "an object"
    else:
        right, expected = isinstance(value, type(default)), f"a {type(default).__name__}"
    if not right or (isinstance(value, int) and abs(value) > MOST):
        raise InputError(f"{what} = {brief(value)}", expected)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and _is_finite(value)


def brief_list(names: list[str], most: int = 5) -> str:
    """Join names by commas, at most ``most`` of them, each cut at 60 characters."""
    return ", ".join(name[:60] for name in names[:most]) + (", …" if len(names) > most else "")


def _check_bounds(value: Any) -> None:
    """Raise InputError for nesting over the bound and strings with single surrogates; iterative, level by level."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for entry in level:
            if isinstance(entry, str):
                _check_text(entry)
            elif isinstance(entry, list):
                below += entry
            elif isinstance(entry, dict):
                below += entry.values()
                for key in entry:
                    _check_text(key)
        if not below:
            return
        level = below
    raise ValueError(f"nested deeper than {MAX_DEPTH}")


def _check_text(text: str) -> None:
    try:
        text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise ValueError(f"{brief(text)} is not Unicode text") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InputError(f"key {brief(twice)} appears twice in one object", "each key once")
    return table


def _constant(text: str) -> NoReturn:
    raise InputError(f"{text} is not a JSON number", "finite numbers only")


def _float(text: str) -> float:
    value = float(_short(text))
    if not math.isfinite(value):
        raise InputError(f"{brief(text)} is not a finite number", "finite numbers only")
    return value


def _integer(text: str) -> int:
    return int(_short(text))


def _short(number: str) -> str:
    if len(number) > MAX_DIGITS:
        raise ValueError(f"a number of {len(number)} digits")
    return number


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return False
