"""BatchNorm's statistics are those of the images that the weights were trained on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from nas.core.reporter import Reporter
from nas.data.source import DataPair, open_data
from nas.data.transforms import Augmentation
from nas.estimators.base import Context
from nas.estimators.supernet_evaluation import EvaluationImages
from nas.inference.detect import batches, images_of, training_images
from nas.search.run_supernet import search_data
from nas.search.settings import SearchSettings
from nas.supernet.batchnorm import recalibrate
from nas.supernet.supernet import Supernet
from nas.supernet.weights import save_supernet
from nas.training.data import as_trained
from nas.training.job import TrainJob
from nas.training.recipe import Recipe
from nas.training.validation import calibrate
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES

SPACE = SPACES["yolo-nano"].restrict({"image_size": (96,), "width": (8,)})
SPEC = "digits@96:train=8,val=4"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataPair:
    return open_data(SPEC, cache=tmp_path_factory.mktemp("cache"))


def statistics(detector: Detector) -> torch.Tensor:
    norms = [m for m in detector.modules() if isinstance(m, nn.BatchNorm2d)]
    return torch.cat([norm.running_mean for norm in norms if norm.running_mean is not None])


def calibrated(data: DataPair) -> torch.Tensor:
    torch.manual_seed(0)
    detector = SPACE.build(SPACE.smallest, len(data.classes))
    calibrate(detector, data, 96)
    return statistics(detector)


def test_images_are_augmented_as_in_training(data: DataPair) -> None:
    torch.manual_seed(0)
    detector = SPACE.build(SPACE.smallest, len(data.classes))
    recalibrate(detector, images_of(batches(data.train, 96, limit=400, augmentation=data.augmentation), CPU))
    assert calibrated(data).equal(statistics(detector))
    recalibrate(detector, images_of(batches(data.train, 96, limit=400), CPU))
    assert calibrated(data.augmented(Augmentation.NONE)).equal(statistics(detector))
    assert not calibrated(data).equal(statistics(detector))


def test_the_augmentation_is_the_trainings_own(data: DataPair) -> None:
    assert TrainJob(data, augment=False).images.augmentation == Augmentation.NONE
    own = TrainJob(data, Recipe(augmentation={"mosaic": 1.0, "close_mosaic": 5, "multi_scale": (0.5, 1.5)})).images
    last = own.augmentation.at_the_end()
    assert own.augmentation.mosaic == 1 and last == data.augmentation.changed({"close_mosaic": 5})
    whole = replace(own.augmentation, close_mosaic=0)
    assert whole.at_the_end() == data.augmentation.changed({"mosaic": 1.0})


def test_a_record_names_augmentation_and_interpolation(data: DataPair) -> None:
    assert as_trained(data, {}, "file") is data
    found = as_trained(data, {"augmentation": Augmentation.NONE.to_dict(), "interpolation": "linear"}, "file")
    assert found.augmentation == Augmentation.NONE and found.train.interpolation == "linear"
    for wrong in ({"augmentation": 3}, {"augmentation": {"flip": "often"}}, {"augmentation": {"twist": 1}}):
        with pytest.raises(InputError, match="augmentation"):
            as_trained(data, wrong, "file")


def test_a_search_takes_the_augmentation_of_its_supernet(data: DataPair, tmp_path: Path) -> None:
    settings = SearchSettings(data=SPEC, recipe={"augmentation": {"scale": [0.9, 1.1]}})
    assert (found := search_data(settings, Reporter())) is not None and found.augmentation.scale == (0.9, 1.1)
    unaugmented = search_data(replace(settings, augment=False), Reporter())
    assert unaugmented is not None and unaugmented.augmentation == Augmentation.NONE
    path = tmp_path / "supernet.safetensors"
    trained = data.augmentation.changed({"flip": 0.25}).to_dict()
    save_supernet(
        path, Supernet(SPACE, len(data.classes)), data.classes, {"augmentation": json.loads(json.dumps(trained))}
    )
    given = search_data(replace(settings, supernet=str(path)), Reporter())
    assert given is not None and given.augmentation == data.augmentation.changed({"flip": 0.25})


def test_candidates_have_augmented_statistics_and_plain_int8_ranges(data: DataPair) -> None:
    images = EvaluationImages(Context(SPACE, len(data.classes), data, calibration_images=4))
    found, _ = images.of_size(SPACE.image_sizes[-1])
    augmented = list(training_images(data, 96, 4))
    plain = list(batches(data.train, 96, limit=4))
    assert all(a.images.equal(b.images) for a, b in zip(found, augmented, strict=True))
    ranges = images.calibration(SPACE.image_sizes[-1])
    assert all(a.images.equal(b.images) for a, b in zip(ranges, plain, strict=True))
    assert not found[0].images.equal(plain[0].images)
