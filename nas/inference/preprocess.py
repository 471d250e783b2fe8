"""Image -> network input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.data.transforms import AREA, Placement, letterbox
from search_spaces.image_size import SizeField


@dataclass(frozen=True)
class Preprocessor:
    """RGB image -> network input: letterboxed to ``size`` (:func:`nas.data.transforms.letterbox`) with
    ``interpolation``, planes first, divided by 255."""

    size: SizeField = SizeField()
    interpolation: str = AREA

    def __call__(self, rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Placement]:
        """uint8 [H, W, 3] -> (float32 [1, 3, height, width] in 0..1, where the image lies on it)."""
        placement = letterbox(rgb.shape[1], rgb.shape[0], self.size, self.interpolation)
        planes = placement.paste(rgb).transpose(2, 0, 1)[None]
        return np.ascontiguousarray(planes, np.float32) / np.float32(255), placement
