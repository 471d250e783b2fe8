"""Quantiles and their uncertainty when samples come in blocks that are correlated in time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt


def quantile(values: Sequence[float], q: float) -> float:
    """The ``q`` quantile, linear between samples, in the unit of the values."""
    return float(np.quantile(np.asarray(values, dtype=float), q))


def median_interval(
    blocks: Iterable[npt.ArrayLike], rng: np.random.Generator, confidence: float = 0.95, replicates: int = 1000
) -> tuple[float, float]:
    """Interval of the median of all samples, by resampling whole blocks with replacement (percentile bootstrap).

    Samples that follow each other share the machine's state, so resampling single ones makes the interval 1.5 to 2.5
    times too narrow. Blocks may differ in length; empty ones are ignored. The median itself is always inside.
    """
    filled = [b for b in (np.asarray(b, dtype=float) for b in blocks) if len(b)]
    if not filled:
        raise ValueError("no samples")
    values = np.concatenate(filled)
    order = np.argsort(values, kind="stable")
    owner = np.repeat(np.arange(len(filled)), [len(b) for b in filled])[order]
    values = values[order]
    draws = rng.integers(len(filled), size=(replicates, len(filled)))
    counts = np.zeros((replicates, len(filled)), dtype=np.int32)
    np.add.at(counts, (np.arange(replicates)[:, None], draws), 1)
    # A replicate's median is read off the sorted samples weighted by how often their block was drawn: no replicate is
    # ever built or sorted.
    reached = np.cumsum(counts[:, owner], axis=1, dtype=np.int64)
    total = reached[:, -1:]
    medians = (values[np.argmax(2 * reached >= total, axis=1)] + values[np.argmax(2 * reached > total, axis=1)]) / 2
    tail = (1 - confidence) / 2
    low, high = np.quantile(medians, [tail, 1 - tail])
    middle = float(np.median(values))
    return min(float(low), middle), max(float(high), middle)


def order_statistic_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the median of independent samples, in their unit: two of the sorted samples, of ranks n/2 ±
    0.98 √n.

    Normal approximation of the binomial ranks, for n above 70 (Le Boudec, "Performance Evaluation of Computer and
    Communication Systems", 2.2.2); below that the ranks are clamped, and few samples give their whole range.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    n = len(ordered)
    if not n:
        raise ValueError("no samples")
    reach = 0.98 * np.sqrt(n)
    low, high = int(np.floor(n / 2 - reach)), int(np.ceil(n / 2 + 1 + reach))  # ranks from 1
    return float(ordered[max(low, 1) - 1]), float(ordered[min(high, n) - 1])
