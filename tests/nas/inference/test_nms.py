"""Non-maximum suppression against its definition, pre-processing and drawing."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from nas.data.transforms import PAD, letterbox
from nas.inference.boxes import pairwise_iou
from nas.inference.draw import class_colour, draw
from nas.inference.nms import SCORES_AT_ONCE, Detections, Suppression, nms
from nas.inference.preprocess import Preprocessor
from search_spaces.errors import InputError


def by_definition(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], threshold: float, iou: float, most: int, multi_label: bool
) -> list[tuple[int, int]]:
    """(anchor, class) kept, in plain loops."""
    rows, values, threshold = boxes.tolist(), scores.tolist(), float(np.float32(threshold))
    pairs = [(a, c) for a, row in enumerate(values) for c, value in enumerate(row) if value > threshold]
    if not multi_label:
        pairs = [(a, c) for a, c in pairs if c == scores[a].argmax()]
    kept: list[tuple[int, int]] = []
    for a, c in sorted(pairs, key=lambda p: -values[p[0]][p[1]]):
        x1, y1, x2, y2 = rows[a]
        for b in (b for b, other in kept if other == c):
            u1, v1, u2, v2 = rows[b]
            both = max(0, min(x2, u2) - max(x1, u1)) * max(0, min(y2, v2) - max(y1, v1))
            union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - both
            if union > 0 and both / union > iou:
                break
        else:
            kept.append((a, c))
    return kept[:most]


def crowd(
    rng: np.random.Generator, anchors: int, classes: int, spread: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    corner = rng.uniform(-20, spread, (anchors, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 60, (anchors, 2))], 1).astype(np.float32)
    return boxes, rng.permutation(anchors * classes).reshape(anchors, classes).astype(np.float32) / np.float32(
        anchors * classes
    )  # no ties


@pytest.mark.parametrize("multi_label", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_equal_to_the_definition(seed: int, multi_label: bool) -> None:
    rng = np.random.default_rng(seed)
    boxes, scores = crowd(rng, 60, 4, [20, 60, 200][seed % 3])
    iou, most = [0.3, 0.5, 0.7][seed % 3], [300, 10][seed % 2]
    kept = by_definition(boxes, scores, 0.2, iou, most, multi_label)
    result = nms(boxes, scores, score_threshold=0.2, iou_threshold=iou, max_detections=most, multi_label=multi_label)
    assert 5 < len(kept) < 240 and result.labels.tolist() == [c for _, c in kept]
    np.testing.assert_array_equal(result.boxes, boxes[[a for a, _ in kept]])
    np.testing.assert_array_equal(result.scores, [scores[p] for p in kept])
    assert (result.boxes.dtype, result.scores.dtype, result.labels.dtype) == (
        np.dtype(np.float32),
        np.dtype(np.float32),
        np.dtype(np.int64),
    )


def odd_crowd(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """0 to 40 boxes on a grid of quarter pixels (areas are exact in float32), up to 4 classes; few scores, so ties;
    boxes that repeat, lines and points."""
    anchors, classes = int(rng.integers(0, 41)), int(rng.integers(1, 4))
    corner = rng.integers(-40, int(rng.choice([20, 80, 400])), (anchors, 2)) / 4
    sides = rng.integers(0, 60, (anchors, 2)) / 4 * (rng.random((anchors, 2)) > 0.1)
    boxes = np.concatenate([corner, corner + sides], 1).astype(np.float32)
    if anchors:
        again = rng.random(anchors) < 0.2
        boxes[again] = boxes[rng.integers(0, anchors, int(again.sum()))]
    return boxes, (rng.integers(0, int(rng.choice([4, 1000])), (anchors, classes)) / 1000).astype(np.float32)


def test_equal_to_the_definition_on_a_thousand_odd_cases() -> None:
    rng = np.random.default_rng(7)
    suppressed = flat = 0
    for case in range(1200):
        boxes, scores = odd_crowd(rng)
        threshold, iou = float(rng.choice([0.0, 0.001, 0.3])), float(rng.choice([0.0, 0.25, 0.5, 0.6, 0.7, 1.0]))
        most, multi_label = int(rng.choice([1, 7, 300])), bool(rng.random() < 0.5)
        expected = by_definition(boxes, scores, threshold, iou, most, multi_label)
        result = nms(
            boxes, scores, score_threshold=threshold, iou_threshold=iou, max_detections=most, multi_label=multi_label
        )
        assert result.labels.tolist() == [c for _, c in expected], case
        np.testing.assert_array_equal(result.boxes, boxes[[a for a, _ in expected]].reshape(-1, 4), err_msg=str(case))
        np.testing.assert_array_equal(result.scores, [scores[p] for p in expected])
        suppressed += len(expected) < min(most, int((scores > threshold).sum()))
        flat += bool(((result.boxes[:, 2:] - result.boxes[:, :2]).prod(1) == 0).any())
    assert suppressed > 250 and flat > 250  # the cases are what they are said to be


def test_more_boxes_than_one_block() -> None:
    """Suppression across blocks, and the earlier ones of a long list, as the definition has it."""
    rng = np.random.default_rng(3)
    boxes, scores = crowd(rng, 700, 2, 90)
    for most in (20, 2000):
        expected = by_definition(boxes, scores, 0.1, 0.4, most, True)
        result = nms(boxes, scores, score_threshold=0.1, iou_threshold=0.4, max_detections=most, max_candidates=2000)
        np.testing.assert_array_equal(result.boxes, boxes[[a for a, _ in expected]])
        assert result.labels.tolist() == [c for _, c in expected] and len(expected) == min(most, len(expected))


@pytest.mark.parametrize("alike", [False, True])
def test_memory_is_bounded_for_a_hundred_thousand_boxes(alike: bool) -> None:
    """The stated bound: 60 bytes for each score looked through at once and each candidate, 2 MB for pairs; all pairs
    at once would be 40 GB."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 4000 if not alike else 3, (100_000, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 30, (100_000, 2))], 1).astype(np.float32)
    scores = rng.random((100_000, 20), np.float32) if not alike else np.full((100_000, 20), 0.5, np.float32)
    most = 100_000
    tracemalloc.start()
    result = nms(boxes, scores, iou_threshold=0.3, max_candidates=most)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60 * (SCORES_AT_ONCE + most) + (2 << 20)
    assert 0 < len(result) <= 300 and (np.diff(result.scores) <= 0).all()
    assert pairwise_iou(result.boxes[result.labels == 0], result.boxes[result.labels == 0])[
        ~np.eye(int((result.labels == 0).sum()), dtype=bool)
    ].max(initial=0) <= np.float32(0.3)


def test_the_best_candidates_are_taken_first() -> None:
    rng = np.random.default_rng(0)
    boxes, scores = crowd(rng, 400, 5, 3000)
    few = nms(boxes, scores, score_threshold=0.0, max_candidates=50, max_detections=1000)
    assert len(few) <= 50 and few.scores[0] == scores.max() and few.scores.min() >= np.sort(scores.ravel())[-50]
    assert (np.diff(few.scores) <= 0).all()


def test_many_equal_scores_keep_to_the_limit() -> None:
    boxes = np.array([[i * 10, 0, i * 10 + 5, 5] for i in range(50)], np.float32)
    result = nms(boxes, np.full((50, 1), 0.5, np.float32), max_candidates=20)
    np.testing.assert_array_equal(result.boxes, boxes[:20])


def test_classes_do_not_suppress_each_other_even_at_negative_places() -> None:
    """Class 1 moved by the largest coordinate (what keeps classes apart where all are positive) would come to lie on
    class 0."""
    for reach in (100, 101, 102):
        boxes = np.array(
            [[1, 1, 100, 100], [1 - reach, 1 - reach, 100 - reach, 100 - reach], [1, 1, 100, 100]], np.float32
        )
        scores = np.array([[0.9, 0], [0, 0.8], [0, 0.7]], np.float32)
        assert nms(boxes, scores).labels.tolist() == [0, 1, 1]


def test_an_iou_equal_to_the_threshold_is_kept() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32)
    scores = np.array([[0.9], [0.8]], np.float32)
    assert len(nms(boxes, scores, iou_threshold=0.5)) == 2 and len(nms(boxes, scores, iou_threshold=0.49)) == 1


def test_nothing_and_nonsense() -> None:
    empty = nms(np.zeros((0, 4), np.float32), np.zeros((0, 3), np.float32))
    assert len(empty) == 0 and empty.boxes.shape == (0, 4)
    assert len(nms(np.zeros((0, 4), np.float32), np.zeros((0, 3), np.float32), multi_label=False)) == 0
    assert len(nms(np.zeros((5, 4), np.float32), np.zeros((5, 3), np.float32))) == 0
    with pytest.raises(InputError, match=r"score 2.*expected score and IoU of 0..1"):
        Suppression(score_threshold=2.0)
    with pytest.raises(InputError, match=r"expected \[A, 4\] and \[A, C\]"):
        nms(np.zeros((4, 5), np.float32), np.zeros((5, 3), np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["boxes", "scores"])
@pytest.mark.parametrize("score", [0.9, 0.0])
def test_outputs_that_are_not_finite_are_refused(value: float, place: str, score: float) -> None:
    boxes, scores = np.tile(np.array([0, 0, 9, 9], np.float32), (50, 1)), np.full((50, 3), score, np.float32)
    nms(boxes, scores)
    {"boxes": boxes, "scores": scores}[place][17, 2] = value
    for multi_label in (True, False):
        with pytest.raises(InputError, match="NaN or infinite"):
            nms(boxes, scores, multi_label=multi_label)


def test_preprocessing_is_the_letterbox_in_planes() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (30, 60, 3), np.uint8)
    images, placement = Preprocessor(96)(rgb)
    assert images.shape == (1, 3, 96, 96) and images.dtype == np.float32 and images.flags.c_contiguous
    assert placement == letterbox(60, 30, 96)
    np.testing.assert_allclose(images[0].transpose(1, 2, 0) * 255, placement.paste(rgb), atol=1e-4)
    assert images[0, 0, 0, 0] == pytest.approx(PAD / 255)


def test_detections_return_to_the_image() -> None:
    placement = letterbox(60, 30, 120)
    boxes = np.array([[10, 5, 20, 25], [-5, -5, 70, 40]], np.float32)
    on_canvas = Detections(placement.boxes(boxes), np.array([0.9, 0.8], np.float32), np.array([0, 1]))
    back = on_canvas.to_image(placement, 60, 30)
    np.testing.assert_allclose(back.boxes, [[10, 5, 20, 25], [0, 0, 60, 30]], atol=1e-3)


def test_drawing() -> None:
    image = np.zeros((600, 800, 3), np.uint8)
    before = image.copy()
    boxes = np.array([[100, 200, 300, 400], [700, 1, 799, 90]], np.float32)
    drawn = draw(
        image, boxes, np.array([0.9, 0.5]), np.array([0, 3]), ("cat",)
    )  # a label without a name is shown by number
    np.testing.assert_array_equal(image, before)
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    assert tuple(drawn[300, 100]) == class_colour(0) and tuple(drawn[60, 700]) == class_colour(3)
    assert not drawn[300, 200].any() and not drawn[500, 700].any()  # inside and outside are left alone
    np.testing.assert_array_equal(draw(image, boxes[:0], np.zeros(0), np.zeros(0, int), ()), image)


def test_small_images_are_enlarged_so_that_tags_can_be_read() -> None:
    drawn = draw(
        np.zeros((96, 128, 3), np.uint8),
        np.array([[10, 20, 50, 60]]),
        np.array([0.9]),
        np.array([0]),
        ("cat",),
        min_side=512,
    )
    assert drawn.shape == (384, 512, 3) and tuple(drawn[160, 40]) == class_colour(0)


def test_colours_differ() -> None:
    colours = np.array([class_colour(i) for i in range(20)])
    gaps = [np.abs(colours[i] - colours[j]).max() for i in range(20) for j in range(i)]
    assert min(gaps) > 15
