"""All that decides a search, as a value."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from latency_db.core.target import Target
from latency_db.runtimes import RUNTIMES, open_profiler
from nas.core.atomic import atomic_write
from nas.core.budgets import parse_request
from nas.core.compute import device_of
from nas.core.estimate import Objective
from nas.core.precision_choice import joined, with_precisions
from nas.estimators import ESTIMATORS
from nas.search.baseline import Baseline
from nas.search.evaluate_candidate import Bound
from nas.search.objectives import LATENCIES, Aims, estimators_of, parse_bound
from nas.search.terminator import SearchProgress, StopRule, never
from nas.training.job import ComputeConfig
from nas.training.recipe import Recipe
from search_spaces.architecture import Architecture, Value
from search_spaces.errors import InputError
from search_spaces.references import point_of
from search_spaces.registry import unknown
from search_spaces.space import SearchSpace
from search_spaces.spaces import SPACES


@dataclass(frozen=True)
class SearchSettings:
    """All that decides a search; kept as ``run.json``, so that ``--resume`` needs nothing else.

    ``precisions``: those that are a choice of the search, the target's among them; empty: the target's alone.
    ``minimize`` and ``maximize`` are names of estimators; empty: latency, and ``accuracy``. ``early_stop``:
    candidates without a chance are not estimated to the end. ``stop``: see :class:`nas.search.terminator.StopRule`.
    ``seeded``: references that are among the first candidates. ``baselines``: the references whose latency is a
    budget, by the budget's name, as they were measured when the run began. ``goals``: the same of ``at_least``,
    accuracies that something is to reach at the least cost.
    """

    space: str = "yolo-nano"
    fixed: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    data: str | None = None
    num_classes: int | None = None
    limit: int | None = None
    target: str = "onnxruntime:fp32"
    precisions: tuple[str, ...] = ()
    latency: str = "measured"
    accuracy: str = "supernet"
    minimize: tuple[str, ...] = ()
    maximize: tuple[str, ...] = ()
    trials: int = 100
    sampler: str = "guided"
    seed: int = 0
    seeded: tuple[str, ...] = ()
    budgets: str | None = None
    at_least: str | None = None
    goals: Mapping[str, float] = field(default_factory=dict)
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    bounds: tuple[str, ...] = ()
    supernet: str | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    augment: bool = True
    eval_images: int = 500
    early_stop: bool = True
    stop: str | None = None
    latency_db: str | None = None
    storage: str | None = None
    device: str = "auto"
    processes: int = 1
    name: str = ""

    def write(self, folder: Path) -> None:
        """``run.json``; the study keeps its name when the folder is moved."""
        atomic_write(
            folder / "run.json", json.dumps({**self.to_dict(), "name": self.study_name(folder)}, indent=2) + "\n"
        )

    def study_name(self, folder: Path) -> str:
        """The name that the run began with: its folder's."""
        return self.name or folder.resolve().name

    @classmethod
    def read(cls, folder: Path) -> SearchSettings:
        """Inverse of :meth:`write`."""
        path = folder / "run.json"
        try:
            return cls.from_dict(json.loads(path.read_text()))
        except FileNotFoundError:
            raise InputError(f"{folder} is no run of nas search", "a folder with run.json") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{path} cannot be used ({type(error).__name__}: {error})", "the file that nas search wrote"
            ) from None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        plain = asdict(replace(self, baselines={}))
        return {**plain, "baselines": {name: b.to_dict() for name, b in self.baselines.items()}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SearchSettings:
        """Inverse of :meth:`to_dict` after JSON; KeyError, TypeError, AttributeError or InputError for what is none."""
        lists = {name: tuple(data.get(name, ())) for name in ("bounds", "seeded", "minimize", "maximize", "precisions")}
        fixed = {name: tuple(values) for name, values in data["fixed"].items()}
        return cls(
            **{
                **data,
                **lists,
                "fixed": fixed,
                "baselines": {n: Baseline.from_dict(b) for n, b in data.get("baselines", {}).items()},
            }
        )

    def check(self) -> None:
        """Everything that can be wrong before work begins is said now."""
        self.open_space()
        self.first_candidates()
        if self.latency not in LATENCIES:
            raise unknown("latency", self.latency, tuple(LATENCIES))
        device_of(self.device)
        for name in self.estimators:
            if reason := ESTIMATORS[name].available():
                raise InputError(f"{name} cannot be estimated here: {reason}")
        self._check_targets()
        if self.stop:
            StopRule.parse(self.stop)
        if self.num_classes is not None and self.num_classes < 1:
            raise InputError(f"{self.num_classes} classes", "1 or more")
        if (
            self.budgets
            and parse_request(self.budgets, self.aims.cost.unit).references
            and self.aims.cost.name != "latency_ms"
        ):
            raise InputError(
                f"budgets {self.budgets} where {self.aims.cost.name} is the cost",
                "numbers",
                "ref: is a reference's latency",
            )
        if self.budgets and self.at_least:
            raise InputError("--budgets and --at-least", "one of both: S/M/L go by cost or by accuracy")
        if self.at_least:
            for like in parse_request(self.at_least, self.aims.gain.unit).references.values():
                if like.image_size is not None:
                    raise InputError(
                        f"--at-least {like}",
                        f"ref:{like.reference}",
                        "its accuracy is estimated at the image size that the space has it at",
                    )
                point_of(self.open_space(), like.reference)
        if self.trials < 1:
            raise InputError(f"{self.trials} trials", "1 or more")
        if self.trains and not self.data:
            raise InputError(
                "accuracy of a supernet without --data", "a data set", "or use a zero-cost score: --accuracy nwot"
            )
        if ESTIMATORS[self.accuracy].direction != "max" or self.accuracy == "throughput":
            raise InputError(
                f"--accuracy {self.accuracy}", "an estimator to maximise: supernet, elements, nwot or synflow"
            )
        self.compute().check(self.open_recipe())

    def _check_targets(self) -> None:
        if self.precisions and (
            len(set(self.precisions)) < 2 or Target.parse(self.target).precision not in self.precisions
        ):
            raise InputError(
                f"precisions {', '.join(self.precisions)} as a choice on {self.target}",
                "two or more, the target's among them",
            )
        for target in self.targets.values():
            open_profiler(target).close()
        int8 = self.targets.get("int8")
        if int8 is not None and RUNTIMES[int8.runtime].measures and not self.data:
            raise InputError(
                f"{int8} without --data", "a data set", "int8 takes the ranges of activations from its images"
            )
        if self.precisions:
            self._check_choice()

    def _check_choice(self) -> None:
        """Objectives that are the same at every precision would leave nothing to choose between, or hide what one of
        them costs."""
        aims, choice = self.aims, f"where {', '.join(self.targets)} are a choice"
        costs = (*aims.minimize, *(name for name in aims.maximize if name == "throughput"))
        if not any(ESTIMATORS[name].sees_precision for name in costs):
            raise InputError(f"{costs[0]} as the cost {choice}", "latency", "it is the same at every precision")
        for name in aims.maximize:
            if not ESTIMATORS[name].sees_precision:
                raise InputError(
                    f"{name} as the accuracy {choice}", "--accuracy supernet", "it is the same at every precision"
                )

    @property
    def targets(self) -> dict[str, Target]:
        """The target at every precision that candidates may have, by precision; the target's own first."""
        target = Target.parse(self.target)
        return {p: replace(target, precision=p) for p in dict.fromkeys((target.precision, *self.precisions))}

    @property
    def target_name(self) -> str:
        """The target with all its precisions, for people: ``openvino:fp32,int8``."""
        target = Target.parse(self.target)
        return str(target).replace(target.precision, ",".join(self.targets), 1)

    def open_space(self) -> SearchSpace:
        """The space, restricted."""
        return SPACES[self.space].restrict(self.fixed)

    def open_points(self) -> SearchSpace:
        """What candidates are drawn from: the space, with the precision as one more choice where there are several."""
        return with_precisions(self.open_space(), self.precisions)

    def first_candidates(self) -> tuple[Architecture, ...]:
        """Points that are tried first, besides the extremes."""
        return tuple(
            joined(point_of(self.open_space(), name), p) for name in self.seeded for p in self.precisions or (None,)
        )

    def open_recipe(self) -> Recipe:
        """How the supernet is trained."""
        return Recipe(**{"seed": self.seed, **self.recipe})

    def compute(self) -> ComputeConfig:
        """Return the device and the number of processes of the supernet's training."""
        return ComputeConfig(self.device, self.processes)

    def open_bounds(self) -> tuple[Bound, ...]:
        """The bounds, each on an estimate's name, whether that or its estimator's was written."""
        return tuple(parse_bound(text) for text in self.bounds)

    def open_stop(self) -> Callable[[SearchProgress], bool]:
        """When the search ends before all candidates are tried."""
        return StopRule.parse(self.stop) if self.stop else never

    @property
    def aims(self) -> Aims:
        """What is minimised and maximised."""
        return Aims.of(self.minimize, self.maximize, self.accuracy)

    @property
    def trains(self) -> bool:
        """Whether a supernet is needed."""
        return bool(self.accuracies)

    @property
    def accuracies(self) -> tuple[str, ...]:
        """Names of the estimates that are a supernet's."""
        return tuple(ESTIMATORS[name].name for name in self.estimators if name.partition("-")[0] == "supernet")

    @property
    def estimators(self) -> tuple[str, ...]:
        """Registry names of all that a candidate is asked, each once."""
        return estimators_of(self.aims, self.open_bounds(), self.latency)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """All of them, costs first."""
        return self.aims.objectives
