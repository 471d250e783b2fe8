"""Published weights by name: a record of each original network's names, shapes and outputs, imported and compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.pretrained.convert import import_weights
from nas.supernet.weights import load_detector
from tests._published import CLASSES, RECORDED, image, sampled, state_of

RECORDS = sorted(RECORDED.glob("*.json"))
BOXES_WITHIN, SCORES_WITHIN = 2e-2, 1e-4
"""Pixels of a box whose sides are sums over 16 bins times a stride of up to 32, and shares."""


def saved(record: dict[str, Any], folder: Path, name: str) -> Path:
    """A checkpoint with the record's tensors, as ``torch.save`` of a state dict writes it."""
    state = dict(state_of(record)) | {n: torch.tensor(v) for n, v in record["constants"].items()}
    path = folder / f"{name}.pt"
    torch.save({"model": state}, path)
    return path


@pytest.mark.parametrize("path", RECORDS, ids=lambda p: p.stem)
def test_outputs_equal_those_of_the_original(path: Path, tmp_path: Path) -> None:
    record = json.loads(path.read_text())
    out = tmp_path / "imported.safetensors"
    done = import_weights(saved(record, tmp_path, path.stem), out, accept_licence=True)
    assert done.reference == path.stem
    detector, artifact, header = load_detector(out)
    assert (artifact.name, artifact.num_classes) == (path.stem, CLASSES)
    assert header["imported"]["licence"] == done.licence
    with torch.no_grad():
        boxes, scores = detector.predict(image())
    found = sampled(boxes[0], scores[0])
    for name, within in (("boxes", BOXES_WITHIN), ("scores", SCORES_WITHIN)):
        expected = torch.tensor(record["outputs"][name])
        assert torch.tensor(found[name]).shape == expected.shape
        assert (torch.tensor(found[name]) - expected).abs().max() < within, name


def test_the_records_hold_every_map() -> None:
    from nas.pretrained.families import WEIGHT_MAPS
    from search_spaces.references import references

    families = {references()[path.stem].family for path in RECORDS}
    without = [name for name in WEIGHT_MAPS if not families & set(WEIGHT_MAPS[name].references)]
    assert without == ["yolov7"]  # its package builds no network without a configuration of its own
