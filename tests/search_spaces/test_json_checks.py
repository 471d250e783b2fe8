"""JSON from outside: bounded, strict, typed; every refusal is one line that names the file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search_spaces.errors import InputError
from search_spaces.json_checks import MAX_DEPTH, MAX_DIGITS, JsonObject, check_fields, parse_json, read_json


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "not JSON"),
        ("{", "not JSON .* at line 1 column 2"),
        (b"\xff", "not UTF-8"),
        ("NaN", "NaN is not a JSON number"),
        ("[-Infinity]", "-Infinity is not a JSON number"),
        ("1e999", "'1e999' is not a finite number"),
        ("[" + "9" * (MAX_DIGITS + 1) + "]", f"a number of {MAX_DIGITS + 1} digits"),
        ("0." + "0" * MAX_DIGITS + "1", "a number of .* digits"),
        (nested(MAX_DEPTH + 2), f"nested deeper than {MAX_DEPTH}"),
        (nested(100_000), "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"a": 1, "a": 2}', "key 'a' appears twice"),
        (r'"\ud800"', "not Unicode text"),
        (r'{"\udc00": 1}', "not Unicode text"),
        ("[1] x", "Extra data"),
    ],
)
def test_what_is_refused_is_one_line_that_names_the_place(text: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_json(text, "S.onnx: classes", "export it again")
    assert str(caught.value).startswith("S.onnx: classes: ") and str(caught.value).endswith("export it again")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "value", [None, True, -1, 0.1, 5e-324, 1.7e308, 10**300, "ä\n", [], {}, {"a": [1, {"b": None}]}]
)
def test_what_json_writes_is_read_back(value: object) -> None:
    assert parse_json(json.dumps(value), "x") == value
    assert parse_json(nested(MAX_DEPTH), "x")


def test_names_of_files_that_are_not_utf8_are_read_back() -> None:
    name = os.fsdecode(b"z\xe9.jpg")
    assert parse_json(json.dumps({name: name}), "x") == {name: name}


def test_a_text_over_the_bound_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(InputError, match="more than 10 bytes"):
        parse_json("[" * 11, "x", max_bytes=10)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda p: None, "does not exist"),
        (lambda p: p.mkdir(), "is a folder"),
        (lambda p: os.mkfifo(p), "no regular file"),
        (lambda p: p.symlink_to("/dev/zero"), "no regular file"),
        (lambda p: p.write_bytes(b" " * 2000), "larger than 1000 bytes"),
    ],
)
def test_only_regular_files_of_bounded_size_are_read(
    make: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    make(tmp_path / "x.json")
    with pytest.raises(InputError, match=message) as caught:
        read_json(tmp_path / "x.json", max_bytes=1000)
    assert str(caught.value).startswith(f"{tmp_path / 'x.json'}: ")


def test_a_path_that_is_none_is_one_line() -> None:
    with pytest.raises(InputError, match="is no path"):
        read_json("a\0b")


GETTERS: list[tuple[Callable[[JsonObject], object], list[Any], list[Any]]] = [
    (lambda o: o.text("x"), ["", "a"], [None, 1, ["a"], {}]),
    (lambda o: o.integer("x"), [0, -(10**30)], [None, 1.0, True, "1", []]),
    (lambda o: o.integer("x", 1, 5), [1, 5], [0, 6]),
    (lambda o: o.number("x"), [0, -1.5], [None, True, "1", float("nan"), float("inf"), 10**400]),
    (lambda o: o.number("x", 0, 1), [0, 1, 0.5], [-0.1, 1.1]),
    (lambda o: o.boolean("x"), [True, False], [0, 1, None, "true"]),
    (lambda o: o.array("x"), [[], [1]], [{}, "ab", None]),
    (lambda o: o.texts("x"), [[], ["a"]], [["a", 1], ["a", None], "ab"]),
    (lambda o: o.object("x"), [{}, {"a": 1}], [[], None, "x"]),
    (lambda o: list(o.objects("x")), [[], [{}]], [[1], [None], {}]),
]


@pytest.mark.parametrize("getter, good, bad", GETTERS)
def test_getters_check_the_type(getter: Callable[[JsonObject], object], good: list[Any], bad: list[Any]) -> None:
    for value in good:
        found = getter(JsonObject({"x": value}, "f.json: record"))
        assert not isinstance(value, (str, int, float)) or found == value
    for value in bad:
        with pytest.raises(InputError, match=r"^f\.json: record: x") as caught:
            getter(JsonObject({"x": value}, "f.json: record"))
        assert len(str(caught.value)) < 200
    with pytest.raises(InputError, match="^f.json: record lacks x$"):
        getter(JsonObject({}, "f.json: record"))


def test_has_tells_missing_and_null_from_values() -> None:
    given = JsonObject.of({"a": None, "b": 0}, "f")
    assert [given.has(key) for key in "abc"] == [False, True, False]
    with pytest.raises(InputError, match="f is 'text'; expected a JSON object"):
        JsonObject.of("text", "f")


def test_places_nest() -> None:
    inner = next(JsonObject.of({"a": {"b": [{"c": 1}]}}, "f.json").object("a").objects("b"))
    with pytest.raises(InputError, match=r"^f\.json: a: b\[0\]: c is 1; expected a JSON string$"):
        inner.text("c")


def test_errors_of_hostile_values_are_bounded() -> None:
    huge = {f"k\x1b{i}": "v" * 10**6 for i in range(50)}
    with pytest.raises(InputError) as caught:
        check_fields({"name": 1, **huge}, ("name",), "record")
    assert len(str(caught.value)) < 500 and "\x1b" not in str(caught.value)
