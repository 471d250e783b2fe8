"""The mathematics of selective quantization: sets of blocks kept in floating point, between all int8 and all float.

Latency and distortion of a set S are modelled as sums over blocks; every set that is reported is measured as a whole.

========  =============================================================================================
b         a block
S         the blocks kept in floating point; the others are int8
t(S)      latency, ms: t(S) = t_0 + Σ_{b in S} c_b
t_0       latency of all int8, ms
c_b       cost of block b: ms more in floating point than in int8
d(S)      distortion (:func:`nas.quantization.runtime_accuracy.distortion`): d(S) = Σ_{b not in S} l_b
l_b       loss of block b: the distortion with b alone in int8
m_b       multiply-accumulates of block b
========  =============================================================================================

The sums leave out the conversions at the borders of float blocks; measured sets correct the costs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_db.predictor.linear import linear_posterior
from nas.core.estimate import Estimate
from nas.core.pareto import hypervolume, non_dominated
from nas.core.units import change_of_map
from search_spaces.errors import InputError

FloatBlocks = frozenset[str]
"""Names of the blocks kept in floating point."""
Floats = NDArray[np.float64]

PRIOR = 0.5
"""Prior standard deviation of a block's cost, relative to its prior mean."""
NOISE = 0.01
"""Smallest standard deviation of a measured latency, relative to it."""


@dataclass(frozen=True)
class SelectionPoint:
    """A measured set: its mAP50-95 (0..1), the distortion of its outputs, and its latency, all in the runtime."""

    kept_float: FloatBlocks
    map: float
    distortion: float
    latency: Estimate

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "left_float": sorted(self.kept_float),
            "map": self.map,
            "distortion": self.distortion,
            "latency": self.latency.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SelectionPoint:
        """Inverse of :meth:`to_dict`."""
        return cls(
            frozenset(data["left_float"]),
            float(data["map"]),
            float(data["distortion"]),
            Estimate.from_dict(data["latency"]),
        )


@dataclass(frozen=True)
class BlockCostModel:
    """Costs and losses of blocks.

    Attributes:
        blocks: names, (B,).
        base_ms: t_0, ms.
        cost_ms: c_b, (B,), ms.
        loss: l_b, (B,).
    """

    blocks: tuple[str, ...]
    base_ms: float
    cost_ms: Floats
    loss: Floats

    def latency(self, plan: Collection[str]) -> float:
        """Predict the latency t(S) of a set, ms."""
        return self.base_ms + float(self.cost_ms[self._inside(plan)].sum())

    def distortion(self, plan: Collection[str]) -> float:
        """Predict the distortion d(S) of a set."""
        return float(self.loss[~self._inside(plan)].sum())

    def _inside(self, plan: Collection[str]) -> NDArray[np.bool_]:
        return np.array([b in plan for b in self.blocks])

    def path(self) -> list[FloatBlocks]:
        """Order sets from all int8 to all float: the block that removes most distortion per millisecond comes next.

        Up to the size of single blocks these are the best sets of this model (greedy solution of the fractional
        knapsack, Dantzig 1957).
        """
        least = 1e-3 * max(float(np.abs(self.cost_ms).max()), 1e-9)
        order = np.argsort(-self.loss / np.maximum(self.cost_ms, least), kind="stable")
        plans = [frozenset[str]()]
        for i in order:
            plans.append(plans[-1] | {self.blocks[i]})
        return plans


def fit_cost_model(
    blocks: Sequence[str],
    macs: Sequence[float],
    loss: Sequence[float],
    measured: Sequence[SelectionPoint],
    float_ms: float,
) -> BlockCostModel:
    """Fit the costs of blocks to measured sets by Bayesian linear regression.

    The prior mean of c_b is the block's share of the multiply-accumulates, (m_b / Σ m) (t_float − t_0). Each measured
    set S observes t(S) − t_0 = Σ_{b in S} c_b, with its interval as noise.

    Args:
        blocks: names, (B,).
        macs: m_b, (B,).
        loss: l_b, (B,).
        measured: measured sets; the set of no block (all int8) is among them.
        float_ms: latency of all float, ms.
    """
    base = next(p.latency.value for p in measured if not p.kept_float)
    share = np.asarray(macs, np.float64) / max(float(np.sum(macs)), 1.0)
    more = float_ms - base
    mean = share * more
    deviation = PRIOR * np.abs(mean) + 0.1 * abs(more) / max(len(blocks), 1) + 1e-9
    partial = [p for p in measured if p.kept_float]
    kept = np.array([[b in p.kept_float for b in blocks] for p in partial], np.float64).reshape(-1, len(blocks))
    cost_ms, _ = linear_posterior(
        kept,
        np.array([p.latency.value - base for p in partial]),
        noise=np.array([_noise(p.latency) for p in partial]),
        prior_mean=mean,
        prior_deviation=deviation,
    )
    return BlockCostModel(tuple(blocks), base, cost_ms, np.asarray(loss, np.float64))


def _noise(latency: Estimate) -> float:
    """Return the standard deviation of a measured latency, ms."""
    half = 0.0 if latency.low is None or latency.high is None else (latency.high - latency.low) / 2
    return max(half / 1.96, NOISE * latency.value)


def spread_along_path(model: BlockCostModel, count: int) -> list[FloatBlocks]:
    """Choose ``count`` sets of the model's path with evenly spread predicted latencies; the ends are left out."""
    inner = model.path()[1:-1]
    if len(inner) <= count:
        return inner
    times = np.array([model.latency(p) for p in inner])
    wanted = np.linspace(times.min(), times.max(), count)
    chosen: dict[FloatBlocks, None] = {}
    for t in wanted:
        chosen[min((p for p in inner if p not in chosen), key=lambda p: abs(model.latency(p) - t))] = None
    return list(chosen)


def neighbours(plan: FloatBlocks, blocks: Iterable[str]) -> Iterator[FloatBlocks]:
    """Yield the sets with one block more, one less, or one exchanged."""
    others = [b for b in blocks if b not in plan]
    for b in others:
        yield plan | {b}
    for a in sorted(plan):
        yield plan - {a}
        for b in others:
            yield plan - {a} | {b}


def propose_blocks(model: BlockCostModel, measured: Sequence[SelectionPoint], float_ms: float) -> FloatBlocks | None:
    """Propose the neighbour of the front with the largest predicted hypervolume improvement in (latency, distortion).

    A neighbour is predicted as its measured set plus the model's difference to it, so that errors that both share
    cancel.

    Returns:
        The set, or None if none is predicted to improve the front.
    """
    front = [p for p, kept in zip(measured, _undominated(measured), strict=True) if kept]
    known = {p.kept_float for p in measured}
    reference = (max(float_ms, *(p.latency.value for p in measured)) * 1.01, max(p.distortion for p in measured) * 1.01)
    rows = [(p.latency.value, p.distortion) for p in front]
    before = hypervolume(rows, reference, ["min", "min"])
    best: tuple[float, FloatBlocks] | None = None
    for p in front:
        own_ms, own_loss = model.latency(p.kept_float), model.distortion(p.kept_float)
        for plan in neighbours(p.kept_float, model.blocks):
            if plan in known or len(plan) == len(model.blocks):
                continue
            row = (
                p.latency.value + model.latency(plan) - own_ms,
                max(0.0, p.distortion + model.distortion(plan) - own_loss),
            )
            if any(ms <= row[0] and moved <= row[1] for ms, moved in rows):
                continue
            gain = hypervolume([*rows, row], reference, ["min", "min"]) - before
            if gain > 0 and (best is None or gain > best[0]):
                best = (gain, plan)
    return None if best is None else best[1]


def _undominated(points: Sequence[SelectionPoint]) -> NDArray[np.bool_]:
    return non_dominated([(p.latency.value, p.distortion) for p in points], ["min", "min"])


def selection_front(points: Sequence[SelectionPoint], float_ms: float = float("inf")) -> list[SelectionPoint]:
    """Return the Pareto front in latency and mAP, fastest first; sets that are not faster than the float model are left
    out.
    """
    faster = [p for p in points if p.latency.value < float_ms]
    mask = non_dominated([(p.latency.value, p.map) for p in faster], ["min", "max"])
    return sorted((p for p, kept in zip(faster, mask, strict=True) if kept), key=lambda p: p.latency.value)


def choose_point(
    points: Sequence[SelectionPoint], float_map: float, max_drop: float | None = None, budget_ms: float | None = None
) -> SelectionPoint:
    """Choose a point: the fastest within ``max_drop`` points of mAP, or the most accurate within ``budget_ms``.

    Without both, it is the fastest that loses at most half a point.

    Raises:
        InputError: if no point meets the bounds; the front is listed.
    """
    if not points:
        raise InputError(
            "no set of int8 blocks that is faster than the float model",
            "one",
            "the machine was busy, or int8 gains nothing on this target",
        )
    if budget_ms is not None:
        within = [
            p
            for p in points
            if p.latency.value <= budget_ms and (max_drop is None or points_lost(p, float_map) <= max_drop)
        ]
        key: Callable[[SelectionPoint], Any] = lambda p: (-p.map, p.latency.value)  # noqa: E731
        asked = f"{budget_ms:g} ms" + ("" if max_drop is None else f" and a drop of {max_drop:g} points")
    else:
        bound = 0.5 if max_drop is None else max_drop
        within = [p for p in points if points_lost(p, float_map) <= bound]
        key, asked = (lambda p: p.latency.value), f"a drop of {bound:g} points"
    if within:
        return min(within, key=key)
    points_of_front = ", ".join(
        f"{p.latency.value:.3g} ms with {change_of_map(points_lost(p, float_map))}" for p in selection_front(points)
    )
    raise InputError(
        f"no selection within {asked}; there are {points_of_front}",
        "bounds that one of them meets",
        "or search longer: --trials",
    )


def points_lost(point: SelectionPoint, float_map: float) -> float:
    """Return the points of mAP (hundredths) that a set loses, rounded to the precision of a bound."""
    return round(100 * (float_map - point.map), 6)
