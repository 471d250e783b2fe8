"""Mutated weights, ONNX metadata, journals and fronts: read as before, or one line that says what is wrong."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.core.architecture_file import Artifact, DataRecord
from nas.core.journal import Journal
from nas.core.references import NO_STUDY
from nas.inference.backends import OnnxBackend
from nas.inference.coco_metrics import NAMES, Metrics
from nas.search.report.front_files import Front, read_front, write_front
from nas.supernet.weights import load_detector, save_detector
from search_spaces.spaces import SPACES
from tests._candidates import candidates
from tests._fuzz import bounded, json_bytes, json_mutations, mutations
from tests.nas.inference.test_onnx_files import METADATA, SIDE, detector, write

COUNT = 300


def text_of(value: bytes) -> str:
    """Metadata of safetensors and ONNX is text."""
    return value.decode("utf-8", "replace").replace("\0", "\\0")


@pytest.mark.parametrize("kind", ["bytes", "entries"])
def test_metadata_of_weights(kind: str, tmp_path: Path) -> None:
    space = SPACES["yolo-universal-nano"]  # its smallest network has the fewest tensors
    artifact = Artifact("S", space.smallest, (), NO_STUDY, ("a", "b"), DataRecord("d", "0"))
    metrics = dict.fromkeys(NAMES, 0.5) | {"per_class": {"a": 0.5}, "map_interval": [0.4, 0.6]}
    path = save_detector(tmp_path / "S.safetensors", space.build(space.smallest, 2), artifact, {"metrics": metrics})
    fields = {"artifact": artifact.to_dict(), "record": {"metrics": metrics, "data": "0"}}
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    places = json.loads(content[8:end])
    read = 0
    for i in range(COUNT // 2):
        seed = random.Random(i)
        key = seed.choice(list(fields))
        if kind == "bytes":
            (text,) = mutations(json.dumps(fields[key]).encode(), 1, seed=i)
        else:
            text = json_bytes(next(json_mutations(fields[key], 1, seed=i)))
        header = {k: json.dumps(v) for k, v in fields.items()} | {key: text_of(text)}
        metadata = {"format": "1", "kind": "detector", **header}
        head = json.dumps({**places, "__metadata__": metadata}).encode()
        path.write_bytes(len(head).to_bytes(8, "little") + head + content[end:])
        with bounded():
            record = load_detector(path)[2]
            Metrics.from_dict(record.get("metrics"), str(path))
            read += 1
    assert COUNT // 50 < read < COUNT // 2, "mutations that spoil nothing, or everything, test nothing"


@pytest.mark.parametrize("key", list(METADATA))
def test_metadata_of_onnx_files(key: str, tmp_path: Path) -> None:
    for i, text in enumerate(mutations(METADATA[key].encode(), COUNT // len(METADATA), seed=1)):
        path = write(tmp_path / f"{i}.onnx", detector(), {**METADATA, key: text_of(text)})
        with bounded():
            boxes, scores = OnnxBackend(path, "cpu").run(np.zeros((1, 3, SIDE, SIDE), np.float32))
            assert boxes.shape[-1] == 4 and scores.shape[-1] == 2


def test_bytes_of_onnx_files(tmp_path: Path) -> None:
    content = write(tmp_path / "x.onnx", detector()).read_bytes()
    for changed in mutations(content, COUNT, seed=2):
        (tmp_path / "x.onnx").write_bytes(changed)
        with bounded(mib=1000):
            OnnxBackend(tmp_path / "x.onnx", "cpu").run(np.zeros((1, 3, SIDE, SIDE), np.float32))


def test_lines_of_journals(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "x.jsonl")
    journal.start({"version": 1, "settings": {"seed": 3, "models": {"a": "b"}}})
    for i in range(20):
        journal.append({"i": i, "values": [i / 3, None, "text ä"]})
    content = journal.path.read_bytes()
    assert len(journal.read()) == 21
    for changed in mutations(content, COUNT, seed=3):
        journal.path.write_bytes(changed)
        with bounded():
            assert all(isinstance(line, dict) for line in journal.read())


@pytest.mark.parametrize("kind", ["bytes", "entries"])
def test_fronts(kind: str, tmp_path: Path) -> None:
    pool = candidates(8)
    write_front(tmp_path, Front((), tuple(pool), (("S", pool[0].id),), 0.5, (1.0, 2.0)))
    path = tmp_path / "front.json"
    content = path.read_bytes()
    changes = (
        mutations(content, COUNT, seed=4)
        if kind == "bytes"
        else map(json_bytes, json_mutations(json.loads(content), COUNT, seed=4))
    )
    for changed in changes:
        path.write_bytes(changed)
        with bounded():
            read_front(path)


def test_one_bit_of_weights(tmp_path: Path) -> None:
    """A mutated file is read, or refused; finite weights are what is read."""
    space = SPACES["yolo-nano"].restrict({c.name: c.values[:1] for c in SPACES["yolo-nano"].choices})
    artifact = Artifact("S", space.smallest, (), NO_STUDY, ("a",), DataRecord("d", "0"))
    path = save_detector(tmp_path / "S.safetensors", space.build(space.smallest, 1), artifact, {})
    content = path.read_bytes()
    for changed in mutations(content, 60, seed=5):
        path.write_bytes(changed)
        with bounded():
            detector_, _, _ = load_detector(path)
            assert all(bool(torch.isfinite(t).all()) for t in detector_.state_dict().values() if t.is_floating_point())
