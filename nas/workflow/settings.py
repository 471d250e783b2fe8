"""All that decides a search, as a value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from latency_db.runtimes import RUNTIMES, open_profiler
from latency_db.target import Target
from nas.baseline import Baseline
from nas.budgets import parse_wanted
from nas.estimate import Objective
from nas.estimators import ESTIMATORS
from nas.files import atomic_write
from nas.study import Bound
from nas.training.precision import device_of
from nas.training.recipe import Recipe
from nas.workflow.training import Means
from search_spaces.architecture import Architecture, Value
from search_spaces.errors import InputError
from search_spaces.references import point_of
from search_spaces.registry import unknown
from search_spaces.space import SearchSpace
from search_spaces.spaces import SPACES

LATENCIES = {"measured": "latency", "predicted": "predicted_latency"}
"""How candidates' latency is known -> the estimator of it."""


@dataclass(frozen=True)
class SearchSettings:
    """All that decides a search; kept as ``run.json``, so that ``--resume`` needs nothing else.

    ``seeded``: references that are among the first candidates. ``baselines``: the references whose latency is a budget, by the budget's name, as they were
    measured when the run began.
    """

    space: str = "yolo-nano"
    fixed: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    data: str | None = None
    num_classes: int | None = None
    limit: int | None = None
    target: str = "onnxruntime:fp32"
    latency: str = "measured"
    accuracy: str = "supernet"
    trials: int = 100
    sampler: str = "guided"
    seed: int = 0
    seeded: tuple[str, ...] = ()
    budgets: str | None = None
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    bounds: tuple[str, ...] = ()
    supernet: str | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    augment: bool = True
    eval_images: int = 500
    latency_db: str | None = None
    storage: str | None = None
    device: str = "auto"
    processes: int = 1
    name: str = ""

    def write(self, folder: Path) -> None:
        """``run.json``; the study keeps its name when the folder is moved."""
        atomic_write(folder / "run.json", json.dumps({**self.to_dict(), "name": self.study_name(folder)}, indent=2) + "\n")

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
            raise InputError(f"{path} cannot be used ({type(error).__name__}: {error})", "the file that nas search wrote") from None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SearchSettings:
        """Inverse of :meth:`to_dict` after JSON; KeyError, TypeError, AttributeError or InputError for what is none."""
        lists = {"bounds": tuple(data["bounds"]), "seeded": tuple(data.get("seeded", ()))}
        fixed = {name: tuple(values) for name, values in data["fixed"].items()}
        return cls(**{**data, **lists, "fixed": fixed, "baselines": {n: Baseline.from_dict(b) for n, b in data.get("baselines", {}).items()}})

    def check(self) -> None:
        """Everything that can be wrong before work begins is said now."""
        self.open_space()
        self.first_candidates()
        if self.latency not in LATENCIES:
            raise unknown("latency", self.latency, tuple(LATENCIES))
        target = Target.parse(self.target)
        open_profiler(target).close()
        if target.precision == "int8" and RUNTIMES[target.runtime].measures and not self.data:
            raise InputError(f"--target {self.target} without --data", "a data set", "int8 takes the ranges of activations from its pictures")
        device_of(self.device)
        for bound in self.open_bounds():
            if reason := ESTIMATORS[registry_name(bound.name)].available():
                raise InputError(f"bound on {bound.name}: {reason}")
        if self.num_classes is not None and self.num_classes < 1:
            raise InputError(f"{self.num_classes} classes", "1 or more")
        if self.budgets:
            parse_wanted(self.budgets)
        if self.trials < 1:
            raise InputError(f"{self.trials} trials", "1 or more")
        if self.accuracy == "supernet" and not self.data:
            raise InputError("--accuracy supernet without --data", "a data set", "or use a zero-cost score: --accuracy nwot")
        if self.objectives[1].direction != "max" or self.accuracy == "latency":
            raise InputError(f"--accuracy {self.accuracy}", "an estimator to maximise: supernet, elements, nwot or synflow")
        self.open_means().check(self.open_recipe())

    def open_space(self) -> SearchSpace:
        """The space, restricted."""
        return SPACES[self.space].restrict(self.fixed)

    def first_candidates(self) -> tuple[Architecture, ...]:
        """What is tried first, besides the space's extremes."""
        return tuple(point_of(self.open_space(), name) for name in self.seeded)

    def open_recipe(self) -> Recipe:
        """How the supernet is trained."""
        return Recipe(**{"seed": self.seed, **self.recipe})

    def open_means(self) -> Means:
        """What the supernet's training runs on."""
        return Means(self.device, self.processes, self.augment)

    def open_bounds(self) -> tuple[Bound, ...]:
        """The bounds, each on an estimate's name, whether that or its estimator's was written."""
        bounds = (parse_bound(text) for text in self.bounds)
        return tuple(replace(b, name=ESTIMATORS[registry_name(b.name)].name) for b in bounds)

    @property
    def estimators(self) -> tuple[str, ...]:
        """Registry names of all that a candidate is asked, each once."""
        bounds = (registry_name(b.name) for b in self.open_bounds())
        names = ("params", "macs", "latency", self.accuracy, *bounds)
        return tuple(dict.fromkeys(LATENCIES[self.latency] if name == "latency" else name for name in names))

    @property
    def objectives(self) -> tuple[Objective, Objective]:
        """Cost and gain."""
        return ESTIMATORS["latency"].objective(), ESTIMATORS[self.accuracy].objective()


def parse_bound(text: str) -> Bound:
    """``latency_ms<=5`` or ``map>=0.4``."""
    for sign in ("<=", ">="):
        name, found, value = text.partition(sign)
        if found:
            try:
                return Bound(name.strip(), sign == "<=", float(value))
            except ValueError:
                break
    raise InputError(f"bound {text!r}", "NAME<=NUMBER or NAME>=NUMBER, for example params<=1e6")


def registry_name(estimate: str) -> str:
    """The registry's name of the estimator that gives an estimate."""
    for name in ESTIMATORS:
        if estimate in (ESTIMATORS[name].name, name):
            return name
    raise InputError(f"bound on {estimate!r}", f"one of {', '.join(ESTIMATORS[n].name for n in ESTIMATORS)}")
