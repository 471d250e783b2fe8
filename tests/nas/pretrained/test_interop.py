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
WITHIN = 1e-4
"""Of scores, and of coordinates in pixels."""


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
    detector = load_detector(tmp_path / "imported.safetensors")[0].double()
    with torch.no_grad():
        boxes, scores = detector.predict(image(torch.float64))
    found = sampled(boxes[0], scores[0])
    for kind in ("boxes", "scores"):
        expected, given = (torch.tensor(t[kind], dtype=torch.float64) for t in (record["outputs"], found))
        assert given.shape == expected.shape
        assert expected.std() > WITHIN, f"{kind} of {name} are saturated, and equal whatever the weights are"
        assert (given - expected).abs().max() < WITHIN, f"{kind} of {name}: {(given - expected).abs().max():.1e}"
