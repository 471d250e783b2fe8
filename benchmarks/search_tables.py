"""Tables of trained networks as search problems: every objective is available, so samplers compare at equal numbers of
evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from nas.core.pareto import hypervolume, non_dominated
from search_spaces.errors import InputError

Floats = NDArray[np.float64]
Params = Mapping[str, Any]
DIRECTIONS = ("min", "max")


@dataclass(frozen=True)
class Problem:
    """A table as a search problem: latency is minimised, accuracy maximised.

    Args:
        name: Shown in results.
        space: Distributions of the parameters.
        rows: Parameters of each of the n networks.
        latency: In ms, (n,).
        accuracy: (n,).
        free: Columns that cost nothing, (n,) each.
        prior_mean: Names of the two free columns that stand for latency and accuracy in the startup trials; may be
            empty.
        log: Whether the hypervolume is of log latency.
        beyond_front: Whether the reference point is the worst of the true front plus a tenth of its range (for spaces
            with networks that do not learn); else it is the worst of the table.
    """

    name: str
    space: Mapping[str, BaseDistribution]
    rows: tuple[Params, ...]
    latency: Floats
    accuracy: Floats
    free: Mapping[str, Floats]
    prior_mean: tuple[str, ...]
    log: bool
    beyond_front: bool = False
    reference: tuple[float, float] = field(init=False)
    true: float = field(init=False)
    _index: dict[tuple[Any, ...], int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", {self._key(row): i for i, row in enumerate(self.rows)})
        points = self._scaled(np.arange(len(self.rows)))
        if self.beyond_front:
            front = points[non_dominated(points, DIRECTIONS)]
            low, high = front.min(0), front.max(0)
            reference = (high[0] + 0.1 * (high[0] - low[0]), low[1] - 0.1 * (high[1] - low[1]))
        else:
            reference = (points[:, 0].max(), points[:, 1].min())
        object.__setattr__(self, "reference", tuple(float(r) for r in reference))
        object.__setattr__(self, "true", hypervolume(points, reference, DIRECTIONS))

    @property
    def whole(self) -> bool:
        """Return whether every point of the space is a row."""
        sizes = (
            len(d.choices) if isinstance(d, CategoricalDistribution) else d.high - d.low + 1  # type: ignore[attr-defined]
            for d in self.space.values()
        )
        return math.prod(sizes) == len(self._index)

    def _key(self, params: Params) -> tuple[Any, ...]:
        return tuple(params[name] for name in sorted(self.space))

    def _scaled(self, rows: NDArray[np.intp]) -> Floats:
        latency = self.latency[rows]
        return np.column_stack([np.log(latency) if self.log else latency, self.accuracy[rows]])

    def row(self, params: Params) -> int | None:
        """Return the row of a point; None where the table has no such network."""
        return self._index.get(self._key(params))

    def answer(self, row: int) -> tuple[float, float]:
        """Return latency in ms and accuracy of a row."""
        return float(self.latency[row]), float(self.accuracy[row])

    @property
    def worst(self) -> tuple[float, float]:
        """Latency and accuracy that stand for a point without a network: the worst of the table."""
        return float(self.latency.max()), float(self.accuracy.min())

    def share(self, rows: list[int]) -> float:
        """Return the hypervolume of rows as a share of the true front's."""
        return hypervolume(self._scaled(np.array(rows, np.intp)), self.reference, DIRECTIONS) / self.true

    def features(self) -> Callable[[Params], Floats]:
        """Return the auxiliary inputs of a point, (columns,): the free columns, each scaled to 0..1 over the table.

        Columns of positive numbers that span more than a factor of ten enter by their logarithm.
        """
        columns = []
        for values in self.free.values():
            v = np.log(values) if values.min() > 0 and values.max() > 10 * values.min() else values
            columns.append((v - v.min()) / (np.ptp(v) or 1.0))
        matrix = np.column_stack(columns)
        return lambda params: matrix[self._index[self._key(params)]]


def yolobench(path: Path, accuracy: str, device: str) -> Problem:
    """Return YOLOBench, 968 trained detectors (arXiv:2307.13901), 572 of them on COCO.

    ``accuracy`` and ``device`` name columns.
    """
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
        name: IntDistribution(0, len(levels[c]) - 1)
        for name, c in (("depth", "depth_mul"), ("width", "width_mul"), ("resolution", "resolution"))
    }
    free = {"params": table.params, "macs": table.conv_gmacs_fused, "nwot": table.nwot_preact}
    return Problem(
        f"YOLOBench, {accuracy} x {device}", space, rows, table[device].to_numpy(float), table[accuracy].to_numpy(float),
        {k: v.to_numpy(float) for k, v in free.items()}, ("macs", "nwot"), log=True,
    )  # fmt: skip


NODES = {
    "op_0to1": (0, 1),
    "op_0to2": (0, 2),
    "op_0to3": (0, 3),
    "op_1to2": (1, 2),
    "op_1to3": (1, 3),
    "op_2to3": (2, 3),
}
PATHS = (("op_0to3",), ("op_0to1", "op_1to3"), ("op_0to2", "op_2to3"), ("op_0to1", "op_1to2", "op_2to3"))
NONE, SKIP, CONV1, CONV3, POOL = range(5)


def cell(row: Params) -> dict[str, float]:
    """Return counts of the operations of a NAS-Bench-201 cell on paths from its input to its output.

    Path encodings rank networks better than edges do (White et al., arXiv:1910.11858): an edge behind a ``none`` has no
    effect.
    """
    paths = [path for path in PATHS if all(row[edge] != NONE for edge in path)]
    live = {edge for path in paths for edge in path}
    counts = {
        f"live_{name}": sum(row[edge] == op for edge in live)
        for name, op in (("skip", SKIP), ("conv1", CONV1), ("conv3", CONV3), ("pool", POOL))
    }
    return counts | {
        "depth": max((sum(row[edge] in (CONV1, CONV3) for edge in path) for path in paths), default=0),
        "depth_conv3": max((sum(row[edge] == CONV3 for edge in path) for path in paths), default=0),
        "paths": len(paths),
        "bare_skip": any(all(row[edge] == SKIP for edge in path) for path in paths),
        "pooled_paths": sum(any(row[edge] == POOL for edge in path) for path in paths),
    }


def nas_bench_201(path: Path, device: str, accuracy: str = "cifar10_test_acc") -> Problem:
    """Return NAS-Bench-201 (arXiv:2001.00326), all 15,625 cells, with the latency of a device (HELP,
    arXiv:2106.08630).

    ``device`` and ``accuracy`` name columns.
    """
    import pandas

    table = pandas.read_parquet(path)
    rows = tuple(
        {name: int(v) for name, v in zip(NODES, values, strict=True)} for values in table[list(NODES)].to_numpy()
    )
    space: dict[str, BaseDistribution] = {name: CategoricalDistribution(range(5)) for name in NODES}
    free = {"params": table.params_cifar10, "macs": table.flops_cifar10} | dict(
        pandas.DataFrame([cell(row) for row in rows])
    )
    data = "" if accuracy == "cifar10_test_acc" else f"{accuracy} x "
    return Problem(
        f"NAS-Bench-201, {data}{device}", space, rows, table[device].to_numpy(float), table[accuracy].to_numpy(float),
        {k: v.to_numpy(float) for k, v in free.items()}, ("params", "macs"), log=False, beyond_front=True,
    )  # fmt: skip


def any_table(
    path: Path,
    cost: str,
    gain: str,
    free: Sequence[str] = (),
    prior_mean: Sequence[str] = (),
    log: bool = False,
    categories: Sequence[str] = (),
) -> Problem:
    """Return a Parquet or CSV file as a problem. Rows without a cost or a gain are left out.

    Args:
        path: The file.
        cost: Column to minimise.
        gain: Column to maximise.
        free: Columns that cost nothing. Every column that is not named here is a parameter.
        prior_mean: None, or two free columns that stand for cost and gain in the startup trials.
        log: Whether the hypervolume is of the cost's logarithm.
        categories: Parameters whose numbers have no order; text is a category in any case.

    Raises InputError for a missing column, and for several rows of one point.
    """
    import pandas

    table = pandas.read_csv(path) if path.suffix == ".csv" else pandas.read_parquet(path)
    if missing := [c for c in (cost, gain, *free, *prior_mean, *categories) if c not in table]:
        raise InputError(f"no column {missing[0]!r} in {path.name}", f"one of {', '.join(map(str, table.columns))}")
    free = list(dict.fromkeys((*free, *prior_mean)))
    table = table[table[cost].notna() & table[gain].notna()]
    space: dict[str, BaseDistribution] = {}
    columns: dict[str, list[Any]] = {}
    for name in (c for c in table.columns if c not in (cost, gain, *free)):
        levels = sorted(table[name].unique())
        if pandas.api.types.is_numeric_dtype(table[name]) and table[name].dtype != bool and name not in categories:
            space[name] = IntDistribution(0, len(levels) - 1)
            columns[name] = [levels.index(v) for v in table[name]]
        else:
            space[name] = CategoricalDistribution([str(v) for v in levels])
            columns[name] = [str(v) for v in table[name]]
    rows = tuple(dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    if len({tuple(row.values()) for row in rows}) < len(rows):
        raise InputError(
            f"{path.name} has several rows of one point",
            "one row for each; name columns that are no parameters with --free",
        )
    numbers = {name: table[name].to_numpy(float) for name in free}
    return Problem(
        f"{path.stem}, {gain} x {cost}",
        space,
        rows,
        table[cost].to_numpy(float),
        table[gain].to_numpy(float),
        numbers,
        tuple(prior_mean),
        log,
    )
