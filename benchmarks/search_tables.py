"""Tables of trained networks as problems for a search: every answer is known, so searches can be compared at the number of answers they asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from nas.front import hypervolume, non_dominated

Floats = NDArray[np.float64]
Params = Mapping[str, Any]
DIRECTIONS = ("min", "max")


@dataclass(frozen=True)
class Problem:
    """Latency (to minimise) and accuracy (to maximise) of the rows of a table, and the space that they are points of.

    ``free``: columns that cost nothing. ``zero_cost``: which of them stands for accuracy; ``guess_cost``: which one for latency, where that has to be
    measured. ``log``: whether the hypervolume is of log latency. ``whole``: every point of the space is a row.
    """

    name: str
    space: Mapping[str, BaseDistribution]
    rows: tuple[Params, ...]
    latency: Floats
    accuracy: Floats
    free: Mapping[str, Floats]
    zero_cost: str
    guess_cost: str
    log: bool
    whole: bool
    reference: tuple[float, float] = field(init=False)
    true: float = field(init=False)
    _index: dict[tuple[Any, ...], int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", {self._key(row): i for i, row in enumerate(self.rows)})
        points = self._scaled(np.arange(len(self.rows)))
        if self.whole:  # a space of cells holds networks that do not learn at all: the worst of the front instead, a tenth further out
            front = points[non_dominated(points, DIRECTIONS)]
            low, high = front.min(0), front.max(0)
            reference = (high[0] + 0.1 * (high[0] - low[0]), low[1] - 0.1 * (high[1] - low[1]))
        else:
            reference = (points[:, 0].max(), points[:, 1].min())
        object.__setattr__(self, "reference", tuple(float(r) for r in reference))
        object.__setattr__(self, "true", hypervolume(points, reference, DIRECTIONS))

    def _key(self, params: Params) -> tuple[Any, ...]:
        return tuple(params[name] for name in sorted(self.space))

    def _scaled(self, rows: NDArray[np.intp]) -> Floats:
        latency = self.latency[rows]
        return np.column_stack([np.log(latency) if self.log else latency, self.accuracy[rows]])

    def row(self, params: Params) -> int | None:
        """The row of a point; none where the table has no such network."""
        return self._index.get(self._key(params))

    def answer(self, row: int) -> tuple[float, float]:
        """Latency in ms and accuracy of a row."""
        return float(self.latency[row]), float(self.accuracy[row])

    @property
    def worst(self) -> tuple[float, float]:
        """What a point without a network is said to have."""
        return float(self.latency.max()), float(self.accuracy.min())

    def share(self, rows: list[int]) -> float:
        """Hypervolume that rows hold, as a share of the true front's."""
        return hypervolume(self._scaled(np.array(rows, np.intp)), self.reference, DIRECTIONS) / self.true

    def features(self) -> Callable[[Params], Floats]:
        """Of a point: the free columns, each scaled to 0..1 over the table (of logarithms where they span more than tenfold)."""
        columns = []
        for values in self.free.values():
            v = np.log(values) if values.min() > 0 and values.max() > 10 * values.min() else values
            columns.append((v - v.min()) / (np.ptp(v) or 1.0))
        matrix = np.column_stack(columns)
        return lambda params: matrix[self._index[self._key(params)]]


def yolobench(path: Path, accuracy: str, device: str) -> Problem:
    """968 trained detectors (arXiv:2307.13901), 572 of them on COCO; ``accuracy`` and ``device`` name columns."""
    import pandas

    table = pandas.read_parquet(path)
    table = table[table[accuracy].notna() & table[device].notna()]
    family = table.arch.str.extract(r"^(yolo\d[sml]?(?=-)|yolo\d)")[0]
    levels = {name: sorted(table[name].unique()) for name in ("depth_mul", "width_mul", "resolution")}
    at = {name: table[name].map({v: i for i, v in enumerate(values)}) for name, values in levels.items()}
    rows = tuple(
        {"family": f, "depth": int(d), "width": int(w), "resolution": int(r)}
        for f, d, w, r in zip(family, at["depth_mul"], at["width_mul"], at["resolution"], strict=True)
    )
    space: dict[str, BaseDistribution] = {"family": CategoricalDistribution(sorted(family.unique()))}
    space |= {
        name: IntDistribution(0, len(levels[c]) - 1) for name, c in (("depth", "depth_mul"), ("width", "width_mul"), ("resolution", "resolution"))
    }
    free = {"params": table.params, "macs": table.conv_gmacs_fused, "nwot": table.nwot_preact}
    return Problem(
        f"YOLOBench, {accuracy} x {device}", space, rows, table[device].to_numpy(float), table[accuracy].to_numpy(float),
        {k: v.to_numpy(float) for k, v in free.items()}, "nwot", "macs", log=True, whole=False,
    )  # fmt: skip


def nas_bench_201(path: Path, device: str) -> Problem:
    """All 15,625 cells of NAS-Bench-201 (arXiv:2001.00326) with CIFAR-10 test accuracy, and a device's latency (HELP, arXiv:2106.08630)."""
    import pandas

    table = pandas.read_parquet(path)
    edges = [c for c in table.columns if c.startswith("op_")]
    rows = tuple({name: int(v) for name, v in zip(edges, values, strict=True)} for values in table[edges].to_numpy())
    space: dict[str, BaseDistribution] = {name: CategoricalDistribution(range(5)) for name in edges}
    free = {"params": table.params_cifar10, "macs": table.flops_cifar10}
    return Problem(
        f"NAS-Bench-201, {device}", space, rows, table[device].to_numpy(float), table.cifar10_test_acc.to_numpy(float),
        {k: v.to_numpy(float) for k, v in free.items()}, "macs", "params", log=False, whole=True,
    )  # fmt: skip
