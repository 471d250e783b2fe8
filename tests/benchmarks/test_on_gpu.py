"""The GPU script: order, time limits, results at once; its commands exist; steps run in a rehearsal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import on_gpu
from benchmarks.on_gpu import STEPS, Setting, Step, run_all
from latency_db.core.target import Target
from nas.cli import VERBS, parser_of


def steps(*limits: float) -> list[Step]:
    return [Step(f"s{i}", limit, lambda setting: None, f"step {i}") for i, limit in enumerate(limits)]


def fake(tmp_path: Path, body: str) -> list[str]:
    """A command in the place of a step's process; ``name`` is the step's, ``out`` the folder."""
    script = tmp_path / "fake.py"
    script.write_text(f"import json, os, sys, time\nname, out = sys.argv[-1], {str(tmp_path / 'out')!r}\n{body}\n")
    return [sys.executable, str(script)]


def test_results_are_written_at_once_and_a_failure_stops_nothing(tmp_path: Path) -> None:
    setting = Setting(tmp_path / "out", "digits", True)
    setting.out.mkdir()
    body = """
assert "--rehearse" in sys.argv and "--step" in sys.argv
if name == "s1": sys.exit("no such device")
open(f"{out}/{name}.json", "w").write(json.dumps({"result": name}))
if name == "s2":
    earlier = json.load(open(f"{out}/s1.json"))
    assert earlier["state"] == "failed" and "no such device" in earlier["last_lines"][-1]
"""
    records = run_all(setting, 1.0, steps(20, 20, 20), fake(tmp_path, body))
    assert [r["state"] for r in records] == ["done", "failed", "done"]
    assert json.loads((setting.out / "s0.json").read_text())["result"] == "s0"
    assert "| s1 | step 1 | failed |" in (setting.out / "summary.md").read_text()


def test_a_step_ends_at_its_limit_with_its_children_and_keeps_what_it_wrote(tmp_path: Path) -> None:
    setting = Setting(tmp_path / "out", "digits", True)
    setting.out.mkdir()
    body = """
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(f"{out}/child", "w").write(str(child.pid))
open(f"{out}/s0.json", "w").write(json.dumps({"result": "half"}))
time.sleep(60)
"""
    (record,) = run_all(setting, 1.0, steps(1.0), fake(tmp_path, body))
    assert record["state"] == "out of time" and record["seconds"] < 20
    kept = json.loads((setting.out / "s0.json").read_text())
    assert kept["result"] == "half" and kept["state"] == "out of time"
    child = Path("/proc") / (setting.out / "child").read_text() / "stat"
    assert not child.exists() or child.read_text().split()[2] == "Z"


def test_what_the_time_does_not_admit_is_skipped_by_name(tmp_path: Path) -> None:
    setting = Setting(tmp_path / "out", "digits", True)
    setting.out.mkdir()
    records = run_all(setting, 0.1, steps(60, 60), fake(tmp_path, ""))
    assert [r["state"] for r in records] == ["skipped", "skipped"] and "s left" in records[0]["why"]


@pytest.mark.parametrize("rehearse", [False, True])
def test_every_command_and_target_exists(rehearse: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    targets: list[str] = []

    def call(words: list[str], expected: tuple[int, ...] = (0,)) -> dict[str, Any]:
        seen.append(words)
        return {}

    monkeypatch.setattr(on_gpu, "call", call)
    monkeypatch.setattr(on_gpu, "bench", lambda setting, names, target, *rest: targets.append(setting.target(target)))
    monkeypatch.setattr(on_gpu, "_cuda_in_torch", lambda: {"devices": ["a", "b"]})
    setting = Setting(tmp_path, "digits", rehearse)
    for step in STEPS:
        if step.name not in ("versions", "repeatability"):
            step.do(setting)
    lines = [words[words.index("nas") + 1 :] for words in seen if "nas" in words]
    assert {line[0] for line in lines} == {"search", "certify", "train", "quantize"} <= set(VERBS)
    for line in lines:
        parser_of(line[0]).parse_args(line[1:])
    for text in targets:
        assert str(Target.parse(text)) and (not rehearse or Target.parse(text).device == "cpu")
    assert sum(step.limit_s for step in STEPS[:6]) <= 12 * 60


def test_a_step_of_the_rehearsal_runs(tmp_path: Path) -> None:
    setting = Setting(tmp_path, "digits@64:train=24,val=16", True)
    chosen = [step for step in STEPS if step.name == "repeatability"]
    records = run_all(setting, 3.0, chosen)
    assert [r["state"] for r in records] == ["done"], records
    assert len(json.loads((tmp_path / "repeatability.json").read_text())["result"]["ms"]) == 2


@pytest.mark.slow
def test_the_whole_rehearsal(tmp_path: Path) -> None:
    records = run_all(Setting(tmp_path, "digits@64:train=24,val=16", True), 5.0)
    assert [r["step"] for r in records if r["state"] != "done"] == [], records
