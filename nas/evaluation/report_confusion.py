"""Errors in each image at one IoU and one score: objects of a wrong class, missed objects, false detections."""

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
    """The matches of one image with N objects.

    Args:
        found: The K detections with at least the score.
        takes: Index of the object that each detection takes, int64 [K]; -1 for none.
        excused: Whether a detection takes no object but lies in a crowd, bool [K].
        right: Whether a detection has the class of its object, bool [K].
        met: Whether a detection of the right class takes the object, bool [N]; True for crowds.
    """

    found: Detections
    takes: NDArray[np.int64]
    excused: NDArray[np.bool_]
    right: NDArray[np.bool_]
    met: NDArray[np.bool_]

    @property
    def errors(self) -> int:
        """The number of false detections and missed objects."""
        return int((~self.right & ~self.excused).sum() + (~self.met).sum())

    @property
    def f1(self) -> float:
        """F1 score, 2 right / (2 right + errors); 1 for an image without objects and without detections."""
        right = 2 * int(self.right.sum())
        return right / (right + self.errors) if right or self.errors else 1.0


def judge(sample: Sample, detections: Detections, iou: float, score: float) -> Verdict:
    """Match the detections of one image that have at least ``score``.

    In the order of falling score, each detection takes the free object of its class with the highest IoU, at least
    ``iou``. The remaining detections then take free objects of any class by the same rule.
    """
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
    """Return whether a share of at least ``iou`` of a detection lies in a crowd of its class, bool [K]."""
    inside = np.zeros(len(found), bool)
    sizes = areas(found.boxes)
    for crowd in np.flatnonzero(sample.crowd):
        shared = intersection(found.boxes, sample.boxes[crowd])
        inside |= (shared >= iou * sizes) & (sizes > 0) & (found.labels == sample.labels[crowd])
    return inside


@dataclass(frozen=True, eq=False)
class Confusion:
    """A confusion matrix ``counts``, int64 [C + 1, C + 1], at ``iou`` and ``score``.

    Rows are the classes of objects, columns the classes of the detections that take them. The last row has the false
    detections, the last column the missed objects.
    """

    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    iou: float
    score: float

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the rows and columns."""
        return (*self.classes, BACKGROUND)

    @property
    def shares(self) -> NDArray[np.float64]:
        """``counts`` divided by the sum of their row, float64 [C + 1, C + 1]; 0 in a row whose sum is 0."""
        totals = self.counts.sum(1, keepdims=True)
        return np.divide(self.counts, totals, out=np.zeros(self.counts.shape), where=totals > 0)

    def to_dict(self) -> dict[str, Any]:
        """Return the matrix JSON-ready."""
        return {"iou": self.iou, "score": self.score, "names": list(self.names), "counts": self.counts.tolist()}


def confusion_of(dataset: DetectionDataset, verdicts: Sequence[Verdict], iou: float, score: float) -> Confusion:
    """Return the confusion matrix of all images. Crowds and detections inside them are left out."""
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
