"""Matching of detections to objects by the rules of COCO, and average precision (AP) from the matches.

============  ==================================================
symbol        meaning
============  ==================================================
``I``         number of images
``C``         number of classes
``D``         number of detections
``T``         number of IoU thresholds (:data:`IOU_THRESHOLDS`)
``B``         number of weightings of the images, e.g. resamples
============  ==================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.data.dataset import DetectionDataset, Sample
from nas.inference.boxes import coco_iou, to_xywh
from nas.inference.nms import Detections
from search_spaces.errors import InputError

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST = 100
"""Detections per class and image that are evaluated, at most."""
AREAS: Mapping[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""COCO's ranges of object areas in px², both ends included."""

_AT_ONCE = 1 << 18
"""Weights in memory at a time: resamples times detections of a class."""


@dataclass(frozen=True, eq=False)
class Matches:
    """All detections of a data set with their matches, 14 bytes per detection.

    Detections are sorted by class, then by falling score, then by image.

    Args:
        classes: Class names.
        images: Ids of the images, ascending, int64 [I]; Python integers where int64 cannot hold one.
        truths: Number of objects per image and class, without crowds and objects outside the area range, int32 [I, C].
        image: Index into ``images`` of each detection, int32 [D].
        label: Class of each detection, int16 [D].
        score: Score of each detection, float32 [D].
        hit: Bit t is set where the detection is true at ``IOU_THRESHOLDS[t]``, uint16 [D].
        ignored: Bit t is set where the detection is neither true nor false at ``IOU_THRESHOLDS[t]``, uint16 [D].
            A detection with neither bit is false.
    """

    classes: tuple[str, ...]
    images: NDArray[np.int64] | NDArray[np.object_]
    truths: NDArray[np.int32]
    image: NDArray[np.int32]
    label: NDArray[np.int16]
    score: NDArray[np.float32]
    hit: NDArray[np.uint16]
    ignored: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.score)

    def of_class(self, label: int) -> slice:
        """Return the slice of the detections of a class."""
        first, last = np.searchsorted(self.label, [label, label + 1])
        return slice(int(first), int(last))


def match(dataset: DetectionDataset, detections: Mapping[int, Detections], area: str = "all") -> Matches:
    """Match detections to the objects of a data set.

    The matches equal those of pycocotools: in each image and class, detections in the order of falling score each take
    the free object with the highest IoU. A crowd may be taken any number of times.

    Args:
        dataset: The data set.
        detections: Image id -> detections, boxes in pixels of the image. An image without an entry has none.
        area: Area range of COCO, a key of :data:`AREAS`; other objects are ignored.

    Raises:
        InputError: if ``area`` is not a key of :data:`AREAS`.
    """
    if area not in AREAS:
        raise InputError(f"area range {area!r}", f"one of {', '.join(AREAS)}")
    samples = sorted(dataset.samples, key=lambda s: s.id)
    truths = np.zeros((len(samples), len(dataset.classes)), np.int32)
    parts = [_Part.none()]
    for i, sample in enumerate(samples):
        wanted = _wanted(sample, area)
        np.add.at(truths[i], sample.labels[wanted], 1)
        if (found := detections.get(sample.id)) is not None and len(found):
            parts.append(_match_image(i, sample, wanted, found, area))
    columns = [
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("image", "label", "score", "hit", "ignored")
    ]
    order = np.lexsort((columns[0], -columns[2], columns[1]))  # stable: within an image, as they were found
    image, label, score, hit, ignored = (column[order] for column in columns)
    return Matches(dataset.classes, _ids(samples), truths, image, label, score, hit, ignored)


def _ids(samples: Sequence[Sample]) -> NDArray[np.int64] | NDArray[np.object_]:
    ids = [sample.id for sample in samples]
    kept = all(-(2**63) <= id < 2**63 for id in ids)
    return np.array(ids, np.int64) if kept else np.array(ids, np.object_)


@dataclass(frozen=True, eq=False)
class _Part:
    """The columns of :class:`Matches` for one image."""

    image: NDArray[np.int32]
    label: NDArray[np.int16]
    score: NDArray[np.float32]
    hit: NDArray[np.uint16]
    ignored: NDArray[np.uint16]

    @classmethod
    def none(cls) -> _Part:
        return cls(
            np.zeros(0, np.int32),
            np.zeros(0, np.int16),
            np.zeros(0, np.float32),
            np.zeros(0, np.uint16),
            np.zeros(0, np.uint16),
        )


def _wanted(sample: Sample, area: str) -> NDArray[np.bool_]:
    """Return which objects are evaluated, [N]; the others are ignored."""
    low, high = AREAS[area]
    return np.asarray(~sample.crowd & (sample.areas >= low) & (sample.areas <= high))


def _match_image(index: int, sample: Sample, wanted: NDArray[np.bool_], found: Detections, area: str) -> _Part:
    order = _best_of_each_class(found)
    scores, labels = found.scores[order], found.labels[order]
    truth = np.concatenate([np.flatnonzero(wanted), np.flatnonzero(~wanted)])  # those that count come first
    boxes = to_xywh(found.boxes[order])
    ious = coco_iou(boxes, to_xywh(sample.boxes[truth]), sample.crowd[truth])
    ious[labels[:, None] != sample.labels[truth]] = -1
    hit, ignored = _take(ious, sample.crowd[truth], int(wanted.sum()))
    low, high = AREAS[area]
    sizes = boxes[:, 2] * boxes[:, 3]
    ignored |= ~hit & ((sizes < low) | (sizes > high))[:, None]
    bits = (1 << np.arange(len(IOU_THRESHOLDS))).astype(np.uint16)
    packed = [(flags * bits).sum(1).astype(np.uint16) for flags in (hit, ignored)]
    return _Part(np.full(len(order), index, np.int32), labels.astype(np.int16), scores, packed[0], packed[1])


def _best_of_each_class(found: Detections) -> NDArray[np.int64]:
    """Return the indices of the detections that are evaluated, in the order of falling score."""
    order = np.argsort(-found.scores, kind="stable")
    if len(order) <= MOST:
        return order
    by_class = order[np.argsort(found.labels[order], kind="stable")]
    firsts = np.searchsorted(found.labels[by_class], found.labels[by_class])
    worse = by_class[np.arange(len(order)) - firsts >= MOST]
    return order[~np.isin(order, worse)]


def _take(
    ious: NDArray[np.float64], crowd: NDArray[np.bool_], counting: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return (hit, ignored), each [D, T], of one image.

    Detections in the order of falling score take objects [G], of which the first ``counting`` are evaluated. Of equal
    IoUs, the last object is taken.
    """
    hit, ignored = (np.zeros((len(ious), len(IOU_THRESHOLDS)), bool) for _ in range(2))
    free = np.ones((len(IOU_THRESHOLDS), ious.shape[1]), bool)
    rows = np.arange(len(IOU_THRESHOLDS))
    for d in np.flatnonzero(ious.max(1, initial=-1) >= IOU_THRESHOLDS[0]):
        reach = np.where(free & (ious[d] >= IOU_THRESHOLDS[:, None]), ious[d], -1.0)
        for flags, first, end in ((hit, 0, counting), (ignored, counting, ious.shape[1])):
            if first < end:
                best = end - 1 - reach[:, first:end][:, ::-1].argmax(1)
                taken = reach[rows, best] > 0
                flags[d] = taken
                free[rows[taken], best[taken]] = crowd[best[taken]]
                reach[taken] = -1  # a hit takes no ignored object as well
    return hit, ignored


def precisions(matches: Matches, weights: NDArray[np.number] | None = None) -> NDArray[np.float64]:
    """Return AP per class and IoU threshold, float64 [B, C, T], where image i has the weight ``weights[b, i]``.

    AP is NaN where a class has no object. With integer weights, AP equals that of a data set that contains each image
    as many times as its weight. The equality does not cover two detections of one image and class with equal scores,
    whose order is arbitrary.

    Args:
        matches: Matches of the detections.
        weights: Weights of the images [B, I], 0 or more; each image once by default, with B = 1.

    Raises:
        InputError: if ``weights`` has another shape or a negative value.
    """
    weights = np.ones((1, len(matches.images))) if weights is None else np.atleast_2d(weights)
    if weights.ndim != 2 or weights.shape[1] != len(matches.images) or (weights < 0).any():
        raise InputError(
            f"weights of shape {weights.shape}", f"[B, {len(matches.images)}], none below 0: one for each image"
        )
    table = np.full((len(weights), len(matches.classes), len(IOU_THRESHOLDS)), np.nan)
    totals = weights.astype(np.float64) @ matches.truths.astype(np.float64)
    for label in range(len(matches.classes)):
        where = matches.of_class(label)
        rows = max(1, _AT_ONCE // max(1, where.stop - where.start))
        for start in range(0, len(weights), rows):
            part = slice(start, start + rows)
            table[part, label] = _class_precisions(matches, where, weights[part], totals[part, label])
    return table


def _class_precisions(
    matches: Matches, where: slice, weights: NDArray[np.number], total: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return AP [B, T] of the detections ``where``, all of one class with ``total`` [B] objects."""
    table = np.zeros((len(weights), len(IOU_THRESHOLDS)))
    drawn = weights[:, matches.image[where]]
    so_far = _running(drawn)
    for t in range(len(IOU_THRESHOLDS)):
        hits, ignored = (np.flatnonzero(bits[where] >> t & 1) for bits in (matches.hit, matches.ignored))
        all_ = so_far[:, hits + 1]
        if len(ignored):
            all_ = all_ - _running(drawn[:, ignored])[:, np.searchsorted(ignored, hits)]
        table[:, t] = _area_under(np.cumsum(drawn[:, hits], axis=1), all_, total)
    table[total <= 0] = np.nan
    return table


def _running(counts: NDArray[np.number]) -> NDArray[np.number]:
    """Return the sums of the first 0..N columns, [B, N + 1]."""
    return np.concatenate(
        [np.zeros((len(counts), 1), counts.dtype), np.cumsum(counts, axis=1, dtype=counts.dtype)], axis=1
    )


def _area_under(right: NDArray[np.number], all_: NDArray[np.number], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return AP [B] from the numbers [B, H] of true and of all detections down to each hit.

    Precision has its local maxima at hits, so that other points do not matter. Each recall of :data:`RECALLS` has the
    highest precision at or after the first hit that reaches it, 0 where none does; AP is the mean of these precisions.
    """
    precision = np.divide(right, all_, out=np.zeros(right.shape), where=all_ > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = np.divide(right, total[:, None], out=np.zeros(right.shape), where=total[:, None] > 0)
    reached = np.searchsorted(RECALLS, recall, side="right")
    return np.asarray((envelope * np.diff(reached, axis=1, prepend=0)).sum(1) / len(RECALLS))


def average_precision(
    matches: Matches, weights: NDArray[np.number] | None = None, iou: float | None = None
) -> NDArray[np.float64]:
    """Return mAP, float64 [B], where image i has the weight ``weights[b, i]``.

    mAP is the mean of AP over the classes that have objects and over :data:`IOU_THRESHOLDS`, or at the threshold
    nearest to ``iou`` only. It is NaN where no class has objects. Without weights, B = 1 and mAP equals ``map`` of
    :func:`nas.inference.coco_metrics.evaluate`.

    Raises InputError as :func:`precisions`.
    """
    table = precisions(matches, weights)
    if iou is not None:
        nearest = int(np.abs(IOU_THRESHOLDS - iou).argmin())
        table = table[:, :, nearest : nearest + 1]
    there = ~np.isnan(table)
    counts = there.sum((1, 2))
    sums = np.where(there, table, 0).sum((1, 2))
    return np.divide(sums, counts, out=np.full(len(table), np.nan), where=counts > 0)
