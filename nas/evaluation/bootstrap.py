"""How far an mAP would move with other images of the same kind: bootstrap over images.

An image, not a box, is what was drawn at random, so whole images are drawn again. All resamples are evaluated at
once from the matches. Intervals are bias-corrected percentiles (Efron 1981, doi:10.2307/3314608): AP of few images
is too high, and that of resamples once more so. In a simulation with 300 images they held the mAP of the whole
population in 95 % of draws, plain percentiles in 91 % (tests/nas/evaluation/test_bootstrap.py has a short form of it).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from nas.core.estimate import Estimate
from nas.evaluation.matching import Matches, average_precision
from search_spaces.errors import InputError

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """Two detectors on the same images: mAP of ``a`` and ``b`` and of a - b, each with its 95 % interval, and the
    share of resamples in which a is ahead."""

    a: Estimate
    b: Estimate
    difference: Estimate
    ahead: float

    @property
    def certain(self) -> bool:
        """Whether the interval of the difference leaves out 0."""
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and (low > 0 or high < 0)

    def to_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "difference": self.difference.to_dict(),
            "ahead": self.ahead,
            "certain": self.certain,
        }


def resamples(images: int, count: int = RESAMPLES, seed: int = 0) -> NDArray[np.int32]:
    """[count, images]: how often each image is drawn when as many as there are are drawn, each time from all."""
    if images < 1 or count < 1:
        raise InputError(f"{count} resamples of {images} images", "1 or more of both")
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, np.full(images, 1 / images), size=count).astype(np.int32)


def map_interval(matches: Matches, count: int = RESAMPLES, seed: int = 0, iou: float | None = None) -> Estimate:
    """mAP (0..1; exactly the evaluator's) with its 95 % interval; ``iou``: at one threshold. A resample without any
    object is left out."""
    drawn = average_precision(matches, resamples(len(matches.images), count, seed), iou)
    return _estimate("map", float(average_precision(matches, iou=iou)[0]), drawn)


def compare(a: Matches, b: Matches, count: int = RESAMPLES, seed: int = 0, iou: float | None = None) -> Difference:
    """Two detectors on the same images, both evaluated on the same resamples: what the images do to both alike
    drops out of the difference.

    InputError unless both are of the same images and classes.
    """
    if a.classes != b.classes or not np.array_equal(a.images, b.images) or not np.array_equal(a.truths, b.truths):
        raise InputError("matches of two different data sets", "the same images, objects and classes")
    weights = resamples(len(a.images), count, seed)
    drawn_a, drawn_b = (average_precision(m, weights, iou) for m in (a, b))
    at_a, at_b = (float(average_precision(m, iou=iou)[0]) for m in (a, b))
    gain = drawn_a - drawn_b
    gain = gain[~np.isnan(gain)]
    ahead = float((gain > 0).mean() + (gain == 0).mean() / 2)
    return Difference(
        _estimate("map", at_a, drawn_a),
        _estimate("map", at_b, drawn_b),
        _estimate("map_difference", at_a - at_b, gain),
        ahead,
    )


def _estimate(name: str, value: float, drawn: NDArray[np.float64]) -> Estimate:
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        raise InputError("no resample has an object to find", "images with objects")
    low, high = np.quantile(drawn, _levels(value, drawn))
    return Estimate(name, value, low=float(low), high=float(high), source="computed")


def _levels(value: float, drawn: NDArray[np.float64]) -> list[float]:
    """Which quantiles of the resamples are the ends: 2.5 % and 97.5 %, moved by twice as far as ``value`` is from
    their median."""
    normal, half = NormalDist(), 0.5 / len(drawn)
    below = float((drawn < value).mean() + (drawn == value).mean() / 2)
    shift = normal.inv_cdf(min(max(below, half), 1 - half))
    return [normal.cdf(2 * shift + normal.inv_cdf(level)) for level in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]
