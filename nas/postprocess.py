"""Around a detector, without torch: picture -> network input, dense network output -> detections, detections -> a drawn picture."""

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


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one picture: boxes float32 [K, 4] xyxy in pixels, scores float32 [K] in 0..1, labels int64 [K] (class indices)."""

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

    def to_picture(self, placement: Placement, width: int, height: int) -> Detections:
        """From pixels of the canvas to pixels of the picture that lies on it, clipped to its ``width`` x ``height``."""
        boxes = np.clip(placement.inverse(self.boxes), 0, np.array([width, height, width, height], np.float32))
        return Detections(boxes.astype(np.float32), self.scores, self.labels)


@dataclass(frozen=True)
class Preprocessor:
    """RGB picture -> network input: letterboxed to ``size`` x ``size`` (:func:`nas.data.transforms.letterbox`), planes first, divided by 255."""

    size: int

    def __call__(self, rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Placement]:
        """uint8 [H, W, 3] -> (float32 [1, 3, size, size] in 0..1, where the picture lies on it)."""
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
    """Non-maximum suppression for one picture: boxes [A, 4] xyxy px and scores [A, C] of all anchors -> at most ``max_detections``, best first.

    Exact and greedy, each class for itself: a box goes when its IoU with a better kept one of its class is *over* ``iou_threshold``. With
    ``multi_label`` an anchor may be found as several classes, else as its best one. The defaults are for evaluation (those of the YOLO-NAS
    recipe, super-gradients e0ccacf: score 0.01, IoU 0.7, 300 of 1000 candidates); to show a picture a score threshold of 0.25 or more is apt.
    """
    if scores.ndim != 2 or boxes.shape != (len(scores), 4):
        raise InputError(f"boxes and scores of shapes {boxes.shape} and {scores.shape}", "[A, 4] and [A, C]")
    anchors, labels, values = _candidates(scores, score_threshold, max_candidates, multi_label)
    chosen = np.asarray(boxes, np.float32)[anchors]
    finite = np.isfinite(chosen).all(1)
    chosen, labels, values = chosen[finite], labels[finite], values[finite]
    kept = _greedy(chosen, labels, values, iou_threshold)[:max_detections]
    return Detections(chosen[kept], values[kept].astype(np.float32), labels[kept].astype(np.int64))


def _candidates(
    scores: NDArray[np.floating], threshold: float, most: int, multi_label: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.floating]]:
    """(anchor, class, score) of the best ``most`` scores over the threshold, best first; ties in the order of anchor and class."""
    if multi_label:
        anchors, labels = np.nonzero(scores > threshold)
    else:
        best = scores.argmax(1) if scores.size else np.zeros(0, np.int64)
        anchors = np.flatnonzero(np.take_along_axis(scores, best[:, None], 1)[:, 0] > threshold) if scores.size else best
        labels = best[anchors]
    values = scores[anchors, labels]
    if len(values) > most:  # selecting before sorting: of 8400 x 80 scores few are worth ordering
        least = np.partition(values, len(values) - most)[len(values) - most]
        worthy = np.flatnonzero(values >= least)
        anchors, labels, values = anchors[worthy], labels[worthy], values[worthy]
    order = np.argsort(-values, kind="stable")[:most]
    return anchors[order], labels[order], values[order]


def _greedy(boxes: NDArray[np.float32], labels: NDArray[np.int64], scores: NDArray[np.floating], iou_threshold: float) -> NDArray[np.int64]:
    """Indices kept of boxes [N, 4], best first. OpenCV's loop in C++ takes 4..10 ms for 1000 boxes, the same in numpy 25..45 ms."""
    if not len(boxes):
        return np.zeros(0, np.int64)
    xywh = boxes.astype(np.float64)
    xywh[:, 2:] -= xywh[:, :2]
    xywh[:, :2] -= xywh[:, :2].min(0)  # classes are told apart by moving them beyond the largest coordinate: negative ones would reach back
    kept = cv2.dnn.NMSBoxesBatched(xywh.tolist(), scores.tolist(), labels.tolist(), -1.0, iou_threshold)
    return np.asarray(kept, np.int64)


def draw(
    image: NDArray[np.uint8],
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    labels: NDArray[np.integer],
    classes: Sequence[str],
    *,
    min_side: int = 512,
) -> NDArray[np.uint8]:
    """A copy of the RGB picture uint8 [H, W, 3] with boxes [K, 4] xyxy px, each tagged with class and score in a colour of its class.

    A picture whose longer side is under ``min_side`` px is first enlarged to it by a whole factor, or tags would hide what they name.
    """
    factor = max(1, -(-min_side // max(image.shape[:2])))
    canvas = np.ascontiguousarray(image)
    canvas = np.array(cv2.resize(canvas, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC) if factor > 1 else canvas, np.uint8)
    unit = max(canvas.shape[:2]) / 640
    placed = np.rint(np.asarray(boxes, np.float64).reshape(-1, 4) * factor).astype(int)
    order = np.argsort(scores, kind="stable")  # the surest on top
    for i in order:
        cv2.rectangle(canvas, placed[i, :2].tolist(), placed[i, 2:].tolist(), class_colour(int(labels[i])), max(1, round(2 * unit)), cv2.LINE_AA)
    for i in order:
        name = classes[labels[i]] if labels[i] < len(classes) else str(labels[i])
        _tag(canvas, f"{name} {scores[i]:.2f}", placed[i], class_colour(int(labels[i])), unit)
    return canvas


def class_colour(label: int) -> tuple[int, int, int]:
    """RGB 0..255: hues a golden ratio apart, so that neighbouring classes differ most and every count of classes works."""
    red, green, blue = colorsys.hsv_to_rgb((0.58 + label * 0.6180339887) % 1, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def _tag(canvas: NDArray[np.uint8], text: str, box: NDArray[np.int_], colour: tuple[int, int, int], unit: float) -> None:
    """A filled label on the box's upper edge; inside the box where there is no room above, and never over the picture's edge."""
    font, scale, thickness, pad = cv2.FONT_HERSHEY_SIMPLEX, max(0.4, 0.5 * unit), max(1, round(unit)), max(2, round(3 * unit))
    (width, height), below = cv2.getTextSize(text, font, scale, thickness)
    width, height = width + 2 * pad, height + below + pad
    x = int(max(0, min(box[0], canvas.shape[1] - width)))
    y = int(box[1] - height if box[1] >= height else box[1])
    cv2.rectangle(canvas, (x, y), (x + width, y + height), colour, cv2.FILLED)
    luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    ink = (0, 0, 0) if luma > 140 else (255, 255, 255)
    cv2.putText(canvas, text, (x + pad, y + height - below), font, scale, ink, thickness, cv2.LINE_AA)
