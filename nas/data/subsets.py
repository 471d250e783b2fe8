"""Parts of a data set as data sets of their own: spread evenly, shuffled, or a range."""

from __future__ import annotations

import random
from collections.abc import Sequence

from nas.data.dataset import DetectionDataset, Sample


def first_samples(dataset: DetectionDataset, count: int) -> DetectionDataset:
    """Return about ``count`` samples spread evenly over the data set, as a data set (0: all of it)."""
    if not count or count >= len(dataset):
        return dataset
    step = len(dataset) / count
    return _with(dataset, [dataset.samples[int(i * step)] for i in range(count)])


def mixed(dataset: DetectionDataset, seed: int) -> DetectionDataset:
    """Shuffle the samples, so that every beginning is a fair sample: data sets are often sorted by scene."""
    samples = list(dataset.samples)
    random.Random(seed).shuffle(samples)
    return _with(dataset, samples)


def first_of(dataset: DetectionDataset, end: int, begin: int = 0) -> DetectionDataset:
    """Return the samples from ``begin`` up to ``end``, as a data set."""
    return _with(dataset, dataset.samples[begin:end])


def _with(dataset: DetectionDataset, samples: Sequence[Sample]) -> DetectionDataset:
    return DetectionDataset(
        dataset.name, dataset.split, dataset.classes, samples, dataset.problems, 0, dataset.interpolation
    )
