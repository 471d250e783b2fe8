"""Accuracy of a candidate with the supernet's weights."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Sequence
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch

from nas.accuracy import RANKING, batches, detect, images_of
from nas.data.dataset import DetectionDataset, Sample
from nas.data.loader import Batch
from nas.estimate import Estimate
from nas.estimators.base import Context, Estimator, needed
from nas.evaluation import Detections, Metrics, evaluate
from nas.matches import average_precision, match
from nas.training.bn import recalibrate
from nas.training.precision import device_of
from nas.uncertainty import resamples
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError

BATCH = 50
EARLY = (1 / 8, 1 / 3)
"""Shares of the pictures after which something is said already."""
FEW = 30
"""Pictures below which nothing is."""
RESAMPLES = 64
Z95 = 1.959964


class SupernetMap(Estimator):
    """mAP50-95 (0..1) of the extracted network, BatchNorm recalibrated, on the val split (or the part of it that the context asks for)."""

    name, direction, rank, called = "map", "max", 2, "supernet"
    metric: ClassVar[str] = "map"
    area: ClassVar[str] = "all"
    iou: ClassVar[float | None] = None

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        called = self.called
        needed(context.supernet, called, "trained supernet", "train one: nas supernet, or let nas search do it")
        needed(context.data, called, "data set", "name one: --data digits")
        if "supernet" not in context.shared:
            context.shared["supernet"] = _Evaluations(context)
        self._evaluations: _Evaluations = context.shared["supernet"]
        self._drawn: list[float] = []

    def __call__(self, architecture: Architecture) -> Estimate:
        *_, last = self.rungs(architecture)
        return last

    def rungs(self, architecture: Architecture) -> Iterator[Estimate]:
        """On an eighth of the pictures, on a third, on all; only the last where another number of this evaluation was asked before."""
        for count, metrics in self._evaluations.of(architecture):
            value = getattr(metrics, self.metric)
            if count is not None:
                if value is not None:
                    yield Estimate(f"{self.name}@{count}", value, source="predicted")
            elif value is None:
                raise InputError(f"{self.name}: the val split has no such object", "another accuracy", "nas data check says what sizes there are")
            else:
                self._drawn = self._evaluations.drawn(self.area, self.iou)
                half = Z95 * float(np.std(self._drawn)) if len(self._drawn) else 0.0
                yield Estimate(self.name, value, low=max(0.0, value - half), high=min(1.0, value + half), source="predicted")

    @property
    def draws(self) -> Sequence[float]:
        """mAP on :data:`RESAMPLES` data sets drawn anew, picture by picture, from the val split: the same for every candidate."""
        return self._drawn


class SupernetMap50(SupernetMap):
    """The same at an overlap of 0.5."""

    name = metric = "map50"
    called = "supernet-50"
    iou = 0.5


class SupernetSmall(SupernetMap):
    """The same of objects of less than 32 x 32 pixels of the original picture."""

    name = metric = "map_small"
    called = "supernet-small"
    area = "small"


class SupernetMedium(SupernetMap):
    """The same of objects from 32 x 32 to 96 x 96 pixels."""

    name = metric = "map_medium"
    called = "supernet-medium"
    area = "medium"


class SupernetLarge(SupernetMap):
    """The same of objects over 96 x 96 pixels."""

    name = metric = "map_large"
    called = "supernet-large"
    area = "large"


class _Evaluations:
    """One evaluation of a candidate, from which every number of it is taken."""

    def __init__(self, context: Context) -> None:
        assert context.data is not None
        self._context = context
        self._device = device_of(context.device)
        self._val = mixed(first_samples(context.data.val, context.eval_images), context.seed)
        self._pictures: dict[int, tuple[list[Batch], list[Batch]]] = {}
        self._last: tuple[str, Metrics] | None = None
        self._found: dict[int, Detections] = {}

    def of(self, architecture: Architecture) -> Iterator[tuple[int | None, Metrics]]:
        """(so many pictures, metrics on them) early, then (None, metrics on all)."""
        if self._last is None or self._last[0] != architecture.id:
            metrics = yield from self._evaluated(architecture)
            self._last = architecture.id, metrics
        yield None, self._last[1]

    def _evaluated(self, architecture: Architecture) -> Generator[tuple[int, Metrics], None, Metrics]:
        assert self._context.supernet is not None
        calibration, val = self._of_size(int(architecture["image_size"]))
        with torch.random.fork_rng(devices=[]):  # building draws first weights, which the supernet's replace
            detector = self._context.supernet.extract(architecture)
        recalibrate(detector, images_of(calibration, self._device))
        detector.deploy()
        sizes = {sample.id: (sample.width, sample.height) for sample in self._val.samples}
        found: dict[int, Detections] = {}
        steps = early_steps(len(self._val))
        for batch in val:
            found |= detect(detector, batch, sizes, RANKING)
            part = first_of(self._val, len(found))
            if len(found) in steps and any((~s.crowd).any() for s in part.samples):
                yield len(found), evaluate(part, found)
        torch.cuda.empty_cache()
        self._found = found
        return evaluate(self._val, found)

    def drawn(self, area: str, iou: float | None) -> list[float]:
        """Of the last candidate: mAP on every drawn data set; none where one of them has no object to find."""
        matches = match(self._val, self._found, area)
        values = average_precision(matches, resamples(len(self._val), RESAMPLES, self._context.seed), iou)
        return [] if np.isnan(values).any() else values.tolist()

    def _of_size(self, size: int) -> tuple[list[Batch], list[Batch]]:
        """Calibration and val batches of an image size, decoded once."""
        if size not in self._pictures:
            context = self._context
            assert context.data is not None
            calibration = list(batches(context.data.train, size, limit=context.calibration_images, seed=context.seed))
            steps = (0, *early_steps(len(self._val)), len(self._val))
            val = [b for begin, end in pairwise(steps) for b in batches(first_of(self._val, end, begin), size, BATCH)]
            self._pictures[size] = calibration, val
        return self._pictures[size]


def early_steps(count: int) -> tuple[int, ...]:
    """After how many of ``count`` pictures something is said early; none where they are few."""
    return tuple(n for share in EARLY if (n := round(count * share)) >= FEW)


def first_samples(dataset: DetectionDataset, count: int) -> DetectionDataset:
    """About ``count`` samples spread evenly over the data set, as a data set of its own (0: all of it)."""
    if not count or count >= len(dataset):
        return dataset
    step = len(dataset) / count
    return _with(dataset, [dataset.samples[int(i * step)] for i in range(count)])


def mixed(dataset: DetectionDataset, seed: int) -> DetectionDataset:
    """The same samples in an order that makes every beginning a fair sample: data sets are often sorted by scene."""
    samples = list(dataset.samples)
    random.Random(seed).shuffle(samples)
    return _with(dataset, samples)


def first_of(dataset: DetectionDataset, end: int, begin: int = 0) -> DetectionDataset:
    """The samples from ``begin`` up to ``end``."""
    return _with(dataset, dataset.samples[begin:end])


def _with(dataset: DetectionDataset, samples: Sequence[Sample]) -> DetectionDataset:
    return DetectionDataset(dataset.name, dataset.split, dataset.classes, samples, dataset.problems)
