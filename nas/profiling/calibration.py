"""Images that int8 is calibrated with where only latency is measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from search_spaces.image_size import AnySize

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from nas.data.source import DataPair

CALIBRATION_IMAGES = 16
"""Fewer than ``nas quantize`` takes: the ranges of activations do not change the latency."""


def calibration_images(data: DataPair, size: AnySize) -> Sequence[npt.NDArray[np.float32]]:
    """Read one batch of the train split: (N, 3, H, W) float32 in 0..1, H x W = ``size``."""
    import numpy as np

    from nas.data.loader import Loader, LoaderConfig

    batch = next(Loader(data.train, LoaderConfig(CALIBRATION_IMAGES, size, workers=0)).epoch())
    return [batch.images.numpy().astype(np.float32) / np.float32(255)]
