"""Dense outputs of a detector -> detections: score threshold, non-maximum suppression, placement in the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.data.transforms import Placement
from nas.inference.boxes import pairwise_iou
from search_spaces.errors import InputError
from search_spaces.json_checks import JsonObject

NEVER = 1.0
"""An IoU threshold that nothing is over: no suppression."""
BLOCK = 256
"""Boxes compared with as many others at once."""
SCORES_AT_ONCE = 1 << 20
"""Scores looked through at once for candidates."""


@dataclass(frozen=True)
class Suppression:
    """Which of all anchors count as detections: the settings of :func:`nms`."""

    score_threshold: float = 0.01
    iou_threshold: float = 0.7
    max_detections: int = 300
    max_candidates: int = 1000
    multi_label: bool = True

    def __post_init__(self) -> None:
        if not (
            0 <= self.score_threshold <= 1
            and 0 <= self.iou_threshold <= 1
            and self.max_detections >= 1
            and self.max_candidates >= 1
        ):
            got = f"score {self.score_threshold}, IoU {self.iou_threshold}, {self.max_detections} detections of {self.max_candidates} candidates"
            raise InputError(got, "score and IoU of 0..1, 1 or more detections and candidates")

    @classmethod
    def from_json(cls, data: JsonObject) -> Suppression:
        """Return the settings of a JSON object with the names of the fields; raises InputError for another."""
        return cls(
            data.number("score_threshold", 0, 1),
            data.number("iou_threshold", 0, 1),
            data.integer("max_detections", 1),
            data.integer("max_candidates", 1),
            data.boolean("multi_label"),
        )


EVALUATION = Suppression()
"""As super-gradients evaluates YOLO-NAS in its recipe."""
RANKING = Suppression(max_detections=100, max_candidates=300)
"""To compare candidates: where a young network finds something everywhere, sorting that out took longer than running
it."""
SHOWN = Suppression(score_threshold=0.3, iou_threshold=0.6, multi_label=False)
"""What is worth showing a person, one class per box."""


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one image: boxes float32 [K, 4] xyxy in pixels, scores float32 [K] in 0..1, labels int64
    [K] (class indices)."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        shapes = (self.boxes.shape, self.scores.shape, self.labels.shape)
        count = len(self.scores)
        if shapes != ((count, 4), (count,), (count,)):
            raise InputError(f"detections with boxes, scores, labels of shapes {shapes}", "[K, 4], [K], [K]")

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def none(cls) -> Detections:
        """Nothing found."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    def of(self, labels: Sequence[int], most: int) -> Detections:
        """The first ``most`` of some classes."""
        kept = np.flatnonzero(np.isin(self.labels, labels))[:most]
        return Detections(self.boxes[kept], self.scores[kept], self.labels[kept])

    def to_image(self, placement: Placement, width: int, height: int) -> Detections:
        """From pixels of the canvas to pixels of the image that lies on it, clipped to its ``width`` x ``height``."""
        boxes = np.clip(placement.inverse(self.boxes), 0, np.array([width, height, width, height], np.float32))
        return Detections(boxes.astype(np.float32), self.scores, self.labels)


def in_image(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    suppression: Suppression,
    placement: Placement,
    width: int,
    height: int,
) -> Detections:
    """What a network says of one canvas, boxes [A, 4] and scores [A, C], as detections in the image of ``width`` x
    ``height`` that lies on it."""
    return nms(boxes, scores, **vars(suppression)).to_image(placement, width, height)


def nms(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    *,
    score_threshold: float = 0.01,
    iou_threshold: float = 0.7,
    max_detections: int = 300,
    max_candidates: int = 1000,
    multi_label: bool = True,
) -> Detections:
    """Non-maximum suppression for one image: boxes [A, 4] xyxy px and scores [A, C] of all anchors -> at most
    ``max_detections``, best first.

    Exact and greedy, each class for itself: a box goes when its IoU with a better kept one of its class is *over*
    ``iou_threshold``. With ``multi_label`` an anchor may be found as several classes, else as its best one. The
    defaults are for evaluation (those of the YOLO-NAS recipe, super-gradients e0ccacf: score 0.01, IoU 0.7, 300 of
    1000 candidates); to show an image a score threshold of 0.25 or more is apt.

    IoU is compared in float32; a box without area neither suppresses nor is suppressed. Memory beside the input does
    not depend on A: about 60 bytes for each of 2^20 scores that are looked through together and for each of
    ``max_candidates``, and less than 2 MB for pairs of boxes.

    Raises InputError if the shapes do not fit or a value is not finite: a network that has diverged finds nothing, and
    nothing must not look like an empty image.
    """
    if scores.ndim != 2 or boxes.shape != (len(scores), 4):
        raise InputError(f"boxes and scores of shapes {boxes.shape} and {scores.shape}", "[A, 4] and [A, C]")
    if not (_finite(boxes) and _finite(scores)):
        raise InputError(
            "outputs of the network that are NaN or infinite",
            "numbers",
            "its weights are damaged, or training diverged",
        )
    anchors, labels, values = _candidates(scores, score_threshold, max_candidates, multi_label)
    chosen = np.asarray(boxes, np.float32)[anchors]
    kept = _greedy(chosen, labels, iou_threshold, max_detections)
    return Detections(chosen[kept], values[kept].astype(np.float32), labels[kept].astype(np.int64))


def _finite(values: NDArray[np.floating]) -> bool:
    """Whether all values are finite; NaN and infinity show in the extremes, which need no table of flags."""
    return not values.size or bool(np.isfinite(values.min()) and np.isfinite(values.max()))


def _candidates(
    scores: NDArray[np.floating], threshold: float, most: int, multi_label: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.floating]]:
    """(anchor, class, score) of the best ``most`` scores over the threshold, best first; ties in the order of anchor
    and class."""
    anchors = labels = np.zeros(0, np.int64)
    values = np.zeros(0, scores.dtype)
    rows = max(1, SCORES_AT_ONCE // max(1, scores.shape[1]))
    for start in range(0, len(scores), rows):
        more = _over(scores[start : start + rows], threshold, multi_label)
        anchors, labels = np.concatenate([anchors, more[0] + start]), np.concatenate([labels, more[1]])
        values = np.concatenate([values, scores[start + more[0], more[1]]])
        if len(values) > most:  # selecting before sorting: of 8400 x 80 scores few are worth ordering
            worthy = np.flatnonzero(values >= np.partition(values, len(values) - most)[len(values) - most])
            best = np.sort(worthy[np.argsort(-values[worthy], kind="stable")[:most]])
            anchors, labels, values = anchors[best], labels[best], values[best]
    order = np.argsort(-values, kind="stable")[:most]
    return anchors[order], labels[order], values[order]


def _over(
    scores: NDArray[np.floating], threshold: float, multi_label: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(anchor, class) of the scores [A, C] over the threshold, in order; only an anchor's best class counts without
    ``multi_label``."""
    if multi_label or not scores.size:
        anchors, labels = np.nonzero(scores > threshold)
        return anchors, labels
    best = scores.argmax(1)
    anchors = np.flatnonzero(np.take_along_axis(scores, best[:, None], 1)[:, 0] > threshold)
    return anchors, best[anchors]


def _greedy(
    boxes: NDArray[np.float32], labels: NDArray[np.int64], iou_threshold: float, most: int
) -> NDArray[np.int64]:
    """Indices of at most ``most`` kept of boxes [N, 4], which come best first.

    Block by block: what an earlier box suppresses goes first, then what the rest of a block suppress among
    themselves. OpenCV's loop in C++ takes as long for one class and longer for several, keeps all boxes as Python
    lists, and has zero-area boxes suppress each other wherever they lie.
    """
    if iou_threshold >= NEVER:
        return np.arange(min(len(boxes), most))
    kept = np.zeros(0, np.int64)
    for start in range(0, len(boxes), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(boxes)))
        for i in range(0, len(kept), BLOCK):
            block = block[~_suppresses(boxes, labels, kept[i : i + BLOCK], block, iou_threshold).any(0)]
        over = _suppresses(boxes, labels, block, block, iou_threshold)
        alive = np.ones(len(block), bool)
        for j in np.flatnonzero(over.sum(1) > 1):  # those that are over the threshold with more than themselves
            if alive[j]:
                alive[j + 1 :] &= ~over[j, j + 1 :]
        kept = np.concatenate([kept, block[alive]])
        if len(kept) >= most:
            break
    return kept[:most]


def _suppresses(
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    better: NDArray[np.int64],
    others: NDArray[np.int64],
    iou_threshold: float,
) -> NDArray[np.bool_]:
    """[N, M]: whether box ``better[i]`` suppresses box ``others[j]``."""
    over = pairwise_iou(boxes[better], boxes[others]) > np.float32(iou_threshold)
    return np.asarray(over & (labels[better, None] == labels[others]))
