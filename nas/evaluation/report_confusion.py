"""What went wrong in each image at one IoU and one score: found, taken for another class, missed, made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.data.dataset import DetectionDataset, Sample
from nas.inference.boxes import areas, intersection, pairwise_iou
from nas.inference.nms import Detections

BACKGROUND = "background"


@dataclass(frozen=True, eq=False)
class Verdict:
    """One image: ``found``, its K detections of at least the score, and for each the object it takes, int64 [K]
    (-1: none); ``excused`` bool [K]: takes none but lies in a crowd. ``right`` bool [K]: of the object's class.
    ``met`` bool [N]: objects that a right detection takes; crowds count as met."""

    found: Detections
    takes: NDArray[np.int64]
    excused: NDArray[np.bool_]
    right: NDArray[np.bool_]
    met: NDArray[np.bool_]

    @property
    def errors(self) -> int:
        """False detections and missed objects."""
        return int((~self.right & ~self.excused).sum() + (~self.met).sum())

    @property
    def f1(self) -> float:
        """2 right / (2 right + errors); 1 where there is nothing to find and nothing was found."""
        right = 2 * int(self.right.sum())
        return right / (right + self.errors) if right or self.errors else 1.0


def judge(sample: Sample, detections: Detections, iou: float, score: float) -> Verdict:
    """Surest first, a detection takes the free object of its class with the best IoU of at least ``iou``; what is
    left over then takes any free object so."""
    kept = np.flatnonzero(detections.scores >= score)
    kept = kept[np.argsort(-detections.scores[kept], kind="stable")]
    found = Detections(detections.boxes[kept], detections.scores[kept], detections.labels[kept])
    ious = pairwise_iou(found.boxes.astype(np.float64), sample.boxes.astype(np.float64))
    ious[:, sample.crowd] = 0
    takes = np.full(len(found), -1)
    free = ~sample.crowd
    alike = found.labels[:, None] == sample.labels
    for allowed in (alike, ~alike):
        for i in np.flatnonzero(takes < 0):
            reach = np.where(free & allowed[i], ious[i], 0)
            if len(reach) and reach.max() >= iou:
                takes[i] = reach.argmax()
                free[takes[i]] = False
    right = np.array([t >= 0 and sample.labels[t] == label for t, label in zip(takes, found.labels, strict=True)], bool)
    met = sample.crowd.copy()
    met[takes[right]] = True
    return Verdict(found, takes, (takes < 0) & _in_crowd(sample, found, iou), right, met)


def _in_crowd(sample: Sample, found: Detections, iou: float) -> NDArray[np.bool_]:
    """[K]: whether a share of at least ``iou`` of a detection lies in a crowd of its class."""
    inside = np.zeros(len(found), bool)
    sizes = areas(found.boxes)
    for crowd in np.flatnonzero(sample.crowd):
        shared = intersection(found.boxes, sample.boxes[crowd])
        inside |= (shared >= iou * sizes) & (sizes > 0) & (found.labels == sample.labels[crowd])
    return inside


@dataclass(frozen=True, eq=False)
class Confusion:
    """``counts`` int64 [C + 1, C + 1] at ``iou`` and ``score``: row, what an object is; column, what it was found as.
    Last row: found where nothing is; last column: not found."""

    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    iou: float
    score: float

    @property
    def names(self) -> tuple[str, ...]:
        """Of rows and columns."""
        return (*self.classes, BACKGROUND)

    @property
    def shares(self) -> NDArray[np.float64]:
        """``counts`` as parts of their row; a row of nothing is 0."""
        totals = self.counts.sum(1, keepdims=True)
        return np.divide(self.counts, totals, out=np.zeros(self.counts.shape), where=totals > 0)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"iou": self.iou, "score": self.score, "names": list(self.names), "counts": self.counts.tolist()}


def confusion_of(dataset: DetectionDataset, verdicts: Sequence[Verdict], iou: float, score: float) -> Confusion:
    """All images together. Crowds, and what lies in them, are left out."""
    nothing = len(dataset.classes)
    counts = np.zeros((nothing + 1, nothing + 1), np.int64)
    for sample, verdict in zip(dataset.samples, verdicts, strict=True):
        taken = verdict.takes >= 0
        np.add.at(counts, (sample.labels[verdict.takes[taken]], verdict.found.labels[taken]), 1)
        false = ~taken & ~verdict.excused
        np.add.at(counts, (np.full(int(false.sum()), nothing), verdict.found.labels[false]), 1)
        missed = ~sample.crowd
        missed[verdict.takes[taken]] = False
        np.add.at(counts, (sample.labels[missed], np.full(int(missed.sum()), nothing)), 1)
    return Confusion(dataset.classes, counts, iou, score)
