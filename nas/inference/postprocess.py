"""Around a detector, without torch: image -> network input, dense network output -> detections, detections -> a
drawn image."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nas.data.transforms import Placement, letterbox
from search_spaces.errors import InputError

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


@dataclass(frozen=True)
class Preprocessor:
    """RGB image -> network input: letterboxed to ``size`` x ``size`` (:func:`nas.data.transforms.letterbox`),
    planes first, divided by 255."""

    size: int

    def __call__(self, rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Placement]:
        """uint8 [H, W, 3] -> (float32 [1, 3, size, size] in 0..1, where the image lies on it)."""
        placement = letterbox(rgb.shape[1], rgb.shape[0], self.size)
        planes = placement.paste(rgb).transpose(2, 0, 1)[None]
        return np.ascontiguousarray(planes, np.float32) / np.float32(255), placement


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
    1000 candidates); to show a image a score threshold of 0.25 or more is apt.

    IoU is compared in float32; a box without area neither suppresses nor is suppressed; one that is not finite is
    dropped. Memory beside the input, whatever A is: about 60 bytes for each of 2^20 scores looked through at once and
    for each of ``max_candidates``, and under 2 MB for pairs of boxes.
    """
    if scores.ndim != 2 or boxes.shape != (len(scores), 4):
        raise InputError(f"boxes and scores of shapes {boxes.shape} and {scores.shape}", "[A, 4] and [A, C]")
    anchors, labels, values = _candidates(scores, score_threshold, max_candidates, multi_label)
    chosen = np.asarray(boxes, np.float32)[anchors]
    finite = np.isfinite(chosen).all(1)
    chosen, labels, values = chosen[finite], labels[finite], values[finite]
    kept = _greedy(chosen, labels, iou_threshold, max_detections)
    return Detections(chosen[kept], values[kept].astype(np.float32), labels[kept].astype(np.int64))


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


def pairwise_iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """IoU [N, M] of boxes [N, 4] and [M, 4] xyxy, computed in their type. A box without area has IoU 0 with every
    other."""
    both = _overlap(a, b)
    union = _areas(a)[:, None] + _areas(b)
    union -= both
    np.maximum(union, np.finfo(union.dtype).tiny, out=union)
    both /= union
    return both


def _overlap(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    width = np.minimum(a[:, None, 2], b[:, 2])
    width -= np.maximum(a[:, None, 0], b[:, 0])
    height = np.minimum(a[:, None, 3], b[:, 3])
    height -= np.maximum(a[:, None, 1], b[:, 1])
    np.maximum(width, 0, out=width)
    np.maximum(height, 0, out=height)
    width *= height
    return width


def _areas(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(1))


def draw(
    image: NDArray[np.uint8],
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    labels: NDArray[np.integer],
    classes: Sequence[str],
    *,
    min_side: int = 512,
    colours: Sequence[tuple[int, int, int]] | None = None,
) -> NDArray[np.uint8]:
    """A copy of the RGB image uint8 [H, W, 3] with boxes [K, 4] xyxy px, each tagged with class and score in a
    colour of its class.

    ``colours``: RGB of each box instead. A score that is NaN, as marked objects have it, is left out of the tag. A
    image whose longer side is under ``min_side`` px is first enlarged to it by a whole factor, or tags would hide
    what they name.
    """
    factor = max(1, -(-min_side // max(image.shape[:2])))
    canvas = np.ascontiguousarray(image)
    canvas = np.array(
        cv2.resize(canvas, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC) if factor > 1 else canvas,
        np.uint8,
    )
    unit = max(canvas.shape[:2]) / 640
    placed = np.rint(np.asarray(boxes, np.float64).reshape(-1, 4) * factor).astype(int)
    order = np.argsort(scores, kind="stable")  # the surest on top
    paint = [class_colour(int(label)) for label in labels] if colours is None else colours
    for i in order:
        cv2.rectangle(
            canvas, placed[i, :2].tolist(), placed[i, 2:].tolist(), paint[i], max(1, round(2 * unit)), cv2.LINE_AA
        )
    for i in order:
        name = classes[labels[i]] if labels[i] < len(classes) else str(labels[i])
        _tag(canvas, name if np.isnan(scores[i]) else f"{name} {scores[i]:.2f}", placed[i], paint[i], unit)
    return canvas


def class_colour(label: int) -> tuple[int, int, int]:
    """RGB 0..255: hues a golden ratio apart, so that neighbouring classes differ most and every count of classes
    works."""
    red, green, blue = colorsys.hsv_to_rgb((0.58 + label * 0.6180339887) % 1, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def _tag(
    canvas: NDArray[np.uint8], text: str, box: NDArray[np.int_], colour: tuple[int, int, int], unit: float
) -> None:
    """A filled label on the box's upper edge; inside the box where there is no room above, and never over the
    image's edge."""
    font, scale, thickness, pad = (
        cv2.FONT_HERSHEY_SIMPLEX,
        max(0.4, 0.5 * unit),
        max(1, round(unit)),
        max(2, round(3 * unit)),
    )
    (width, height), below = cv2.getTextSize(text, font, scale, thickness)
    width, height = width + 2 * pad, height + below + pad
    x = int(max(0, min(box[0], canvas.shape[1] - width)))
    y = int(box[1] - height if box[1] >= height else box[1])
    cv2.rectangle(canvas, (x, y), (x + width, y + height), colour, cv2.FILLED)
    luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    ink = (0, 0, 0) if luma > 140 else (255, 255, 255)
    cv2.putText(canvas, text, (x + pad, y + height - below), font, scale, ink, thickness, cv2.LINE_AA)
