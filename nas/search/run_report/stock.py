"""Stock networks on the target of a run, as points of reference."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latency_db.core.profiler import Profiler, Protocol
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.runtimes import open_profiler
from nas.core.estimate import Estimate
from nas.core.reporter import Reporter
from nas.estimators.base import Context
from nas.profiling.default_database import default_latency_db
from nas.search.explain.run_data import RunData
from search_spaces.errors import InputError
from search_spaces.image_size import ImageSize
from search_spaces.references import reference
from search_spaces.spaces import space_of

DEFAULT = ("yolov5n", "yolov8n", "yolo11n")
"""Stock networks of a report, unless others are named."""
QUICK = Protocol(warmup_s=0.2, min_rounds=8, max_rounds=30, half_width=0.05, max_s=1.0)


@dataclass(frozen=True)
class StockNetwork:
    """A published network on the run's target, at the run's image size and with its classes.

    Args:
        name: Name of the reference.
        image_size: Image size.
        latency: Latency in ms.
        params: Deployed parameters.
        macs: Multiply-accumulates.
        accuracy: Accuracy by the search's own estimate; None where it is unknown.
        published_map: COCO mAP50-95 in percent that its authors published, at 640 px on another data set; None without.
    """

    name: str
    image_size: ImageSize
    latency: Estimate
    params: int
    macs: int
    accuracy: Estimate | None
    published_map: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "image_size": self.image_size.value,
            "latency": self.latency.to_dict(),
            "params": self.params,
            "macs": self.macs,
            "accuracy": None if self.accuracy is None else self.accuracy.to_dict(),
            "published_map": self.published_map,
        }


def stock_networks(run: RunData, names: Sequence[str], missing: str, reporter: Reporter) -> tuple[StockNetwork, ...]:
    """Return stock networks measured on a run's target: those of its budgets, and others by name.

    A measurement in the run's latency database is used; else the network is measured now, and kept there. A network
    that cannot be measured is left out with a warning.

    Args:
        run: The run.
        names: Names of references.
        missing: Why nothing can be measured here; empty where it can.
        reporter: Receives the progress.
    """
    found = {b.name: _of_budget(b) for b in run.plan.settings.baselines.values()}
    for comparison in run.front_file.comparisons if run.front_file else ():
        found[comparison.baseline.name] = _of_budget(comparison.baseline)
    wanted = [name for name in names if name not in found]
    if wanted and not missing:
        try:
            found |= _measured(run, wanted, reporter)
        except InputError as error:
            reporter.warning(f"{', '.join(wanted)} left out: {error}")
    return tuple(sorted(found.values(), key=lambda s: s.latency.value))


def _of_budget(baseline: Any) -> StockNetwork:
    return StockNetwork(
        baseline.name,
        baseline.image_size,
        baseline.latency,
        baseline.params,
        baseline.macs,
        baseline.accuracy,
        _published(baseline.name),
    )


def _published(name: str) -> float | None:
    published = reference(name).published
    return None if published is None else published.map50_95


def _measured(run: RunData, names: Sequence[str], reporter: Reporter) -> dict[str, StockNetwork]:
    """Measure stock networks, or read their measurements; a network that cannot be measured is left out.

    Raises InputError if the target cannot measure here.
    """
    found: dict[str, StockNetwork] = {}
    target = replace(run.plan.target, image_size=_image_size(run))
    path = run.plan.settings.latency_db or default_latency_db()
    # One profiler for all: each starts a process with the reference model.
    with (
        LatencyDB(path) as database,
        open_profiler(target, QUICK) as profiler,
        reporter.steps("stock networks") as update,
    ):
        for i, name in enumerate(names):
            update(i, len(names), name)
            try:
                found[name] = _measured_one(run, name, target, database, profiler)
            except InputError as error:
                reporter.warning(f"{name} is left out: {error}")
        update(len(names), len(names), "")
    return found


def _measured_one(run: RunData, name: str, target: Target, database: LatencyDB, profiler: Profiler) -> StockNetwork:
    from search_spaces.trace import trace  # imports torch

    architecture = reference(name).architecture
    space = space_of(architecture)
    size = _image_size(run)
    with tempfile.TemporaryDirectory(prefix="nas-stock-") as scratch:
        context = Context(space, run.num_classes, None, target, database, scratch=Path(scratch))
        workload = context.workload(architecture)
        m = database.measure_cached(profiler, workload)
    nominal = profiler.nominal_reference_ms() or database.nominal_reference_ms(profiler.key(workload.key))
    m = m if nominal is None else m.at_nominal_speed(nominal)
    cost = trace(space.graph(architecture), run.num_classes, size)
    latency = Estimate("latency_ms", m.median_ms, "ms", m.low_ms, m.high_ms, m.source, str(m.target))
    return StockNetwork(name, size, latency, cost.params, cost.macs, None, _published(name))


def _image_size(run: RunData) -> ImageSize:
    """Return the image size of the run: the target's, else that of the largest pick or candidate."""
    pick = run.selection.picks[-1].candidate if run.selection and run.selection.picks else run.candidates[0]
    return run.plan.target.image_size or pick.architecture.image_size
