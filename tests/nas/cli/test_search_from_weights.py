"""``nas search --init``: the space follows from the weights, the detector is the first candidate, the front is usable."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

import nas
from latency_db.core.profiler import Protocol
from nas.cli import main
from nas.cli.options import add_recipe, recipe
from nas.supernet.weights import load_detector
from nas.training.recipe import FROM_TRAINED
from tests._progress import recorded
from tests.nas.training.test_supernet_initialization import saved

DATA = "digits@64:train=32,val=8"


BRIEF = Protocol(min_rounds=3, max_rounds=6, half_width=0.2, max_s=1.0, warmup_s=0.1)
"""Latencies to a coarse interval: the values are no matter here."""


def test_a_search_from_weights_and_what_is_extracted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.estimators.latency.FINALIST", BRIEF)
    monkeypatch.setattr("latency_db.core.profiler.SEARCHING", BRIEF)
    reporter = recorded(monkeypatch)
    init, run = saved("yolov8n", tmp_path), tmp_path / "run"
    options = ["--epochs", "1", "--batch-size", "16", "--trials", "2", "--latency-db", str(tmp_path / "db.sqlite")]
    search = ["search", "--init", str(init), "--data", DATA, "--fix", "image_size=96", *options, "--out", str(run)]
    assert main(search) == 0
    settings = json.loads((run / "run.json").read_text())
    assert settings["space"] == "yolo-universal-nano"
    assert settings["seeded"] == ["yolov8n"]
    assert settings["fixed"]["stage4_out"] == [64, 128, 256]
    assert settings["recipe"].items() >= FROM_TRAINED.items()
    names = list(json.loads((run / "front.json").read_text())["chosen"])
    assert main(["extract", str(run), names[0]]) == 0
    assert "without further training" in capsys.readouterr().out
    _, artifact, record = load_detector(run / f"{names[0]}.safetensors")
    assert artifact.architecture.space == "yolo-universal-nano"
    assert "map" in record["metrics"] and len(record["metrics"]["map_interval"]) == 2
    kept = (run / f"{names[0]}.safetensors").read_bytes()
    assert main(["train", str(run / f"{names[0]}.json"), "--data", DATA, "--epochs", "1", "--init", "supernet"]) == 2
    assert "taken from a supernet without further training" in capsys.readouterr().err
    assert (run / f"{names[0]}.safetensors").read_bytes() == kept
    reporter.check("supernet", "checking the ranking", "search", "measuring the chosen again, each in a fresh process")
    reporter.check(f"calibrate BatchNorm of {names[0]}", f"evaluate {names[0]}")


def test_values_of_a_trained_start_have_no_precedence_over_given_ones(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_recipe(parser, None)
    for given, expected in (
        ([], FROM_TRAINED),
        (["--lr", "0.02"], {**FROM_TRAINED, "lr": 0.02}),
        (["--set", "largest_first=0.7"], {**FROM_TRAINED, "largest_first": 0.7}),
        (["--recipe", "fast"], {**FROM_TRAINED, "lr": 1e-2}),
    ):
        assert recipe(parser.parse_args(given), FROM_TRAINED).to_dict().items() >= expected.items()
    init = str(saved("yolov8n", tmp_path))
    for options, lr in (({"init": init}, 4e-3), ({"init": init, "recipe": {"lr": 0.02}}, 0.02)):
        assert nas.Search(data=DATA, space="yolo-universal-nano", options=options).settings().recipe["lr"] == lr


@pytest.mark.parametrize(
    "more, words",
    [
        (["--supernet", "x.safetensors"], "--init with --supernet"),
        (["--space", "yolo-nas"], "no point of yolo-nas"),
        (["--fix", "act=relu"], "act"),
        (["--fix", "colour=red"], "colour"),
    ],
)
def test_what_does_not_fit_is_one_line(
    more: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init = saved("yolov8n", tmp_path)
    assert main(["search", "--init", str(init), "--data", DATA, *more, "--out", str(tmp_path / "run")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert words in lines[0]
    assert not (tmp_path / "run").exists()
