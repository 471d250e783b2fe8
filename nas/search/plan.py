"""The plan of a search: its settings parsed and checked once, at the border."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from latency_db.core.target import Target
from latency_db.runtimes import RUNTIMES, open_profiler
from nas.core.budgets import GOAL, BudgetRequest, Budgets, parse_request
from nas.core.estimate import Objective
from nas.core.precision_choice import joined, with_precisions
from nas.estimators import ESTIMATORS
from nas.search.baseline import Baseline
from nas.search.devices import Device, check_devices
from nas.search.evaluate_candidate import Bound
from nas.search.objectives import LATENCIES, Aims, estimators_of, parse_bound
from nas.search.samplers import SAMPLERS
from nas.search.settings import SearchSettings
from nas.search.terminator import SearchProgress, StopRule, never
from nas.training.recipe import Recipe
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.references import point_of
from search_spaces.registry import unknown
from search_spaces.space import SearchSpace
from search_spaces.spaces import SPACES

if TYPE_CHECKING:
    from nas.training.job import ComputeConfig

MAX_OBJECTIVES = 4


@dataclass(frozen=True)
class SelectionLimits:
    """Limits by which S, M and L are chosen, as numbers: budgets on the cost, goals for the gain, or neither."""

    budgets: Budgets | None = None
    goals: Budgets | None = None


@dataclass(frozen=True)
class SearchPlan:
    """Parsed values of :class:`nas.search.settings.SearchSettings`.

    Args:
        settings: The settings.
        space: The restricted space.
        points: The space of the candidates: ``space``, with the precision as a choice if there are several.
        targets: The target at every precision of the search, the target's own first.
        aims: Objectives, cost and gain.
        bounds: Constraints on estimates.
        budgets: Budgets as requested; None without.
        goals: Goals as requested; None without.
        first: Points that are tried after the extremes of the space.
        enough: Returns True to stop before all trials are run.
    """

    settings: SearchSettings
    space: SearchSpace
    points: SearchSpace
    targets: Mapping[str, Target]
    aims: Aims
    bounds: tuple[Bound, ...]
    budgets: BudgetRequest | None
    goals: BudgetRequest | None
    first: tuple[Architecture, ...]
    enough: Callable[[SearchProgress], bool]

    @classmethod
    def parse(cls, settings: SearchSettings) -> SearchPlan:
        """Parse settings. Raises InputError for anything that does not parse."""
        space = SPACES[settings.space].restrict(settings.fixed)
        target = Target.parse(settings.target)
        targets = {p: replace(target, precision=p) for p in dict.fromkeys((target.precision, *settings.precisions))}
        aims = Aims.of(settings.minimize, settings.maximize, settings.accuracy)
        first = tuple(
            joined(point_of(space, name), p) for name in settings.seeded for p in settings.precisions or (None,)
        )
        return cls(
            settings=settings,
            space=space,
            points=with_precisions(space, settings.precisions),
            targets=targets,
            aims=aims,
            bounds=tuple(parse_bound(text) for text in settings.bounds),
            budgets=parse_request(settings.budgets, aims.cost.unit) if settings.budgets else None,
            goals=parse_request(settings.at_least, aims.gain.unit, GOAL) if settings.at_least else None,
            first=first,
            enough=StopRule.parse(settings.stop) if settings.stop else never,
        )

    @property
    def target(self) -> Target:
        """The target at its own precision."""
        return next(iter(self.targets.values()))

    @property
    def target_name(self) -> str:
        """The target with all precisions: ``openvino:fp32,int8``."""
        return str(self.target).replace(self.target.precision, ",".join(self.targets), 1)

    @property
    def devices(self) -> tuple[Device, ...]:
        """The devices that candidates are measured on, the target's first."""
        first = Device(self.target, self.settings.on, 1)
        return (first, *(Device.parse(text, number) for number, text in enumerate(self.settings.others, 2)))

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Objectives, costs first; of several devices a latency each."""
        first, *rest = self.aims.objectives
        return (first, *(device.objective for device in self.devices[1:]), *rest)

    @property
    def estimators(self) -> tuple[str, ...]:
        """Registry names of all estimators of a candidate, each once."""
        return estimators_of(self.aims, self.bounds, self.settings.latency)

    @property
    def accuracies(self) -> tuple[str, ...]:
        """Names of the estimates that need a supernet."""
        return tuple(ESTIMATORS[name].name for name in self.estimators if name.partition("-")[0] == "supernet")

    @property
    def needs_supernet(self) -> bool:
        """Whether an estimate needs a supernet."""
        return bool(self.accuracies)

    @property
    def recipe(self) -> Recipe:
        """The recipe of the supernet's training as far as the settings give it
        (:func:`nas.search.supernet_budget.supernet_recipe` fills in the number of epochs)."""
        return Recipe.from_dict({"seed": self.settings.seed, **self.settings.recipe})

    @property
    def compute(self) -> ComputeConfig:
        """Device and processes of the supernet's training."""
        from nas.training.job import ComputeConfig  # imports torch, which readers of finished runs do without

        return ComputeConfig(self.settings.device, self.settings.processes)

    @property
    def limits(self) -> SelectionLimits:
        """Budgets and goals as numbers. Requires the values of reference models (:meth:`with_references`)."""
        baselines = {name: b.latency.value for name, b in self.settings.baselines.items()}
        return SelectionLimits(
            self.budgets.resolve(baselines) if self.budgets else None,
            self.goals.resolve(self.settings.goals) if self.goals else None,
        )

    def check_budgets(self) -> None:
        """Raise InputError if two budgets are in the wrong order, once reference models are measured."""
        if self.budgets:
            self.budgets.resolve({n: b.latency.value for n, b in self.settings.baselines.items()})

    def with_references(
        self, baselines: Mapping[str, Baseline] | None = None, goals: Mapping[str, float] | None = None
    ) -> SearchPlan:
        """Return the plan with the values of the reference models of budgets or goals."""
        settings = self.settings if baselines is None else replace(self.settings, baselines=baselines)
        return replace(self, settings=settings if goals is None else replace(settings, goals=goals))

    def check(self) -> SearchPlan:
        """Return the plan if this machine can carry it out, checked before any work.

        Raises InputError otherwise.
        """
        from nas.core.compute import device_of  # imports torch

        settings = self.settings
        if settings.latency not in LATENCIES:
            raise unknown("latency", settings.latency, tuple(LATENCIES))
        SAMPLERS[settings.sampler]
        device_of(settings.device)
        for name, value, least in (
            ("trials", settings.trials, 1),
            ("classes", settings.num_classes, 1),
            ("evaluation images", settings.eval_images, 0),
        ):
            if value is not None and value < least:
                raise InputError(f"{value} {name}", f"{least} or more")
        if settings.workers not in (None, "auto") and not (settings.workers.isdecimal() and int(settings.workers)):
            raise InputError(f"--workers {settings.workers}", "1 or more, or auto")
        for name in self.estimators:
            if reason := ESTIMATORS[name].available():
                raise InputError(f"{name} cannot be estimated here: {reason}")
        if self.needs_supernet and not settings.data:
            raise InputError(
                "accuracy of a supernet without --data", "a data set", "or use a training-free score: --accuracy nwot"
            )
        if ESTIMATORS[settings.accuracy].direction != "max" or settings.accuracy == "throughput":
            raise InputError(
                f"--accuracy {settings.accuracy}", "an estimator to maximise: supernet, elements, nwot or synflow"
            )
        self._check_targets()
        self._check_limits()
        self.compute.check(self.recipe)
        return self

    def _check_targets(self) -> None:
        settings = self.settings
        if settings.precisions and (
            len(set(settings.precisions)) < 2 or self.target.precision not in settings.precisions
        ):
            raise InputError(
                f"precisions {', '.join(settings.precisions)} as a choice on {settings.target}",
                "two or more, the target's among them",
            )
        if self.target.image_size is not None:
            self.target.image_size.check(f"target {self.target}")
        for target in self.targets.values():
            open_profiler(target).close()
        if settings.others:
            self._check_devices()
        int8 = next((d.target for d in self.devices if d.target.precision == "int8"), self.targets.get("int8"))
        if int8 is not None and RUNTIMES[int8.runtime].measures and not settings.data:
            raise InputError(
                f"{int8} without --data", "a data set", "int8 takes the ranges of activations from its images"
            )
        if settings.precisions:
            self._check_precision_choice()

    def _check_devices(self) -> None:
        """Refuse what a search for several devices does not support: its only costs are their latencies."""
        settings, text = self.settings, f"{1 + len(self.settings.others)} devices"
        if settings.precisions:
            raise InputError(f"--precision {','.join(settings.precisions)} for {text}", "one precision per target")
        if settings.latency != "measured" or self.aims.minimize != ("latency",):
            raise InputError(f"{text} where latency is not the only measured cost", "--latency measured, no --minimize")
        if len(self.objectives) > MAX_OBJECTIVES:
            raise InputError(f"{text} and {len(self.aims.maximize)} accuracies", f"{MAX_OBJECTIVES} objectives in all")
        check_devices(self.devices)

    def _check_precision_choice(self) -> None:
        """Refuse objectives that are the same at every precision: they leave nothing to choose between, or hide what a
        precision costs."""
        aims, choice = self.aims, f"where {', '.join(self.targets)} are a choice"
        costs = (*aims.minimize, *(name for name in aims.maximize if name == "throughput"))
        if not any(ESTIMATORS[name].sees_precision for name in costs):
            raise InputError(f"{costs[0]} as the cost {choice}", "latency", "it is the same at every precision")
        for name in aims.maximize:
            if not ESTIMATORS[name].sees_precision:
                raise InputError(
                    f"{name} as the accuracy {choice}", "--accuracy supernet", "it is the same at every precision"
                )

    def _check_limits(self) -> None:
        settings = self.settings
        if self.budgets and self.budgets.references and self.aims.cost.name != "latency_ms":
            raise InputError(
                f"budgets {settings.budgets} where {self.aims.cost.name} is the cost",
                "numbers",
                "ref: is a reference's latency",
            )
        if self.budgets and self.goals:
            raise InputError("--budgets and --at-least", "one of both: S/M/L go by cost or by accuracy")
        for bound in self.goals.references.values() if self.goals else ():
            if bound.image_size is not None:
                raise InputError(
                    f"--at-least {bound}",
                    f"ref:{bound.reference}",
                    "its accuracy is estimated at the image size that the space has it at",
                )
            point_of(self.space, bound.reference)
