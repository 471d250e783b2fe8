"""A small detector with weights, its data, and its int8 files: what the tests of quantization share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from latency_db.core.target import Target
from nas.core.architecture_file import Artifact, DataRecord, StudyRecord
from nas.data.source import DataPair, open_data
from nas.inference.detect import batches, images_of
from nas.quantization.model import CalibratedDetector, CalibrationConfig, calibrate_detector
from nas.supernet.batchnorm import recalibrate
from nas.supernet.weights import save_detector
from search_spaces.spaces import SPACES

SIZE = 64
DATA = f"digits@{SIZE}:train=40,val=6"


@dataclass(frozen=True)
class Shelf:
    """A folder with ``S.safetensors`` and the data set of its classes; ``cache`` has the data set's images."""

    folder: Path
    cache: Path
    data: DataPair
    weights: Path


_FOLDER = TemporaryDirectory()  # goes with the process: every test module shares what is in it


@cache
def shelf() -> Shelf:
    """A yolo-nano with drawn weights whose statistics are those of the images, so that its activations are like a
    trained one's."""
    folder = Path(_FOLDER.name)
    data = open_data(DATA, cache=folder / "cache")
    space = SPACES["yolo-nano"]
    architecture = space.smallest.replace(image_size=space["image_size"].values[0])
    torch.manual_seed(0)
    detector = space.build(architecture, len(data.classes))
    with torch.no_grad():
        for level in detector.head.levels:  # type: ignore[union-attr]
            level.cls.weight.mul_(4.0)
            level.cls.bias.add_(4.0)
    recalibrate(detector, images_of(batches(data.train, SIZE), torch.device("cpu")))
    artifact = Artifact(
        "S", architecture, (), StudyRecord("test", 0, None, 0), data.classes, DataRecord(data.name, data.fingerprint)
    )
    return Shelf(folder, folder / "cache", data, save_detector(folder / "S.safetensors", detector.eval(), artifact, {}))


@cache
def subject(target: str) -> CalibratedDetector:
    """The shelf's detector for a target, calibrated on a few images."""
    made = shelf()
    return calibrate_detector(
        made.weights, made.data, Target.parse(f"{target}@{SIZE}"), CalibrationConfig(16), made.folder
    )
