"""The exception for bad input: what was found, what is expected, what to do next, in one line."""

from __future__ import annotations

from search_spaces.text import printable

MAX_LENGTH = 2000
"""Characters of each part of a message: a part may hold a name or a list from a file."""


class InputError(ValueError):
    """Bad input from outside: a file, an option, a data set, a machine that lacks something.

    The message is one line without control characters, whatever the parts contain
    (:func:`search_spaces.text.printable`). Each part is cut off after :data:`MAX_LENGTH` characters. The command line
    prints the message and exits with status 2; any other exception is a defect of this package and keeps its traceback.

    Args:
        got: What was found.
        expected: What is valid instead.
        hint: What to do next.
    """

    def __init__(self, got: str, expected: str = "", hint: str = "") -> None:
        parts = [_clipped(part) for part in (got, f"expected {expected}" if expected else "", hint)]
        super().__init__(printable("; ".join(part for part in parts if part)))


def _clipped(text: str) -> str:
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1]}…"
