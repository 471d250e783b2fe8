"""The budget of a supernet's training, and how well its largest subnet has learnt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from nas.data.source import DataPair
from nas.data.subsets import first_samples
from nas.supernet.supernet import Supernet
from nas.training.validation import validate
from search_spaces.architecture import Architecture
from search_spaces.image_size import ImageSize

EPOCHS = 20
"""Passes over a data set of thousands of images."""
MIN_STEPS = 1000
"""Optimizer steps below which a supernet learns little, however few images there are."""
RELIABLE_MAP = 0.15
"""mAP50-95 of the largest subnet below which differences between candidates are mostly noise."""


def default_supernet_epochs(images: int, batch_size: int, image_sizes: Sequence[ImageSize] = ()) -> int:
    """Return the epochs of a supernet's training on ``images`` train images.

    They are :data:`EPOCHS`, and at least :data:`MIN_STEPS` optimizer steps of ``batch_size`` images. What a network
    learns depends on the number of updates: the epochs that suit thousands of images are a few dozen updates on a
    hundred.

    With several ``image_sizes``, each is seen less often, and a step costs what images of average area cost. The epochs
    are multiplied by largest / average area, so that the training takes as long as at the largest size alone.
    """
    epochs: float = max(EPOCHS, math.ceil(MIN_STEPS / max(1, images // batch_size)))
    if image_sizes:
        areas = [size.area for size in image_sizes]
        epochs *= max(areas) / mean(areas)
    return math.ceil(epochs)


@dataclass(frozen=True)
class SupernetQuality:
    """Accuracy of the largest subnet on the val split: mAP50-95 and mAP50, each 0..1."""

    largest: Architecture
    map: float
    map50: float

    @property
    def reliable(self) -> bool:
        """Whether the supernet has learnt enough to rank candidates: mAP50-95 of at least :data:`RELIABLE_MAP`."""
        return self.map >= RELIABLE_MAP

    def text(self) -> str:
        """Return one line for a person; it contains a way out where the supernet has not learnt enough."""
        measured = f"mAP50-95 of the supernet's largest network: {self.map:.3f} (mAP50 {self.map50:.3f})"
        if self.reliable:
            return measured
        return f"{measured}: the ranking of candidates is unreliable; train longer (--epochs), or --accuracy nwot"


def supernet_quality(supernet: Supernet, data: DataPair, eval_images: int = 500) -> SupernetQuality:
    """Evaluate the largest subnet on at most ``eval_images`` val images (0: all), BatchNorm recalibrated.

    The supernet stays as it is. Raises InputError if the val split has no object.
    """
    largest = supernet.space.largest
    part = DataPair(data.name, data.train, first_samples(data.val, eval_images), data.augmentation)
    metrics = validate(supernet.extract(largest), part, largest.image_size)
    return SupernetQuality(largest, metrics.map, metrics.map50)
