"""The anchor-based heads of YOLOv5 and YOLOv7: one 1x1 per level, three anchors at each position, an objectness
beside the classes."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from search_spaces.graph import Layout
from search_spaces.heads.base import Head, Levels, Predictions, flatten
from search_spaces.heads.dfl import PRIOR
from search_spaces.layers import conv2d

PRIORS = {
    "yolov5": (((10, 13), (16, 30), (33, 23)), ((30, 61), (62, 45), (59, 119)), ((116, 90), (156, 198), (373, 326))),
    "yolov7": (((12, 16), (19, 36), (40, 28)), ((36, 75), (76, 55), (72, 146)), ((142, 110), (192, 243), (459, 401))),
}
"""Width and height in pixels of a family's anchors on COCO, per level. YOLOv7-tiny has those of YOLOv5.

The anchors are pixels at any image size, as in the original networks: weights that were trained at 640 px expect the
same anchors at 320 px.
"""
PRIORS_AT = 640
"""Image size in pixels at which ``scaled`` anchors are those of :data:`PRIORS`."""


class AnchorHead(Head):
    """Per level a 1x1 to three times (4 + 1 + classes); box parameters relative to the anchors of a family
    (``priors``).

    ``scaled``: the anchors grow with the image, as in version 1 of the spaces yolov5, yolov7 and yolov7-tiny.
    """

    family = "anchors"
    anchors = 3

    def __init__(self, c_in: Layout, *, num_classes: int, priors: str = "yolov5", scaled: bool = False) -> None:
        super().__init__(c_in, num_classes)
        self.priors = priors
        self.scaled = scaled
        self.levels = nn.ModuleList(conv2d((c,), (3 * (5 + num_classes),), bias=True) for c in c_in)
        for level in self.levels:  # objectness times class begins at PRIOR
            bias = level.bias.view(3, -1)  # type: ignore[operator]
            nn.init.constant_(bias[:, 4:].detach(), math.log(PRIOR**0.5 / (1 - PRIOR**0.5)))
            level.class_rows = (3, 5)  # type: ignore[assignment]

    def forward(self, *features: Tensor) -> Levels:
        """Return per level (N, classes, 3 H, W) and (N, 5, 3 H, W): class logits; box parameters and objectness."""
        found = []
        for level, x in zip(self.levels, features, strict=True):
            height, width = int(x.shape[2]), int(x.shape[3])
            maps = level(x).reshape(-1, 3, 5 + self.num_classes, height, width).transpose(1, 2)
            boxes, classes = maps.reshape(-1, 5 + self.num_classes, 3 * height, width).split([5, self.num_classes], 1)
            found.append((classes, boxes))
        return tuple(found)

    def flatten(self, levels: Levels, image_size: tuple[int, int]) -> Predictions:
        """Join the levels to one list of anchors, with objectness and anchor sizes."""
        flat = flatten(levels, image_size, self.anchors)
        boxes, objectness = flat.boxes.split([4, 1], 2)
        shapes = tuple((int(c.shape[2]) // 3, int(c.shape[3])) for c, _ in levels)
        scale = max(image_size) / PRIORS_AT if self.scaled else 1.0
        priors = _priors(self.priors, shapes, scale, str(boxes.device)).to(boxes.device)
        return flat._replace(boxes=boxes, objectness=objectness, priors=priors)


@lru_cache(64)
@torch.inference_mode(False)  # as the grid
def _priors(family: str, shapes: tuple[tuple[int, int], ...], scale: float, device: str) -> Tensor:
    """(A, 2) px in the order of the anchors: level by level, and there prior by prior."""
    rows = [
        torch.tensor(prior) * scale
        for (h, w), level in zip(shapes, PRIORS[family], strict=True)
        for prior in level
        for _ in range(h * w)
    ]
    return torch.stack(rows).to(device)
