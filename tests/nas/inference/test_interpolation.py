"""How images are shrunk is a fact of the weights: from the import to training, evaluation and export of descendants."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from nas.core.architecture_file import Artifact, DataRecord
from nas.core.references import NO_STUDY
from nas.core.reporter import Reporter
from nas.data.dataset import DetectionDataset
from nas.data.loader import Loader, LoaderConfig
from nas.data.source import DataPair, open_data
from nas.data.subsets import first_of
from nas.data.transforms import AREA, LINEAR, Augmentation, letterbox
from nas.export.weights import export_weights
from nas.inference.detect import detect_all
from nas.inference.model import load
from nas.pretrained.convert import import_weights
from nas.supernet.weights import interpolation_of, load_detector, save_detector
from nas.training.job import ComputeConfig, TrainJob
from nas.training.recipe import Recipe
from nas.training.train_detector import train_detector
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES
from tests._published import RECORDED, state_of

SPACE = SPACES["yolo-nano"].restrict({"image_size": (96,), "width": (8,)})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataPair:
    """Images of 256 px, which a network of 96 px sees shrunk."""
    return open_data("digits@256:train=8,val=4", cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def weights(data: DataPair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that say that their images are shrunk linearly, as an import writes them."""
    torch.manual_seed(0)
    artifact = Artifact("S", SPACE.smallest, (), NO_STUDY, data.classes, DataRecord("d", "0"))
    path = tmp_path_factory.mktemp("weights") / "S.safetensors"
    return save_detector(path, SPACE.build(SPACE.smallest, len(data.classes)), artifact, {"interpolation": LINEAR})


def resized(rgb: np.ndarray, side: int, method: int) -> np.ndarray:
    return np.asarray(cv2.resize(rgb, (side, side), interpolation=method))


def test_the_canvas_is_what_opencv_makes_of_it(data: DataPair) -> None:
    rgb = data.val.load(0)[0]
    for how, method in ((AREA, cv2.INTER_AREA), (LINEAR, cv2.INTER_LINEAR)):
        expected = resized(rgb, 96, method)
        assert (letterbox(256, 256, 96, how).paste(rgb) == expected).all()
        batch = next(Loader(data.val.interpolated(how), LoaderConfig(1, 96)).epoch(0))
        assert (batch.images[0].numpy().transpose(1, 2, 0) == expected).all()
    assert (resized(rgb, 96, cv2.INTER_AREA) != resized(rgb, 96, cv2.INTER_LINEAR)).any()


def test_derived_data_sets_keep_it(data: DataPair) -> None:
    linear = data.interpolated(LINEAR)
    assert linear.interpolated(LINEAR) is linear and data.interpolated(AREA) is data
    derived: tuple[DetectionDataset, ...] = (linear.train, linear.val.cached(1000), first_of(linear.val, 2))
    assert all(d.interpolation == LINEAR for d in derived) and linear.fingerprint == data.fingerprint
    canvases = [
        next(Loader(part, LoaderConfig(4, 96, Augmentation(mosaic=1.0, mixup=1.0), 3)).epoch(0)).images
        for part in (data.train, linear.train)
    ]
    assert (canvases[0] != canvases[1]).any()  # augmented images, and those beside and over them


def test_an_import_says_it(tmp_path: Path) -> None:
    for name, how in (("yolov8n", LINEAR), ("yolov6n", AREA)):
        record = json.loads((RECORDED / f"{name}.json").read_text())
        torch.save({"model": dict(state_of(record))}, tmp_path / f"{name}.pt")
        import_weights(tmp_path / f"{name}.pt", tmp_path / f"{name}.safetensors")
        assert interpolation_of(tmp_path / f"{name}.safetensors") == how
    assert interpolation_of(None) == interpolation_of(tmp_path / "yolov8n.pt") == AREA


def test_predictions_evaluations_and_exports_follow_the_weights(data: DataPair, weights: Path, tmp_path: Path) -> None:
    model = load(weights, "cpu")
    rgb = data.val.load(0)[0]
    planes, _ = model.preprocess(rgb)
    assert np.allclose(planes[0].transpose(1, 2, 0) * 255, resized(rgb, 96, cv2.INTER_LINEAR), atol=1e-3)
    exported = load(export_weights(weights, tmp_path / "S.onnx").path, "cpu")
    assert exported.backend.interpolation == model.backend.interpolation == LINEAR
    found = detect_all(model, data.val)
    for a, b in zip(found.values(), detect_all(model, data.val.interpolated(LINEAR)).values(), strict=True):
        assert np.array_equal(a.scores, b.scores)


def test_descendants_keep_it(data: DataPair, weights: Path, tmp_path: Path) -> None:
    job = TrainJob(data, Recipe(epochs=1, batch_size=4), weights, augment=False, compute=ComputeConfig("cpu"))
    assert job.images.train.interpolation == LINEAR and TrainJob(data).images is data
    artifact = load_detector(weights)[1]
    train_detector(artifact, job, tmp_path / "T.safetensors", Reporter())
    assert interpolation_of(tmp_path / "T.safetensors") == LINEAR


def test_another_text_is_one_line(weights: Path, tmp_path: Path) -> None:
    detector, artifact, _ = load_detector(weights)
    path = save_detector(tmp_path / "S.safetensors", detector, artifact, {"interpolation": "cubic"})
    for read in (interpolation_of, load):
        with pytest.raises(InputError, match="interpolation 'cubic'; expected one of area, linear"):
            read(path)
