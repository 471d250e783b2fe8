"""The interface of a trained network, whatever file it is in."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from nas.data.transforms import AREA
from nas.inference.layouts import Raw
from nas.inference.nms import Suppression
from search_spaces.image_size import ImageSize


class Backend(ABC):
    """A network with what its file says: class names in the order of the outputs, size of the canvas,
    whether it gives one box per object."""

    classes: tuple[str, ...]
    image_size: ImageSize
    end_to_end: bool
    interpolation: str = AREA
    """How images are shrunk to the canvas, one of :data:`nas.data.transforms.INTERPOLATIONS`."""
    inside: Suppression | None = None
    """Settings of the suppression in the file; None if the outputs are not suppressed."""

    @property
    @abstractmethod
    def runtime(self) -> str:
        """What runs it, for people: ``ONNX Runtime 1.20.0, CPU``."""

    @abstractmethod
    def run(self, images: NDArray[np.float32]) -> Raw:
        """float32 [N, 3, H, W], RGB in 0..1, to :data:`Raw`."""
