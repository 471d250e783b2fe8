"""The one exception a user is meant to read: what was got, what was expected, what to do next, in one line."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input from outside (a file, an option, a data set, a machine that lacks something).

    The command line prints it as one line and exits with status 2; everything else that escapes is a defect of ours
    and keeps its traceback.
    """

    def __init__(self, got: str, expected: str = "", hint: str = "") -> None:
        parts = [got, f"expected {expected}" if expected else "", hint]
        super().__init__("; ".join(part for part in parts if part))
