"""The interface of estimators and the context that they work in.

An estimator answers one question about one architecture::

    class Params(Estimator):
        name, direction, rank = "params", "min", 0

        def __call__(self, architecture: Architecture) -> Estimate:
            graph = self.context.space.graph(architecture)
            return Estimate(self.name, trace(graph, self.context.num_classes).params)

A new estimator is such a class and one line in :data:`nas.estimators.ESTIMATORS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from nas.core.estimate import Estimate, Objective
from nas.estimators.shared import SharedEvaluators
from nas.profiling.workload import latency_workload
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from latency_db.core.profiler import Workload
    from latency_db.core.target import Target
    from latency_db.database.db import LatencyDB
    from nas.data.source import DataPair
    from nas.supernet.supernet import Supernet


@dataclass(frozen=True)
class Context:
    """Everything a run offers to its estimators; an estimator raises InputError if a part that it needs is None.

    Args:
        space: The space that architectures are points of.
        num_classes: Number of classes of the detectors.
        data: Data set, for accuracies and int8 calibration.
        target: Target of latencies, and of accuracies in int8.
        database: Measured latencies.
        supernet: Trained shared weights.
        device: Device of accuracies, as ``nas.core.compute.device_of`` takes it.
        eval_images: Images of the val split that rank candidates; 0 for all.
        calibration_images: Images of the train split that recalibrate BatchNorm.
        seed: Seed of everything random.
        scratch: Folder for temporary files.
        compared_targets: Targets whose latencies are compared with those of ``target``: the same at other precisions.
        shared: Evaluators that several estimators of this run use.
    """

    space: SearchSpace
    num_classes: int
    data: DataPair | None = None
    target: Target | None = None
    database: LatencyDB | None = None
    supernet: Supernet | None = None
    device: str = "cpu"
    eval_images: int = 0
    calibration_images: int = 100
    seed: int = 0
    scratch: Path = field(default_factory=Path)
    compared_targets: tuple[Target, ...] = ()
    shared: SharedEvaluators = field(default_factory=SharedEvaluators, compare=False, repr=False)

    def workload(self, architecture: Architecture) -> Workload:
        """Return what is timed of an architecture on the context's target."""
        assert self.target is not None
        return latency_workload(self.space, architecture, self.num_classes, self.target, self.scratch, self.data)


class Estimator(ABC):
    """``estimator(architecture) -> Estimate``: one number with its unit, interval, source and target.

    A failure raises; it never becomes a number. Everything about an estimate is in the estimate itself, so estimators
    keep no state that a caller has to ask for afterwards.

    Attributes:
        name: Name of the estimate (``latency_ms``), not of the registry entry (``latency``).
        unit: Unit of the estimate.
        direction: ``min`` or ``max``.
        rank: Order by expense. Cheap estimators run first, so that a violated constraint saves the expensive ones.
        cheap: Whether the estimate depends on the architecture alone and takes at most about 0.1 s without a device.
            A search evaluates cheap objectives at many more points than it evaluates as candidates.
        sees_precision: Whether the estimate of one architecture differs between precisions of the target.
        role: Where the estimate is made: ``driver`` (the process of the search), ``device`` (the target, for
            measurements) or ``compute`` (a worker with the data and a GPU or CPU, for accuracies).
    """

    name: ClassVar[str]
    unit: ClassVar[str] = ""
    direction: ClassVar[str]
    rank: ClassVar[int] = 0
    cheap: ClassVar[bool] = False
    sees_precision: ClassVar[bool] = True
    role: ClassVar[str] = "driver"

    def __init__(self, context: Context) -> None:
        self.context = context

    @abstractmethod
    def __call__(self, architecture: Architecture) -> Estimate:
        """Return the estimate of a point of the context's space."""

    def rungs(self, architecture: Architecture) -> Iterator[Estimate]:
        """Yield early estimates under names of their own (``map@62``), then the final one.

        The caller may stop in between (:mod:`nas.search.pruner`).
        """
        yield self(architecture)

    def remeasure(self, architecture: Architecture) -> Estimate:
        """Return the estimate of a chosen architecture, measured again if it is a measurement."""
        return self(architecture)

    def split_half(self, architecture: Architecture) -> tuple[float, float] | None:
        """Return the estimate on two disjoint halves of the evaluation data; None if it depends on no data, or a half
        does not determine it."""
        return None

    @classmethod
    def available(cls) -> str | None:
        """Return None if the estimator works on this machine, else the reason and what to install.

        Imports nothing heavy.
        """
        return None

    @classmethod
    def objective(cls) -> Objective:
        """Return the estimator as an objective in its natural direction."""
        return Objective(cls.name, cls.direction, cls.unit)

    def close(self) -> None:
        """Release processes and files."""
        return


def needed(value: object, estimator: str, what: str, hint: str) -> None:
    """Raise InputError that names the missing part ``what`` if ``value`` is None."""
    if value is None:
        raise InputError(f"estimator {estimator} has no {what}", hint=hint)
