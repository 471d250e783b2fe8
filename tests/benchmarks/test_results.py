"""Every result names its goals in one form, and what is written as met was met."""

from __future__ import annotations

import json
import math
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from benchmarks.record import RESULTS, Goal

FILES = sorted(RESULTS.glob("*.json"))


def record(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_goals_of_a_result(path: Path) -> None:
    content = record(path)
    assert [set(goal) for goal in content["goals"]] == [{"what", "value", "unit", "goal", "met"}] * len(
        content["goals"]
    )
    for goal in content["goals"]:
        sign, bound = goal["goal"].split()
        assert goal["met"] is {"<=": goal["value"] <= float(bound), ">=": goal["value"] >= float(bound)}[sign]


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_goals_are_those_of_the_benchmark(path: Path) -> None:
    """A benchmark with goals computes them from its figure, so that a file cannot state others."""
    content = record(path)
    found = re.search(r"benchmarks\.\w+", content["command"])
    assert found is not None
    goals_of: Any = getattr(import_module(found[0]), "goals_of", lambda figure: [])
    assert content["goals"] == json.loads(json.dumps([goal.to_dict() for goal in goals_of(content["figure"])]))


def test_missed_goals_are_there() -> None:
    """Not everything was reached; a table of met goals only would be a wrong one."""
    assert not all(goal["met"] for path in FILES for goal in record(path)["goals"])


@pytest.mark.parametrize(
    "value, goal, met",
    [
        (1.15, "<= 1.15", True),
        (1.1501, "<= 1.15", False),
        (0.95, ">= 0.95", True),
        (0.9496, ">= 0.95", False),
        (math.nan, "<= 1", False),
        (math.nan, ">= 1", False),
    ],
)
def test_met(value: float, goal: str, met: bool) -> None:
    assert Goal("a figure", value, goal).met is met


@pytest.mark.parametrize("goal", ["1.15", "< 1", "=> 1", "<= few", ""])
def test_a_goal_of_another_form_is_refused(goal: str) -> None:
    with pytest.raises(ValueError, match="expected|convert"):
        Goal("a figure", 1.0, goal)
