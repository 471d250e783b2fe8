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


# the tables


def test_tables_are_those_of_the_results() -> None:
    from benchmarks.tables import ALL, README, everything, updated

    assert ALL.read_text(encoding="utf-8") == everything(), "run: python -m benchmarks.tables"
    assert updated(README.read_text(encoding="utf-8")) == README.read_text(encoding="utf-8"), "run the same"


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("file", ["README.md", "results/README.md"])
def test_no_missed_goal_is_shown_as_met(file: str) -> None:
    """Read from the tables as a person would: the numbers that are printed decide."""
    shown = [cells(line) for line in (RESULTS.parent / file).read_text(encoding="utf-8").splitlines()]
    goals = [row for row in shown if len(row) >= 5 and row[2][:1] in ("≤", "≥")]
    assert len(goals) >= 10
    for what, value, goal, met, *_ in goals:
        number, bound = (float(text.split()[0].rstrip("×").replace("−", "-")) for text in (value, goal[2:]))
        assert met == ("met" if (number <= bound if goal[0] == "≤" else number >= bound) else "**missed**"), what


def test_the_readme_has_one_table_of_at_most_ten_goals() -> None:
    from benchmarks.tables import HEADLINES, headlines

    assert len(HEADLINES) <= 10
    assert "**missed**" in headlines()


def test_a_file_that_states_a_missed_goal_as_met_is_not_believed(tmp_path: Path) -> None:
    from benchmarks.tables import everything

    content = record(RESULTS / "training_step_smallest_cpu.json")
    content["goals"][0]["met"] = True
    (tmp_path / "training_step_smallest_cpu.json").write_text(json.dumps(content))
    assert "**missed**" in everything(tmp_path)


def test_a_result_without_rows_of_its_own_is_shown_with_its_goals(tmp_path: Path) -> None:
    from benchmarks.tables import everything

    content = record(RESULTS / "study_overhead_random.json")
    (tmp_path / "new.json").write_text(json.dumps(content))
    assert "## Other" in everything(tmp_path) and "[new](new.json)" in everything(tmp_path)


@pytest.mark.parametrize(
    "value, goal, unit, shown",
    [
        (0.9495867, ">= 0.95", "share", "94.96 %"),
        (1.1591986, "<= 1.15", "×", "1.16×"),
        (1.1504, "<= 1.15", "×", "1.1504×"),
        (13, ">= 13", "of 13", "13 of 13"),
        (0.95, ">= 0.95", "share", "95 %"),
        (383.96, "<= 600", "s", "384 s"),
        (-0.0735, ">= -1.5", "points", "−0.07 points"),
        (24.2226, "<= 40", "ms", "24.2 ms"),
    ],
)
def test_rounding_never_moves_a_value_over_its_goal(value: float, goal: str, unit: str, shown: str) -> None:
    from benchmarks.tables import value_text

    assert value_text(Goal("a figure", value, goal, unit)) == shown
