"""The table of int8 figures: a seed more, without the weights of the others."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import quantization, record


def report(drop: float) -> dict[str, Any]:
    """Of one mode on one model, as ``nas quantize`` writes it."""
    side = {"metrics": {"map": 0.5}, "latency": {"value": 2.0}, "bytes": 400}
    speed = {"value": 1.5, "low": 1.4, "high": 1.6}
    return {
        "float": side,
        "quantized": side,
        "speed_up": speed,
        "drop": drop,
        "evaluated_in": "openvino",
        "left_float": [],
        "others": [],
    }


def test_a_seed_that_is_not_run_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (record, quantization):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(quantization, "open_training_data", lambda *_: SimpleNamespace(name="digits@96"))
    monkeypatch.setattr(
        quantization, "quantized", lambda mode, weights, out, args, target, data, seed: report(0.1 * (seed + 1))
    )
    (tmp_path / "weights").touch()
    common = [
        "quantization",
        str(tmp_path / "out"),
        "--data",
        "digits",
        "--modes",
        "ptq",
        "--model",
        f"S={tmp_path / 'weights'}",
    ]
    monkeypatch.setattr("sys.argv", [*common, "--seeds", "0"])
    quantization.main()
    monkeypatch.setattr("sys.argv", [*common, "--seeds", "1", "--keep"])
    quantization.main()
    written = json.loads((tmp_path / "quantization_digits_openvino.json").read_text())
    found = written["figure"]["targets"]["openvino:int8"]["ptq"]
    assert written["seeds"] == [0, 1] and list(found["models"]) == ["S, seed 0", "S, seed 1"]
    assert found["drop"] == pytest.approx(0.15) and found["worst_drop"] == pytest.approx(0.2)
