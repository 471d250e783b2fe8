"""Detections of one score have no order; all others have."""

from __future__ import annotations

import numpy as np

from benchmarks.suppression_inside import compare
from nas.inference.nms import Detections


def found(order: list[int], scores: list[float]) -> Detections:
    boxes = np.array([[0, 0, 9, 9], [20, 20, 30, 30], [5, 40, 9, 50]], np.float32)
    labels = np.array([1, 0, 2])
    return Detections(boxes[order], np.array(scores, np.float32), labels[order])


def test_detections_of_one_score_may_change_places() -> None:
    ours = found([0, 1, 2], [0.9, 0.5, 0.5])
    assert compare(ours, found([0, 2, 1], [0.9, 0.5, 0.5])) == {"same": True, "iou": 1.0, "score": 0.0, "count": 3}


def test_another_order_is_another_result() -> None:
    assert not compare(found([0, 1, 2], [0.9, 0.6, 0.5]), found([0, 2, 1], [0.9, 0.6, 0.5]))["same"]
