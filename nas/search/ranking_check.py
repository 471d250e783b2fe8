"""Whether the supernet ranks candidates reliably, checked before a search relies on it.

A few candidates are evaluated on two disjoint halves of the evaluation images.

==========  =========================================================================================
n           candidates, :data:`CANDIDATES`, the smallest and the largest among them
a, b (n,)   accuracies on the two halves
r           Spearman's rank correlation of a and b
rho         reliability of the whole set, 2 r / (1 + r) (Spearman-Brown), 0 for r <= 0
spread      standard deviation of (a + b) / 2 over candidates
half        mean half-width of the candidates' 95 % intervals
==========  =========================================================================================
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import mean, pstdev

from nas.core.precision_choice import id_of
from nas.core.reporter import Reporter
from nas.estimators.base import Estimator
from search_spaces.space import SearchSpace

CANDIDATES = 8
RELIABLE = 0.5
"""Reliability below which a ranking is reported as unreliable."""


@dataclass(frozen=True)
class RankingCheck:
    """Reliability of a ranking.

    Args:
        reliability: rho, 0..1.
        spread: Standard deviation of the candidates' accuracies.
        half_width: Mean half-width of their 95 % intervals.
        largest: Accuracy of the largest candidate.
        candidates: Number of candidates.
    """

    reliability: float
    spread: float
    half_width: float
    largest: float
    candidates: int

    @property
    def reliable(self) -> bool:
        """Whether the candidates differ by more than noise."""
        return self.reliability >= RELIABLE

    def __str__(self) -> str:
        text = (
            f"supernet: accuracy of the largest network {self.largest:.3f}; {self.candidates} candidates spread by "
            f"{self.spread:.3f} at intervals of ± {self.half_width:.3f}; split-half reliability {self.reliability:.2f}"
        )
        if self.reliable:
            return text
        advice = "train the supernet longer (--epochs N) or use --accuracy nwot"
        return f"{text}. The ranking is unreliable: {advice}"


def check_ranking(estimator: Estimator, points: SearchSpace, seed: int, reporter: Reporter) -> RankingCheck | None:
    """Evaluate a few candidates on both halves of the evaluation images.

    Args:
        estimator: Estimator of the accuracy.
        points: Points of the search.
        seed: Seed of the candidates.
        reporter: Receives the progress.

    Returns None if the estimator has no halves, or a half has no object.
    """
    rng = random.Random(f"{seed}/ranking")
    sample = [points.smallest, points.largest]
    sample += [points.sample(rng) for _ in range(4 * CANDIDATES)]
    sample = list({id_of(p): p for p in sample}.values())[:CANDIDATES]
    halves, widths, largest = [], [], 0.0
    with reporter.steps("checking the ranking of the supernet") as update:
        update(0, len(sample), "")
        for done, point in enumerate(sample, 1):
            found = estimator.split_half(point)
            if found is None:
                return None
            halves.append(found)
            estimate = estimator(point)
            widths.append(0.0 if estimate.low is None or estimate.high is None else (estimate.high - estimate.low) / 2)
            largest = estimate.value if point == points.largest else largest
            update(done, len(sample), f"{estimate.value:.3f}")
    middle = [mean(pair) for pair in halves]
    return RankingCheck(split_half_reliability(halves), pstdev(middle), mean(widths), largest, len(sample))


def split_half_reliability(halves: list[tuple[float, float]]) -> float:
    """Return rho of pairs of scores on two halves; 0 if a half does not distinguish the candidates."""
    from scipy.stats import spearmanr

    if len(halves) < 3 or any(len(set(column)) < 2 for column in zip(*halves, strict=True)):
        return 0.0
    r = float(spearmanr(*zip(*halves, strict=True)).statistic)
    return 2 * r / (1 + r) if r > 0 else 0.0
