"""Every size of every family against the original package, where it is installed: ``pytest -m interop``.

The originals run in processes of their own: they are development tools, and some of them have modules of one name.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nas.pretrained.convert import import_weights
from nas.supernet.weights import load_detector
from tests._published import ORIGINALS, image, installed, sampled

pytestmark = pytest.mark.interop
ROOT = Path(__file__).resolve().parents[3]
SCORES_WITHIN = 1e-4
BOXES_WITHIN = 1e-4
"""Of a coordinate in pixels, besides the same share of its size: random weights give boxes of 150,000 px."""
UNCOUNTED = ("yolov7", "yolo-nas")
"""Families whose originals count parameters that are none of the network: implicit knowledge and folded branches."""


@pytest.mark.parametrize("name", ORIGINALS)
def test_outputs_and_parameters_equal_those_of_the_original(name: str, tmp_path: Path) -> None:
    if not installed(name):
        pytest.skip(f"{ORIGINALS[name][0]} is not installed")
    call = [sys.executable, "-m", "tests._published", name, "--out", str(tmp_path)]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / f"{name}.json").read_text())
    imported = import_weights(tmp_path / f"{name}.pt", tmp_path / "imported.safetensors", accept_licence=True)
    assert imported.reference == name
    detector, _, _ = load_detector(tmp_path / "imported.safetensors")
    with torch.no_grad():
        boxes, scores = detector.predict(image())
    found = sampled(boxes[0], scores[0])
    for kind, within in (("boxes", BOXES_WITHIN), ("scores", SCORES_WITHIN)):
        expected, given = torch.tensor(record["outputs"][kind]), torch.tensor(found[kind])
        assert given.shape == expected.shape
        worst = ((given - expected).abs() / (1 + (expected.abs() if kind == "boxes" else 0))).max()
        assert worst < within, f"{kind} of {name}: {worst:.1e}"
