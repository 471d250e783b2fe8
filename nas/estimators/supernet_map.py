"""Accuracy of a candidate with the supernet's weights."""

from __future__ import annotations

import torch

from nas.accuracy import RANKING, batches, images_of, mean_average_precision
from nas.data.dataset import DetectionDataset
from nas.data.loader import Batch
from nas.estimate import Estimate
from nas.estimators.base import Context, Estimator, needed
from nas.training.bn import recalibrate
from nas.training.precision import device_of
from search_spaces.architecture import Architecture


class SupernetMap(Estimator):
    """mAP50-95 (0..1) of the extracted network, BatchNorm recalibrated, on the val split (or the part of it that the context asks for)."""

    name, direction, rank = "map", "max", 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        needed(context.supernet, "supernet", "trained supernet", "train one: nas supernet, or let nas search do it")
        needed(context.data, "supernet", "data set", "name one: --data digits")
        assert context.data is not None
        self.device = device_of(context.device)
        self.val = first_samples(context.data.val, context.eval_images)
        self._pictures: dict[int, tuple[list[Batch], list[Batch]]] = {}

    def __call__(self, architecture: Architecture) -> Estimate:
        assert self.context.supernet is not None
        calibration, val = self._of_size(int(architecture["image_size"]))
        with torch.random.fork_rng(devices=[]):  # building draws first weights, which the supernet's replace
            detector = self.context.supernet.extract(architecture)
        recalibrate(detector, images_of(calibration, self.device))
        metrics = mean_average_precision(detector.deploy(), self.val, val, RANKING)
        torch.cuda.empty_cache()
        return Estimate(self.name, metrics.map, source="predicted")

    def _of_size(self, size: int) -> tuple[list[Batch], list[Batch]]:
        """Calibration and val batches of an image size, decoded once."""
        if size not in self._pictures:
            assert self.context.data is not None
            calibration = list(batches(self.context.data.train, size, limit=self.context.calibration_images, seed=self.context.seed))
            self._pictures[size] = calibration, list(batches(self.val, size))
        return self._pictures[size]


def first_samples(dataset: DetectionDataset, count: int) -> DetectionDataset:
    """About ``count`` samples spread evenly over the data set, as a data set of its own (0: all of it)."""
    if not count or count >= len(dataset):
        return dataset
    step = len(dataset) / count
    kept = [dataset.samples[int(i * step)] for i in range(count)]
    return DetectionDataset(dataset.name, dataset.split, dataset.classes, kept, dataset.problems)
