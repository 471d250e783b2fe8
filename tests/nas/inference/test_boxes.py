"""Areas, intersections and IoU against plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nas.inference.boxes import areas, coco_iou, intersection, paired_iou, pairwise_iou, to_xywh

INVERTED = [5.0, 5.0, 1.0, 1.0]


def plain(a: NDArray[np.floating], b: NDArray[np.floating]) -> tuple[float, float]:
    """Shared area and IoU of two boxes."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    sizes = [max(0.0, x[2] - x[0]) * max(0.0, x[3] - x[1]) for x in (a, b)]
    union = sum(sizes) - width * height
    return width * height, width * height / union if union > 0 else 0.0


def boxes(seed: int, count: int, dtype: type = np.float64) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 12, (count, 4)).astype(float)  # integers: many touch, are equal or have no area
    found = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    return np.concatenate([found, [INVERTED, [0, 0, 0, 0]]]).astype(dtype)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_forms_agree_with_plain_python(seed: int, dtype: type) -> None:
    a, b = boxes(seed, 30, dtype), boxes(seed + 99, 20, dtype)
    table = np.array([[plain(x, y) for y in b] for x in a])
    assert np.allclose(pairwise_iou(a, b), table[..., 1], atol=1e-6) and pairwise_iou(a, b).dtype == dtype
    assert np.allclose(paired_iou(a[:, None], b), table[..., 1], atol=1e-6)
    assert np.array_equal(intersection(a[:, None], b), table[..., 0])
    assert np.array_equal(areas(a), [max(0.0, x[2] - x[0]) * max(0.0, x[3] - x[1]) for x in a])


def test_a_crowd_counts_the_share_of_the_detection() -> None:
    found, truth = np.array([[0.0, 0, 4, 4], [10, 10, 12, 12]]), np.array([[2.0, 0, 100, 100], [0, 0, 4, 4]])
    table = coco_iou(to_xywh(found), to_xywh(truth), np.array([True, False]))
    assert table.tolist() == [[0.5, 1.0], [1.0, 0.0]]


def test_without_boxes_the_table_is_empty() -> None:
    none, some = np.zeros((0, 4)), boxes(0, 3)
    assert pairwise_iou(none, some).shape == (0, 5) and pairwise_iou(some, none).shape == (5, 0)
    assert paired_iou(some[0], none).shape == (0,) and to_xywh(none).shape == (0, 4)
