"""Precision by recall and F1 by score, of each class and of all, at IoU 0.50."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.evaluation.matching import RECALLS, Matches

SCORES = np.linspace(0.0, 1.0, 201)
"""Where the F1 curves are drawn."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Of one class at IoU 0.50: ``precision`` [101] at ``RECALLS`` (what AP50 is the mean of) and ``f1`` [201] at
    ``SCORES``; best F1 and where."""

    name: str
    precision: NDArray[np.float64]
    f1: NDArray[np.float64]
    best_f1: float
    best_score: float


def _counts(matches: Matches, label: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64], int]:
    """Of a class at IoU 0.50: scores downwards, hits and detections down to each, and the number of objects."""
    where = matches.of_class(label)
    counted = matches.ignored[where] & 1 == 0
    hits = (matches.hit[where] & 1)[counted].astype(np.int64)
    return (
        matches.score[where][counted],
        np.cumsum(hits),
        np.arange(1, len(hits) + 1),
        int(matches.truths[:, label].sum()),
    )


def curve_of(matches: Matches, label: int) -> Curve:
    """The curves of a class that has objects."""
    scores, right, all_, total = _counts(matches, label)
    envelope = np.append(np.maximum.accumulate((right / all_)[::-1])[::-1], 0.0)
    precision = envelope[np.searchsorted(right / total, RECALLS)]
    f1 = np.append(_f1(scores, right, all_, total), 0.0)
    reached = np.searchsorted(-scores, -SCORES.astype(scores.dtype), side="right")  # detections of at least that score
    best = int(f1.argmax())
    below = float(scores[best + 1]) if best + 1 < len(scores) else 0.0
    at = (float(scores[best]) + below) / 2 if len(scores) else 0.0
    return Curve(matches.classes[label], precision, np.where(reached > 0, f1[reached - 1], 0.0), float(f1[best]), at)


def _f1(
    scores: NDArray[np.float32], right: NDArray[np.int64], all_: NDArray[np.int64], total: int
) -> NDArray[np.float64]:
    """F1 down to each detection; 0 where the next one has the same score, since no threshold divides them."""
    parted = np.append(scores[1:] != scores[:-1], True)[: len(scores)]
    return np.asarray(np.where(parted, 2 * right / (all_ + total), 0.0))


def mean_of(curves: Sequence[Curve]) -> Curve:
    """The mean of all, its best place the middle one where several are as good."""
    precision, f1 = (np.mean([getattr(c, name) for c in curves], axis=0) for name in ("precision", "f1"))
    best = np.flatnonzero(f1 == f1.max())
    middle = int(best[len(best) // 2])
    return Curve("all classes", precision, f1, float(f1[middle]), float(SCORES[middle]))


def best_of(
    matches: Matches, label: int, curve: Curve
) -> tuple[float | None, float | None, float | None, float | None]:
    """Score, F1, precision and recall where F1 is best; None where nothing was found."""
    scores, right, all_, total = _counts(matches, label)
    if not len(scores):
        return None, None, None, None
    at = int(_f1(scores, right, all_, total).argmax())
    return curve.best_score, curve.best_f1, float(right[at] / all_[at]), float(right[at] / total)
