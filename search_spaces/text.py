"""Text from outside (file names, class names, database records, messages of libraries) made safe to print and write."""

from __future__ import annotations

import json
import math
import re
import reprlib
import unicodedata

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction in which a terminal shows what follows."""
_NUMBER = re.compile(r"[+-]?([0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})([eE][+-]?[0-9]{1,4})?")
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""The characters of :func:`printable` that JSON does not escape by itself."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Beginnings of a formula; the last four are full-width forms of the first four."""
_ESCAPED = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories of control characters, surrogates, line and paragraph separators."""


def printable(text: object, keep: str = "") -> str:
    r"""Return ``text`` as one line of Unicode text without control characters.

    Control characters (escape codes, newlines), directional marks, and the surrogates with which Python represents
    file names that are not UTF-8 become visible escapes: ``\x1b``, ``\n``, ``\xe9``. Characters in ``keep`` stay.
    """
    given = str(text)
    if given.isascii() and given.isprintable():
        return given
    return "".join(c if c in keep or not _unsafe(c) else _escape(c) for c in given)


def brief(value: object, most: int = 80) -> str:
    """Return ``repr(value)`` as one printable line of at most ``most`` characters.

    The time is bounded too: only the first entries of containers and the ends of long strings are rendered, so a
    value of unknown size or depth may be given.
    """
    text = printable(_REPR.repr(value))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def json_text(content: object, indent: int | None = None, allow_nan: bool = False) -> str:
    """Return JSON as readable Unicode that may be printed and encoded as UTF-8; it reads back as ``content``.

    What :func:`printable` makes visible is escaped within the strings: control characters, directional marks, and the
    surrogates with which Python represents file names that are not UTF-8.
    """
    text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=allow_nan)
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def is_formula(text: str) -> bool:
    """Return whether a spreadsheet would take the text of a cell for a formula, which may start programs.

    Such text begins with ``=``, ``+``, ``-`` or ``@`` (also in full width), a tab or a line break, and is no number.
    """
    if not text.startswith(FORMULA_STARTS):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return text[0] in "\t\r\n"


def number_in(text: str) -> float:
    """Return the number that ``text`` is, in the digits 0 to 9 with a decimal point; NaN for any other text.

    ``float`` reads more: ``1_000`` and digits of other scripts, which no table of numbers means.
    """
    return float(text) if _NUMBER.fullmatch(text.strip(" ")) else math.nan


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun: ``1 class``, ``2,000 images``; ``plural`` where it is not the noun with an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def _unsafe(character: str) -> bool:
    return character in _BIDI or unicodedata.category(character) in _ESCAPED


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode: the byte code - 0xDC00 of a name that is not UTF-8
        code -= 0xDC00
    return repr(chr(code))[1:-1] if code < 0x80 else f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class _Brief(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 5
        self.maxstring = self.maxlong = self.maxother = 60

    def repr_int(self, x: int, level: int) -> str:
        """Render an integer; one of over 1,000 bits by its size, since Python refuses to write very long ones."""
        return f"an integer of {x.bit_length()} bits" if x.bit_length() > 1000 else super().repr_int(x, level)


_REPR = _Brief()
