"""Text from outside: one line, no control characters, bounded."""

from __future__ import annotations

import math
import os
import unicodedata

import pytest

from search_spaces.errors import InputError
from search_spaces.text import brief, counted, number_in, printable


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain", "plain"),
        ("Fußgänger 行人 👩‍🚀", "Fußgänger 行人 👩‍🚀"),
        ("a\x1b[31mred", "a\\x1b[31mred"),
        ("two\nlines\r\n", "two\\nlines\\r\\n"),
        ("\x9b2J", "\\x9b2J"),
        ("abc\u202egpj", "abc\\u202egpj"),
        ("a\u2028b", "a\\u2028b"),
        (os.fsdecode(b"z\xe9.jpg"), "z\\xe9.jpg"),
        ("\ud800", "\\ud800"),
        ("\x00", "\\x00"),
    ],
)
def test_what_a_terminal_would_act_on_becomes_visible(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_every_character_becomes_one_line_of_unicode() -> None:
    for code in range(0x110000):
        text = printable(chr(code))
        assert all(unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") for c in text), hex(code)
    printable("".join(map(chr, range(0x110000)))).encode()


def test_kept_characters_stay() -> None:
    assert printable("a\n\x1b", keep="\n") == "a\n\\x1b"


def test_brief_is_bounded_in_length_and_work() -> None:
    """Without a bound, the first value would have 10^60 parts: the test would not end."""
    bomb: list[object] = ["x" * 1000]
    for _ in range(60):
        bomb = [bomb] * 10
    for value in (bomb, 10**5000, "\x1b" * 10**6, {str(i): [i] for i in range(10**5)}, b"\x00" * 10**6):
        text = brief(value)
        assert len(text) <= 80 and "\x1b" not in text and "\n" not in text
    assert brief("short") == "'short'" and brief(3) == "3" and brief([1, None]) == "[1, None]"


def test_an_input_error_is_one_line_whatever_its_parts_hold() -> None:
    name = os.fsdecode(b"z\xe9")
    error = InputError(f"class {name}\n\x1b[2J", "a\tname", "line\r2")
    assert str(error) == "class z\\xe9\\n\\x1b[2J; expected a\\tname; line\\r2"


@pytest.mark.parametrize(
    "text, number", [("1.5", 1.5), (" 2 ", 2), ("-.5e-3", -0.0005), ("1.", 1), ("+3", 3), ("1e308", 1e308)]
)
def test_a_number_in_a_table(text: str, number: float) -> None:
    assert number_in(text) == number


@pytest.mark.parametrize(
    "text", ["1_000", "١", "１", "0x10", "1,5", "True", "nan", "inf", "", ".", "1 2", "1\n", "9" * 900]
)
def test_what_float_reads_and_a_table_does_not_mean(text: str) -> None:
    assert math.isnan(number_in(text))


def test_a_count_agrees_with_its_noun() -> None:
    assert [counted(n, "class", "classes") for n in (0, 1, 2)] == ["0 classes", "1 class", "2 classes"]
    assert counted(2000, "image") == "2,000 images"
