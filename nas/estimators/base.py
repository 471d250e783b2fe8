"""What every estimator is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nas.core.estimate import Estimate, Objective
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
    """What a run has to estimate with; an estimator says which parts it cannot do without. ``eval_images`` of the val
    split rank candidates (0: all).

    ``beside``: targets whose figures are compared with those of ``target``: the same at other precisions. ``shared``:
    what estimators of this run have in common, such as one evaluation that gives several numbers.
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
    beside: tuple[Target, ...] = ()
    shared: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def workload(self, architecture: Architecture) -> Workload:
        """What is timed of an architecture on the context's target."""
        assert self.target is not None
        return latency_workload(self.space, architecture, self.num_classes, self.target, self.scratch, self.data)


class Estimator(ABC):
    """``estimator(architecture) -> Estimate``: one number, its unit, interval, source and target. A failure raises;
    it never becomes a number.

    ``name`` is the estimate's (``latency_ms``), not the registry's (``latency``). ``rank`` orders by expense: cheap
    ones are asked first, so that a violated constraint spares the dear ones. ``cheap``: a function of the
    architecture alone that takes no more than a tenth of a second and no device, so that a search may ask it of many
    more than it evaluates. ``sees_precision``: whether the same architecture may get another number at another
    precision of the target.
    """

    name: ClassVar[str]
    unit: ClassVar[str] = ""
    direction: ClassVar[str]
    rank: ClassVar[int] = 0
    cheap: ClassVar[bool] = False
    sees_precision: ClassVar[bool] = True

    def __init__(self, context: Context) -> None:
        self.context = context

    @abstractmethod
    def __call__(self, architecture: Architecture) -> Estimate:
        """The estimate of a point of the context's space."""

    def rungs(self, architecture: Architecture) -> Iterator[Estimate]:
        """What can be said early, under names of their own (``map@62``), and at last the estimate; whoever asks may
        stop in between (:mod:`nas.search.pruner`)."""
        yield self(architecture)

    def again(self, architecture: Architecture) -> Estimate:
        """The estimate of one that was chosen: measured anew where it is measured."""
        return self(architecture)

    @property
    def remarks(self) -> Sequence[str]:
        """What has to be said of the estimates so far, for people; empty where there is nothing."""
        return ()

    @property
    def draws(self) -> Sequence[float]:
        """Values that the last estimate might have had with other images, the same drawn images for every
        candidate, so that differences of two candidates can be judged; empty where there is no such thing."""
        return ()

    @classmethod
    def available(cls) -> str | None:
        """None when it can work on this machine; else why not and what to install. Cheap: nothing heavy is imported."""
        return None

    @classmethod
    def objective(cls) -> Objective:
        """Itself as an objective in its natural direction."""
        return Objective(cls.name, cls.direction, cls.unit)

    def close(self) -> None:
        """Gives back processes and files."""
        return


def needed(value: object, estimator: str, what: str, hint: str) -> None:
    """An error naming what an estimator lacks."""
    if value is None:
        raise InputError(f"estimator {estimator} has no {what}", hint=hint)
