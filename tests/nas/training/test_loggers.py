"""Logs of a training: every report once, also after a kill; the extras where they are installed."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from nas.core.training_progress import Progress
from nas.training.loggers import LOGGERS, Logged
from nas.training.logging_config import LoggingConfig
from search_spaces.errors import InputError


def report(step: int, metrics: dict[str, float] | None = None, **terms: float) -> Progress:
    return Progress(step, 100, step // 20, {"cls": 1 / step, **terms}, 1e-3, 123.4, 2048.0, metrics or {})


def rows(weights: Path) -> list[dict[str, str]]:
    with weights.with_suffix(".log.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_report_is_a_row(tmp_path: Path) -> None:
    weights, shown = tmp_path / "S.safetensors", list[Progress]()
    with Logged(shown.append, (), weights, {}) as logged:
        assert not weights.with_suffix(".log.csv").exists()
        for step in (10, 20, 30):
            logged(report(step, {"map": 0.25, "map50": 0.5} if step == 20 else None))
    assert [p.step for p in shown] == [10, 20, 30]
    found = rows(weights)
    assert list(found[0]) == ["step", "epoch", "cls", "lr", "images_per_s", "memory_mib", "val_map", "val_map50"]
    assert [r["val_map"] for r in found] == ["", "0.25", ""] and [r["epoch"] for r in found] == ["0", "1", "1"]
    assert found[0] == {
        "step": "10",
        "epoch": "0",
        "cls": "0.1",
        "lr": "0.001",
        "images_per_s": "123.4",
        "memory_mib": "2048",
    } | {
        "val_map": "",
        "val_map50": "",
    }


def test_a_resumed_training_goes_on_without_a_step_twice(tmp_path: Path) -> None:
    weights = tmp_path / "S.safetensors"
    with Logged(lambda p: None, (), weights, {}) as logged:
        for step in (10, 20, 30, 40):
            logged(report(step))
    path = weights.with_suffix(".log.csv")
    path.write_text(path.read_text() + "50,2,0.0")  # torn by the kill
    with Logged(lambda p: None, (), weights, {}) as logged:  # from a checkpoint of step 25
        for step in (30, 40, 50):
            logged(report(step, dfl=2.0))
    assert [(r["step"], r["dfl"]) for r in rows(weights)] == [
        ("10", ""),
        ("20", ""),
        ("30", "2"),
        ("40", "2"),
        ("50", "2"),
    ]
    with Logged(lambda p: None, (), weights, {}) as logged:  # from the beginning
        logged(report(10))
    assert [r["step"] for r in rows(weights)] == ["10"]


def test_a_file_that_is_no_log_is_left_alone(tmp_path: Path) -> None:
    weights = tmp_path / "S.safetensors"
    weights.with_suffix(".log.csv").write_text("name,price\napple,3\n")
    with (
        Logged(lambda p: None, (), weights, {}) as logged,
        pytest.raises(InputError, match="no log of a training; .*move it away"),
    ):
        logged(report(10))
    assert weights.with_suffix(".log.csv").read_text() == "name,price\napple,3\n"


@pytest.mark.parametrize("name", [n for n in LOGGERS if n != "csv"])
def test_a_missing_library_is_said_before_training(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("torch.utils.tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"--logger {name}: .*pip install 'hw-nas-yolo\[{name}\]'"):
        Logged(lambda p: None, (name,), tmp_path / "S.safetensors", {})
    assert not list(tmp_path.iterdir())


def test_unknown_loggers_and_impossible_wishes_are_refused() -> None:
    with pytest.raises(InputError, match="unknown logger 'tensorbord'.*did you mean 'tensorboard'"):
        LoggingConfig(("tensorbord",))
    with pytest.raises(InputError, match="expected 1 or more to keep the best"):
        LoggingConfig(keep_best=True)


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    weights = tmp_path / "S.safetensors"
    for steps in ((10, 20, 30), (20, 30)):
        with Logged(lambda p: None, ("tensorboard",), weights, {}) as logged:
            for step in steps:
                logged(report(step))
    events = EventAccumulator(str(weights.with_suffix(".tensorboard")))
    events.Reload()
    assert [e.step for e in events.Scalars("cls")] == [10, 20, 30]


def test_wandb_stays_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    weights = tmp_path / "S.safetensors"
    with Logged(lambda p: None, ("wandb",), weights, {"lr": 1e-3}) as logged:
        logged(report(10))
    assert list(weights.with_suffix(".wandb").glob("wandb/offline-run-*/*.wandb"))
