"""The check of an export: it fails for every network that cannot be compared, and a failure leaves no file."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import torch

from nas.export import onnx as export
from nas.export.onnx import TOLERANCE, export_onnx, parity, write_onnx
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES


def detector() -> Detector:
    space = SPACES["yolo-nano"]
    torch.manual_seed(0)
    small = space.restrict({c.name: c.values[:1] for c in space.choices})
    return space.build(small.sample(random.Random(0)), 2).eval().deploy()


@pytest.fixture(scope="module")
def sound() -> Detector:
    return detector()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", [0, -1])
def test_one_weight_that_is_not_finite_fails_the_export(value: float, which: int, tmp_path: Path) -> None:
    broken = detector()
    with torch.no_grad():
        list(broken.parameters())[which].view(-1)[0] = value
    with pytest.raises(InputError, match="not finite"):
        export_onnx(broken, tmp_path / "S.onnx", 96)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_comparison_refuses_outputs_that_are_not_finite(value: float, sound: Detector, tmp_path: Path) -> None:
    broken = detector()
    with torch.no_grad():
        next(broken.parameters()).view(-1)[0] = value
    write_onnx(broken, tmp_path / "broken.onnx", 96)
    write_onnx(sound, tmp_path / "sound.onnx", 96)
    for network, file in ((broken, "broken"), (broken, "sound"), (sound, "broken")):
        with pytest.raises(InputError, match="not finite"):
            parity(network, tmp_path / f"{file}.onnx", 96)
    assert parity(sound, tmp_path / "sound.onnx", 96) <= TOLERANCE


@pytest.mark.parametrize("difference", [1.0, math.nan, math.inf])
def test_a_failed_export_leaves_the_file_before(
    difference: float, sound: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "parity", lambda *_: difference)
    (tmp_path / "S.onnx").write_bytes(b"before")
    with pytest.raises(InputError, match="differs from torch"):
        export_onnx(sound, tmp_path / "S.onnx", 96)
    assert [p.name for p in tmp_path.iterdir()] == ["S.onnx"] and (tmp_path / "S.onnx").read_bytes() == b"before"
