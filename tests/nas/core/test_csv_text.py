"""Names from outside in tables: no formula of a spreadsheet, no control character, numbers exact."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from nas.core.atomic import naming
from nas.core.csv_text import csv_text
from nas.core.estimate import Candidate, Estimate
from nas.evaluation.report import ClassRow
from nas.evaluation.report_tables import class_csv
from nas.search.report.front_files import front_csv
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.text import is_formula, json_text, printable

NAMES = (
    "=1+1",
    "+1,2",
    "-2\ttab",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1+1",
    "\x1b[31mred",
    "a\nb",
    "\x9b2J",
    "\u202ex",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_neither_a_formula_nor_a_control_sequence(name: str) -> None:
    row = ClassRow(name, 0.5, 0.5, None, None, None, 1, 1, 0.5, 0.5, 0.5, 0.5)
    candidate = Candidate(Architecture("=space", 1, (("block", name),)), (Estimate("latency_ms", -1.5, target=name),))
    for text in (
        csv_text([name, "n"], [{name: name, "n": -1.5}]),
        class_csv((row,)),
        front_csv([candidate], {name: candidate.id}),
    ):
        lines = list(csv.reader(io.StringIO(text)))
        assert len(lines) == 2 and printable(text, keep="\n") == text
        assert not [cell for line in lines for cell in line if is_formula(cell)]
        assert printable(name, keep="\n") in [cell.removeprefix("'") for cell in lines[1]]


def test_numbers_stay_numbers() -> None:
    assert csv_text(["a", "b", "c"], [{"a": -0.1, "b": "-0.1", "c": "+1e-3"}], header=False) == "-0.1,-0.1,+1e-3\n"
    assert [text for text in ("-1", "+.5", "-inf", "x=1", "", "1-1") if is_formula(text)] == []


def test_json_is_printable_and_reads_back() -> None:
    content = {name: [name, "\udce9.jpg", "é", "日本"] for name in NAMES}
    text = json_text(content, indent=1)
    assert json.loads(text) == content and text.encode() and "é" in text
    assert printable(text, keep="\n") == text


def test_an_error_about_a_temporary_file_names_the_file_of_the_user() -> None:
    final, temporary = Path("out/S\x1b.onnx"), Path("/tmp/x/.S\x1b.onnx.12.unchecked")
    for text in (f"{temporary} cannot be written", f"boxes of {temporary.name} are not finite"):
        with pytest.raises(InputError) as caught, naming(final, temporary):
            raise InputError(text)
        assert "unchecked" not in str(caught.value) and "S\\x1b.onnx" in str(caught.value)
