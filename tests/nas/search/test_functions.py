"""Searching from Python: the example of the documentation, failures, resuming."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nas.search.api import Bound, Function, search
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from tests._fakes import numbers_of, tiny_space

SPACE = tiny_space()
COST, GAIN = (
    Function("cost", lambda a: numbers_of(a)[0], "min", "ms"),
    Function("gain", lambda a: numbers_of(a)[1], "max", rank=1),
)


def test_the_example_of_the_documentation_runs() -> None:
    page = (Path(__file__).parents[3] / "docs" / "python.md").read_text()
    found = re.search(r"```python\n(from nas.search.api.*?)```", page, re.DOTALL)
    assert found
    program = found[1].replace("trials=30", "trials=6")  # each is traced twice
    assert program != found[1]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines and all(re.fullmatch(r"[0-9a-f]{12} macs \S+ params \S+ accuracy \S+", line) for line in lines)


def test_any_callable_is_searched_and_the_same_call_goes_on(tmp_path: Path) -> None:
    study = search(SPACE, [COST, GAIN], 10, sampler="random", storage=tmp_path / "study.journal")
    assert len(study.candidates) == 10 and study.archive.front
    asked: list[Architecture] = []
    counting = Function("gain", lambda a: asked.append(a) or numbers_of(a)[1], "max", rank=1)  # type: ignore[func-returns-value]
    again = search(SPACE, [COST, counting], 14, sampler="random", storage=tmp_path / "study.journal")
    assert len(again.candidates) == 14 and len(asked) == 4


def test_one_objective_bounds_and_failures() -> None:
    def sometimes(architecture: Architecture) -> float:
        if architecture["width"] == SPACE["width"].values[0]:
            raise ValueError("too narrow")
        return numbers_of(architecture)[1]

    study = search(
        SPACE,
        [Function("gain", sometimes, "max", rank=1)],
        40,
        others=[COST],
        bounds=[Bound("cost", True, 1.6)],
        sampler="random",
    )
    said = [message for _, message in study.failures]
    assert "ValueError: too narrow" in said and any("violates cost <= 1.6" in m for m in said)
    assert study.candidates and all(c["cost"].value <= 1.6 for c in study.candidates)


def test_what_cannot_be_is_one_line() -> None:
    with pytest.raises(InputError, match="min or max"):
        Function("gain", lambda a: 0.0, "up")
    with pytest.raises(InputError, match="objective or bound on 'size'"):
        search(SPACE, [COST], 3, bounds=[Bound("size", True, 1.0)])
