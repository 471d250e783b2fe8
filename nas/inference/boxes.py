"""Geometry of boxes in numpy: areas, intersections, IoU.

Boxes are float arrays [..., 4] of corners (x1, y1, x2, y2) in pixels, unless a function takes (x, y, width, height).
Results have the number type of the boxes. The torch counterparts, which are differentiable, are in
:mod:`nas.training`.

    |A|         = max(x2 - x1, 0) * max(y2 - y1, 0)
    IoU(A, B)   = |A ∩ B| / (|A| + |B| - |A ∩ B|), and 0 if the union is empty
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.floating]


def areas(boxes: Boxes) -> Boxes:
    """Return the area of each box, [..., 4] -> [...]; 0 where a side is negative."""
    return np.asarray(np.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(-1))


def intersection(a: Boxes, b: Boxes) -> Boxes:
    """Return the area that boxes share, [..., 4] and [..., 4] -> [...]; leading axes are broadcast."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return np.asarray(np.maximum(sides, 0).prod(-1))


def paired_iou(a: Boxes, b: Boxes) -> Boxes:
    """Return the IoU of boxes with the same index, [..., 4] and [..., 4] -> [...]; leading axes are broadcast."""
    shared = intersection(a, b)
    union = areas(a) + areas(b) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def pairwise_iou(a: Boxes, b: Boxes) -> Boxes:
    """Return the IoU of every box of ``a`` with every box of ``b``, [N, 4] and [M, 4] -> [N, M].

    The table is computed in place, so the peak of memory is three tables.
    """
    shared = np.minimum(a[:, None, 2], b[:, 2])
    shared -= np.maximum(a[:, None, 0], b[:, 0])
    height = np.minimum(a[:, None, 3], b[:, 3])
    height -= np.maximum(a[:, None, 1], b[:, 1])
    np.maximum(shared, 0, out=shared)
    np.maximum(height, 0, out=height)
    shared *= height
    union = areas(a)[:, None] + areas(b)
    union -= shared
    np.maximum(union, np.finfo(union.dtype).tiny, out=union)
    shared /= union
    return shared


def to_xywh(boxes: Boxes) -> NDArray[np.float64]:
    """Return (x, y, width, height) of corners, [N, 4] -> float64 [N, 4]; negative sides become 0."""
    corners = boxes.astype(np.float64)
    return np.concatenate([corners[:, :2], np.clip(corners[:, 2:] - corners[:, :2], 0, None)], 1)


def coco_iou(found: NDArray[np.float64], truth: NDArray[np.float64], crowd: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the IoU of detections and objects as COCO defines it, [D, 4] and [G, 4] -> [D, G].

    With a crowd it is the share of the detection that lies in the crowd. Boxes are (x, y, width, height); the order of
    operations is that of pycocotools, so that results are equal to the last bit.

    Args:
        found: Detections, float64 [D, 4].
        truth: Objects, float64 [G, 4].
        crowd: Which objects are crowds, bool [G].
    """
    ends = [np.minimum(found[:, None, i] + found[:, None, i + 2], truth[:, i] + truth[:, i + 2]) for i in (0, 1)]
    sides = [np.clip(end - np.maximum(found[:, None, i], truth[:, i]), 0, None) for i, end in enumerate(ends)]
    shared = sides[0] * sides[1]
    found_areas, truth_areas = found[:, 2] * found[:, 3], truth[:, 2] * truth[:, 3]
    union = np.where(crowd, found_areas[:, None], found_areas[:, None] + truth_areas - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
