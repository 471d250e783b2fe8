"""The exception for bad input: what was found, what is expected, what to do next, in one line."""

from __future__ import annotations

from search_spaces.text import printable


class InputError(ValueError):
    """Bad input from outside: a file, an option, a data set, a machine that lacks something.

    The message is one line without control characters, whatever the parts contain
    (:func:`search_spaces.text.printable`). The command line prints it and exits with status 2; any other exception is a
    defect of this package and keeps its traceback.

    Args:
        got: What was found.
        expected: What is valid instead.
        hint: What to do next.
    """

    def __init__(self, got: str, expected: str = "", hint: str = "") -> None:
        parts = [got, f"expected {expected}" if expected else "", hint]
        super().__init__(printable("; ".join(part for part in parts if part)))
