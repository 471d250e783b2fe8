"""The estimators of a search, made for every precision of its target."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from latency_db.database.db import LatencyDB
from nas.data.source import DataPair
from nas.estimators import ESTIMATORS
from nas.estimators.base import Context, Estimator
from nas.estimators.by_precision import by_precision
from nas.estimators.latency import Latency
from nas.profiling.default_database import default_latency_db
from nas.search.devices import open_device_latencies
from nas.search.plan import SearchPlan
from nas.search.tasks import COMPUTE
from nas.supernet.supernet import Supernet


@dataclass(frozen=True)
class SearchEstimators:
    """Estimators of a search.

    Args:
        candidate: All estimators of a candidate.
        latency: Measures latencies; one of ``candidate`` if the search measures its candidates.
        supernet: Shared weights on their device; None without.
    """

    candidate: Sequence[Estimator]
    latency: Estimator
    supernet: Supernet | None = None

    def of(self, name: str) -> Estimator:
        """Return the estimator of an estimate; the measured latency before a predicted one."""
        return next((e for e in (self.latency, *self.candidate) if e.name == name), self.latency)


@contextmanager
def open_estimators(
    plan: SearchPlan, num_classes: int, data: DataPair | None, supernet: Supernet | None
) -> Iterator[SearchEstimators]:
    """Open the estimators of a plan; their arguments are points of the search.

    Temporary files are in a folder of their own, which is removed at the end.

    Args:
        plan: The plan.
        num_classes: Number of classes of the detectors.
        data: Data set of accuracies and int8 calibration.
        supernet: Shared weights on their device.
    """
    settings = plan.settings
    with (
        tempfile.TemporaryDirectory(prefix="nas-search-") as scratch,
        LatencyDB(settings.latency_db or default_latency_db()) as database,
        ExitStack() as stack,
    ):
        context = replace(_context(plan, num_classes, data, supernet, scratch), database=database)
        contexts = {p: replace(context, target=target) for p, target in plan.targets.items()}
        candidate = [_opened(ESTIMATORS[name], contexts, stack) for name in plan.estimators]
        measured = (e for name, e in zip(plan.estimators, candidate, strict=True) if name == Latency.registry_name)
        latency = next(measured, None) or _opened(Latency, contexts, stack)
        others = stack.enter_context(open_device_latencies(plan.devices, context)) if settings.others else []
        yield SearchEstimators([*candidate, *others], latency, supernet)


@contextmanager
def open_compute_estimators(
    plan: SearchPlan, num_classes: int, data: DataPair | None, supernet: Supernet | None
) -> Iterator[list[Estimator]]:
    """Open those estimators of a plan that run on compute devices, without the device and the database.

    Args:
        plan: The plan.
        num_classes: Number of classes of the detectors.
        data: Data set of accuracies and int8 calibration.
        supernet: Shared weights on their device.
    """
    kinds = [kind for name in plan.estimators if (kind := ESTIMATORS[name]).role == COMPUTE]
    with tempfile.TemporaryDirectory(prefix="nas-worker-") as scratch, ExitStack() as stack:
        context = _context(plan, num_classes, data, supernet, scratch)
        contexts = {p: replace(context, target=target) for p, target in plan.targets.items()}
        yield [_opened(kind, contexts, stack) for kind in kinds]


def _context(
    plan: SearchPlan, num_classes: int, data: DataPair | None, supernet: Supernet | None, scratch: str
) -> Context:
    settings = plan.settings
    return Context(
        space=plan.space,
        num_classes=num_classes,
        data=data,
        target=plan.target,
        supernet=supernet,
        device=settings.device,
        eval_images=settings.eval_images,
        seed=settings.seed,
        scratch=Path(scratch),
        compared_targets=tuple(plan.targets.values()),
    )


def _opened(kind: type[Estimator], contexts: Mapping[str, Context], stack: ExitStack) -> Estimator:
    """Return an estimator of this kind for all precisions, which ``stack`` closes."""
    estimator = by_precision({precision: kind(context) for precision, context in contexts.items()})
    stack.callback(estimator.close)
    return estimator
