"""``torchrun --nproc-per-node 2 -m nas train``: one training, one voice, one set of files."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nas.core import distributed as processes
from nas.core.architecture_file import Artifact, DataRecord, StudyRecord
from nas.core.atomic import atomic_write
from nas.data.source import open_data
from nas.supernet.weights import load_detector
from nas.training.job import ComputeConfig
from nas.training.recipe import Recipe
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES

ROOT = Path(__file__).resolve().parents[3]
DATA = "digits@96:train=8,val=4"


def test_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    data = open_data(DATA)
    smallest = SPACES["yolo-nano"].restrict({"image_size": (96,), "width": (8,)}).smallest
    artifact = Artifact(
        "T", smallest, (), StudyRecord("test", 0, None, 0), data.classes, DataRecord(data.name, data.fingerprint)
    )
    atomic_write(tmp_path / "T.json", json.dumps(artifact.to_dict()))
    words = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "nas",
        "train",
        str(tmp_path / "T.json"),
        "--data",
        DATA,
    ]
    options = [
        "--epochs",
        "1",
        "--batch-size",
        "4",
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--eval-every",
        "1",
        "--keep",
        "best",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words, *options], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("mAP50-95") == 1 and "written: " in done.stdout
    there = {p.name for p in tmp_path.iterdir()} - {"cache"}
    assert there == {"T.json", "T.safetensors", "T.metrics.json", "T.log.csv", "T.best.safetensors"}
    with (tmp_path / "T.log.csv").open() as file:
        rows = list(csv.DictReader(file))
    metrics = load_detector(tmp_path / "T.safetensors")[2]["metrics"]
    assert [row["step"] for row in rows] == ["2"] and float(rows[0]["val_map"]) == pytest.approx(
        metrics["map"], rel=1e-5
    )


def test_elsewhere_nothing_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    with processes.join_torchrun("cpu"):
        assert processes.world_size() == 1
    monkeypatch.setenv("WORLD_SIZE", "2")  # as batch systems set it, too
    with processes.join_torchrun("cpu"):
        assert processes.world_size() == 1


def test_processes_are_started_by_one_of_the_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "world_size", lambda: 2)
    with pytest.raises(InputError, match="one of the two"):
        ComputeConfig("cpu", processes=2).check(Recipe())
    with pytest.raises(InputError, match="2 processes for batches of 5"):
        ComputeConfig("cpu").check(Recipe(batch_size=5))
