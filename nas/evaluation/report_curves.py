"""Curves of precision over recall and of F1 over the score threshold at IoU 0.50, per class and as a mean.

All curves of an evaluation have the same score thresholds: a uniform grid, and the best threshold of each class. With
one class, the mean curve and its best threshold thus equal those of the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.evaluation.matching import RECALLS, Matches

SCORES = np.linspace(0.0, 1.0, 201)
"""Score thresholds of every curve, in addition to the best ones of the classes."""


@dataclass(frozen=True, eq=False)
class Curve:
    """The curves of one class, or the mean of all, at IoU 0.50.

    Attributes:
        name: Name of the class.
        precision: Highest precision at each of ``RECALLS`` or any higher recall, [101]; AP50 is its mean.
        scores: Score thresholds, rising, [T]; detections with at least that score count.
        f1: F1 at each of ``scores``, [T].
        best_f1: The highest F1.
        best_score: The threshold with the highest F1.
    """

    name: str
    precision: NDArray[np.float64]
    scores: NDArray[np.float64]
    f1: NDArray[np.float64]
    best_f1: float
    best_score: float


@dataclass(frozen=True)
class BestThreshold:
    """Score threshold of the highest F1 of a class, and F1, precision and recall there, each 0..1."""

    score: float
    f1: float
    precision: float
    recall: float


@dataclass(frozen=True, eq=False)
class _Counts:
    """Detections of a class at IoU 0.50, best first, [D]: score, hits and detections up to there; number of objects."""

    scores: NDArray[np.float32]
    right: NDArray[np.int64]
    all_: NDArray[np.int64]
    total: int

    @classmethod
    def of(cls, matches: Matches, label: int) -> _Counts:
        where = matches.of_class(label)
        counted = matches.ignored[where] & 1 == 0
        hits = (matches.hit[where] & 1)[counted].astype(np.int64)
        total = int(matches.truths[:, label].sum())
        return cls(matches.score[where][counted], np.cumsum(hits), np.arange(1, len(hits) + 1), total)

    @property
    def f1(self) -> NDArray[np.float64]:
        """F1 up to each detection; 0 where the next one has the same score, since no threshold divides them."""
        parted = np.append(self.scores[1:] != self.scores[:-1], True)[: len(self.scores)]
        return np.asarray(np.where(parted, 2 * self.right / (self.all_ + self.total), 0.0))

    def best(self) -> BestThreshold | None:
        """The highest F1, its threshold in the middle of the scores around it; None without detections."""
        if not len(self.scores):
            return None
        f1 = self.f1
        at = int(f1.argmax())
        last, below = self.scores[at], self.scores[at + 1] if at + 1 < len(self.scores) else np.float32(0)
        middle = np.float32((last + below) / 2)
        score = middle if below < middle <= last else last  # no number lies between two neighbours
        recall = float(self.right[at] / self.total)
        return BestThreshold(float(score), float(f1[at]), float(self.right[at] / self.all_[at]), recall)

    def f1_at(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """F1 [T] of the detections with at least the score, for each threshold [T]."""
        reached = np.searchsorted(-self.scores, -scores.astype(self.scores.dtype), side="right")
        right = np.append(0, self.right)[reached]
        return np.asarray(2 * right / (reached + self.total))

    def precision(self) -> NDArray[np.float64]:
        """Highest precision at each of ``RECALLS`` or any higher recall, [101]."""
        envelope = np.append(np.maximum.accumulate((self.right / self.all_)[::-1])[::-1], 0.0)
        return np.asarray(envelope[np.searchsorted(self.right / self.total, RECALLS)])


def best_threshold(matches: Matches, label: int) -> BestThreshold | None:
    """Return the threshold of the highest F1 of a class that has objects; None if nothing was detected."""
    return _Counts.of(matches, label).best()


def curves_of(matches: Matches) -> tuple[tuple[Curve, ...], Curve]:
    """Return the curves of the classes that have objects, and their mean."""
    labels = [label for label in range(len(matches.classes)) if matches.truths[:, label].any()]
    counts = [_Counts.of(matches, label) for label in labels]
    best = [c.best() or BestThreshold(0.0, 0.0, 0.0, 0.0) for c in counts]
    scores = np.union1d(SCORES, [b.score for b in best])
    curves = tuple(
        Curve(matches.classes[label], c.precision(), scores, c.f1_at(scores), b.f1, b.score)
        for label, c, b in zip(labels, counts, best, strict=True)
    )
    return curves, _mean(curves, scores)


def _mean(curves: Sequence[Curve], scores: NDArray[np.float64]) -> Curve:
    """The mean of all; of several thresholds that are as good the middle one, that of a class if it is among them."""
    precision, f1 = (np.mean([getattr(c, name) for c in curves], axis=0) for name in ("precision", "f1"))
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    own = [i for i in best if any(scores[i] == c.best_score for c in curves)]
    middle = int((own or best)[len(own or best) // 2])
    return Curve("all classes", precision, scores, f1, float(f1[middle]), float(scores[middle]))
