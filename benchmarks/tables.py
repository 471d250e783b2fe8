"""Writes ``results/README.md`` and the results table of the README from ``results/*.json``.

``python -m benchmarks.tables``

Both come from the recorded figures and goals alone; a test fails when either is out of date.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, Goal
from benchmarks.result_rows import THEMES
from benchmarks.result_rows.form import Rows, nothing
from nas.core.atomic import atomic_write

README = RESULTS.parent / "README.md"
ALL = RESULTS / "README.md"
BEGIN, END = "<!-- results: written by python -m benchmarks.tables -->\n", "<!-- end of results -->\n"
OTHER = "Other"

HEADLINES = (
    ("quickstart", "make quickstart", "`make quickstart` on two CPU cores"),
    ("search_end_to_end", "evaluations until", "evaluations to reach the hypervolume of NSGA-II after 60"),
    ("against_references", "dominated", "width-scaled references dominated by searched networks, `digits@96`"),
    ("supernet_fidelity", "tau", "Kendall's tau of the supernet's ranking with separate training"),
    (
        "pretrained_gain_bccd",
        "L on",
        "L on BCCD: mAP50-95 gained by a start from published weights, through the supernet",
    ),
    ("measure_repeatability", "reported time", "repeatability of `nas measure`, half range"),
    (
        "latency_predictor_measured",
        "onnxruntime:fp32: unseen",
        "unseen networks predicted within ±10 % of their latency",
    ),
    ("training_step_smallest_cpu", "step", "training step over a plain step, smallest network"),
    ("quantization_digits_openvino", "openvino:int8, post-training: change", "post-training int8, change of mAP"),
    ("quantization_digits_openvino", "openvino:int8, post-training: speed-up", "post-training int8, speed-up"),
)
"""Rows of the README: result, a part of the goal's ``what``, and how the README calls it."""


def records(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Read every result, by its name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def goal_of(entry: Mapping[str, Any]) -> Goal:
    """Return a goal as a value; what the file states as met counts for nothing."""
    return Goal(entry["what"], entry["value"], entry["goal"], entry["unit"])


def number(value: float, unit: str, digits: int = 3) -> str:
    """Format a number with its unit; a ``share`` in percent."""
    if unit == "share":
        value, unit = 100 * value, "%"
    text = f"{value:d}" if isinstance(value, int) else f"{value:.{digits}g}"
    if "e" in text:
        text = f"{value:.0f}"
    if unit == "points":
        text = f"{value:+.2f}"
    text = text.replace("-", "−")
    return text + ("" if not unit else unit if unit == "×" else f" {unit}")


def value_text(goal: Goal) -> str:
    """Format the value with so many digits that rounding does not move it over the goal."""
    for digits in range(3, 16):
        text = number(goal.value, goal.unit, digits)
        rounded = float(text.split()[0].rstrip("×").replace("−", "-")) / (100 if goal.unit == "share" else 1)
        if Goal(goal.what, rounded, goal.goal).met is goal.met:
            break
    return text


def goal_text(goal: Goal) -> str:
    """``≤ 1.15×``"""
    unit = "" if goal.unit.startswith("of ") else goal.unit
    bound = int(goal.bound) if goal.bound == int(goal.bound) and unit not in ("share", "points") else goal.bound
    return f"{'≤' if goal.goal.startswith('<=') else '≥'} {number(bound, unit)}"


def met_text(goal: Goal) -> str:
    """``met`` or ``**missed**``."""
    return "met" if goal.met else "**missed**"


def machine_of(record: Mapping[str, Any]) -> str:
    """Describe the machine of a result in one line."""
    machine, versions = record["machine"], record["versions"]
    runtime = f"torch {versions['torch']}" if "torch" in versions else f"runtime {versions['runtime']}"
    special = machine.get("accelerator") or " ".join(machine["flags"])
    return f"{machine['cpu']}, {machine['cores']} cores, {special}; {runtime}"


def everything(folder: Path = RESULTS) -> str:
    """Build ``results/README.md``: one table per theme, a row per figure."""
    found = records(folder)
    known = {name for results in THEMES.values() for name in results}
    themes = {**THEMES, OTHER: {name: (name, nothing) for name in found if name not in known}}
    machines = sorted({machine_of(record) for record in found.values()})
    letters = {machine: chr(ord("A") + i) for i, machine in enumerate(machines)}
    goals = [goal_of(entry) for record in found.values() for entry in record["goals"]]
    lines = [
        "# Results",
        "",
        "Written by `python -m benchmarks.tables` from the JSON files in this folder. A JSON file holds the whole figure, the",
        "command that made it, machine, versions, seeds and date. A goal was set before its figure was measured;",
        f"{sum(g.met for g in goals)} of {len(goals)} goals are met. A figure without a goal has none.",
    ]
    for theme, results in themes.items():
        tables = [
            part
            for name, (title, rows_of) in results.items()
            if name in found and (part := _table(name, title, rows_of, found[name], letters))
        ]
        lines += ["", f"## {theme}", *(line for part in tables for line in part)] if tables else []
    lines += ["", "## Machines", "", *(f"- {letter}: {machine}" for machine, letter in letters.items()), ""]
    return "\n".join(lines)


def _table(name: str, title: str, rows_of: Rows, record: Mapping[str, Any], letters: Mapping[str, str]) -> list[str]:
    where = f"{letters[machine_of(record)]} | [{name}]({name}.json) |"
    goals = [goal_of(entry) for entry in record["goals"]]
    rows = [f"| {g.what} | {value_text(g)} | {goal_text(g)} | {met_text(g)} | {where}" for g in goals]
    rows += [f"| {what} | {value} | | | {where}" for what, value in rows_of(record["figure"])]
    heading = ["", f"### {title[0].upper()}{title[1:]}", "", "| what | value | goal | met? | machine | file |"]
    return [*heading, "|---|---|---|---|---|---|", *rows] if rows else []


def headlines(folder: Path = RESULTS) -> str:
    """Build the table of the README, one row per entry of :data:`HEADLINES`."""
    found = records(folder)
    lines = ["| what | value | goal | met? | figures |", "|---|---|---|---|---|"]
    for name, part, label in HEADLINES:
        goal = next(goal_of(entry) for entry in found[name]["goals"] if part in entry["what"])
        link = f"[{name}](results/{name}.json)"
        lines.append(f"| {label} | {value_text(goal)} | {goal_text(goal)} | {met_text(goal)} | {link} |")
    return "\n".join(lines) + "\n"


def updated(readme: str) -> str:
    """Return the README's text with its table replaced by the current one."""
    before, _, rest = readme.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"the README has no {BEGIN.strip()} … {END.strip()}")
    return before + BEGIN + headlines() + "\n" + END + after


if __name__ == "__main__":
    atomic_write(ALL, everything())
    atomic_write(README, updated(README.read_text(encoding="utf-8")))
