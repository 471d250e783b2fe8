"""A detector as files that people have, weights and their export, that finds most of what is in eight images of
digits: trained on just these."""

from __future__ import annotations

import copy
import io
import json
import random
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from rich.console import Console

from nas.core.architecture_file import Artifact, DataRecord
from nas.core.console_reporter import ConsoleReporter
from nas.core.references import NO_STUDY
from nas.data.source import DataPair, open_data
from nas.export.onnx import metadata_of, write_onnx
from nas.supernet.weights import load_detector, save_detector
from nas.training.job import ComputeConfig, TrainJob
from nas.training.recipe import Recipe
from nas.training.train_detector import train_detector
from search_spaces.spaces import SPACES

SIZE = 96
SETTINGS = {"batch_size": 8, "lr": 2e-2, "cls_weight": 2.0, "warmup_steps": 10, "ema_decay": 0.9}


@dataclass(frozen=True)
class Files:
    """``weights`` and ``onnx`` hold one network, as does ``pairs``, which takes two images at once; ``other`` a
    worse one. ``spec``: the data, as --data takes it; its two splits are the same images."""

    weights: Path
    onnx: Path
    pairs: Path
    other: Path
    spec: str
    data: DataPair


@cache
def detector_files(base: Path) -> Files:
    """Written below ``base``, the temporary folder of the run, once for all its tests; about 6 s."""
    folder = base / "detectors"
    folder.mkdir()
    data = _data(folder)
    space = SPACES["yolo-nano"].restrict({"image_size": (SIZE,)})
    architecture = space.restrict({c.name: c.values[:1] for c in space.choices}).sample(random.Random(0))
    artifact = Artifact("S", architecture, (), NO_STUDY, data.classes, DataRecord(data.name, data.fingerprint))
    quiet = ConsoleReporter(Console(file=io.StringIO()))
    recipe = Recipe(epochs=45, **SETTINGS)  # type: ignore[arg-type]
    job = TrainJob(data, recipe, augment=False, compute=ComputeConfig("cpu"))
    train_detector(artifact, job, folder / "S.safetensors", quiet)
    detector = load_detector(folder / "S.safetensors")[0]
    worse = copy.deepcopy(detector)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in worse.parameters():
            weights.add_(0.1 * weights.std(correction=0) * torch.randn(weights.shape, generator=rng))
    save_detector(folder / "other.safetensors", worse, artifact, {})
    detector.deploy()
    metadata = metadata_of(architecture, data.classes, SIZE)
    write_onnx(detector, folder / "S.onnx", SIZE, metadata)
    write_onnx(detector, folder / "pairs.onnx", SIZE, metadata, batch=2)
    return Files(
        folder / "S.safetensors",
        folder / "S.onnx",
        folder / "pairs.onnx",
        folder / "other.safetensors",
        str(folder / "twice"),
        open_data(folder / "twice"),
    )


def _data(folder: Path) -> DataPair:
    """A COCO folder of 8 images that are train and val."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_CACHE", str(folder / "cache"))
        made = open_data(f"digits@{SIZE}:train=8,val=2").train
    (folder / "twice" / "images").mkdir(parents=True)
    for sample in made.samples:
        shutil.copy(sample.path, folder / "twice" / "images")
    for split in ("train", "val"):
        (folder / "twice" / f"{split}.json").write_text(json.dumps(made.to_coco()))
    return open_data(folder / "twice")
