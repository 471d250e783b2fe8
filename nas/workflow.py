"""The steps of the main job, each usable alone: train a supernet, search, train what was chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from latency_db.db import LatencyDB
from latency_db.profiler import Workload
from latency_db.runtimes import open_profiler
from latency_db.target import Target
from nas.accuracy import batches, images_of, mean_average_precision
from nas.artifact import Artifact, DataRecord, StudyRecord, read_artifact, write_artifact
from nas.console import Display
from nas.data.loader import Loader
from nas.data.source import DataPair, open_data
from nas.data.transforms import Augmentation
from nas.estimate import Candidate, Estimate, Objective
from nas.estimators import ESTIMATORS
from nas.estimators.base import Context, Estimator
from nas.estimators.latency import Latency, latency_workload
from nas.evaluation import Metrics
from nas.files import atomic_write
from nas.report.frontier import frontier_data, write_frontier
from nas.report.tables import Front, write_front
from nas.selection import Selection, confirm, parse_budgets, select
from nas.study import Bound, Study
from nas.supernet import Supernet
from nas.training.bn import recalibrate
from nas.training.loop import fit
from nas.training.precision import device_of
from nas.training.recipe import Recipe
from nas.training.tasks import DetectorTask, SandwichTask
from nas.weights import load_detector, load_supernet, save_detector, save_supernet
from search_spaces.architecture import Value
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace
from search_spaces.spaces import SPACES, space_of

CACHE_BYTES = 2 << 30
"""Decoded pictures kept in memory while training."""


def open_cached(spec: str, limit: int | None, display: Display) -> DataPair:
    """A data set, its problems told."""
    data = open_data(spec, limit=limit)
    for line in data.problems():
        display.note(f"data: {line}")
    return replace(data, train=data.train.cached(CACHE_BYTES))


def image_size_of(space: SearchSpace) -> int:
    """The one image size a supernet is trained at: the largest left in the space."""
    return int(space["image_size"].values[-1])


def training_batches(data: DataPair, recipe: Recipe, image_size: int, augment: bool) -> Loader:
    """What a training goes through; an error where the train split does not fill a batch."""
    augmentation = data.augmentation if augment else Augmentation.NONE
    return Loader(data.train, recipe.batch_size, image_size, augmentation, recipe.seed, shuffle=True, drop_last=True)


def train_supernet(
    space: SearchSpace, data: DataPair, recipe: Recipe, path: Path, display: Display, device: str = "auto", augment: bool = True
) -> Supernet:
    """Train by the sandwich rule and write the averaged weights to ``path``; a checkpoint beside it makes an interrupted training go on."""
    where = device_of(device)
    torch.manual_seed(recipe.seed)
    supernet = Supernet(space, len(data.classes)).to(where)
    values = {c.name: c.values for c in space.choices}
    task = SandwichTask(supernet, f"supernet {space.name}@{space.version} {values} {data.fingerprint}", recipe.seed)
    loader = training_batches(data, recipe, image_size_of(space), augment)
    checkpoint = path.with_suffix(".ckpt")
    with display.training("supernet") as watch:
        averaged = fit(task, loader, recipe, checkpoint, watch)
    assert isinstance(averaged, Supernet)
    save_supernet(path, averaged, data.classes, {"recipe": recipe.to_dict(), "data": data.fingerprint})
    checkpoint.unlink(missing_ok=True)
    return averaged


def train_detector(
    artifact: Artifact,
    data: DataPair,
    recipe: Recipe,
    path: Path,
    display: Display,
    init: Supernet | None = None,
    device: str = "auto",
    augment: bool = True,
) -> Metrics:
    """Train one architecture, evaluate its averaged weights on the whole val split, write ``path`` (safetensors) and the metrics beside it."""
    architecture = artifact.architecture
    check_classes(artifact, data)
    where = device_of(device)
    torch.manual_seed(recipe.seed)
    detector = space_of(architecture).build(architecture, len(data.classes)) if init is None else init.extract(architecture)
    detector.to(where)
    size = int(architecture["image_size"])
    loader = training_batches(data, recipe, size, augment)
    checkpoint = path.with_suffix(".ckpt")
    task = DetectorTask(detector, f"detector {architecture.id} {data.fingerprint} {'from supernet' if init else 'from scratch'}")
    with display.training(f"train {artifact.name}") as watch:
        averaged = fit(task, loader, recipe, checkpoint, watch)
    assert isinstance(averaged, Detector)
    metrics = evaluate_detector(averaged, data, size)
    record = {"metrics": metrics.to_dict(), "recipe": recipe.to_dict(), "from": "supernet" if init else "scratch", "data": data.fingerprint}
    save_detector(path, averaged, artifact, record)
    atomic_write(path.with_suffix(".metrics.json"), json.dumps(record, indent=2) + "\n")
    checkpoint.unlink(missing_ok=True)
    return metrics


def check_classes(artifact: Artifact, data: DataPair) -> None:
    """An error unless the data set has the classes of the architecture's file, in their order."""
    if artifact.classes != data.classes:
        raise InputError(
            f"data set with classes {list(data.classes)}", f"those of {artifact.name}: {list(artifact.classes)}", "search on this data set"
        )


def evaluate_detector(detector: Detector, data: DataPair, size: int) -> Metrics:
    """Recalibrate BatchNorm on train pictures (in place) and give the COCO metrics on the val split."""
    where = next(detector.parameters()).device
    recalibrate(detector, images_of(batches(data.train, size, limit=400), where))
    return mean_average_precision(detector, data.val, batches(data.val, size))


@dataclass(frozen=True)
class SearchSettings:
    """All that decides a search; kept as ``run.json``, so that ``--resume`` needs nothing else."""

    space: str = "yolo-nano"
    fixed: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    data: str | None = None
    num_classes: int | None = None
    limit: int | None = None
    target: str = "onnxruntime:fp32"
    accuracy: str = "supernet"
    trials: int = 100
    sampler: str = "nsga2"
    seed: int = 0
    budgets: str | None = None
    bounds: tuple[str, ...] = ()
    supernet: str | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    augment: bool = True
    eval_images: int = 500
    latency_db: str | None = None
    storage: str | None = None
    device: str = "auto"
    name: str = ""

    def write(self, folder: Path) -> None:
        """``run.json``; the study keeps its name when the folder is moved."""
        atomic_write(folder / "run.json", json.dumps({**asdict(self), "name": self.study_name(folder)}, indent=2) + "\n")

    def study_name(self, folder: Path) -> str:
        """The name that the run began with: its folder's."""
        return self.name or folder.resolve().name

    @classmethod
    def read(cls, folder: Path) -> SearchSettings:
        """Inverse of :meth:`write`."""
        path = folder / "run.json"
        try:
            data = json.loads(path.read_text())
            data["fixed"] = {name: tuple(values) for name, values in data["fixed"].items()}
            data["bounds"] = tuple(data["bounds"])
            return cls(**data)
        except FileNotFoundError:
            raise InputError(f"{folder} is no run of nas search", "a folder with run.json") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path} cannot be used ({type(error).__name__}: {error})", "the file that nas search wrote") from None

    def check(self) -> None:
        """Everything that can be wrong before work begins is said now."""
        self.open_space()
        open_profiler(Target.parse(self.target)).close()
        device_of(self.device)
        self.open_bounds()
        if self.num_classes is not None and self.num_classes < 1:
            raise InputError(f"{self.num_classes} classes", "1 or more")
        if self.budgets:
            parse_budgets(self.budgets)
        if self.trials < 1:
            raise InputError(f"{self.trials} trials", "1 or more")
        if self.accuracy == "supernet" and not self.data:
            raise InputError("--accuracy supernet without --data", "a data set", "or use a zero-cost score: --accuracy nwot")
        if self.objectives[1].direction != "max" or self.accuracy == "latency":
            raise InputError(f"--accuracy {self.accuracy}", "an estimator to maximise: supernet, nwot or synflow")
        self.open_recipe()

    def open_space(self) -> SearchSpace:
        """The space, restricted."""
        return SPACES[self.space].restrict(self.fixed)

    def open_recipe(self) -> Recipe:
        """How the supernet is trained."""
        return Recipe(**{"seed": self.seed, **self.recipe})

    def open_bounds(self) -> tuple[Bound, ...]:
        """The bounds, each on an estimate's name, whether that or its estimator's was written."""
        bounds = (parse_bound(text) for text in self.bounds)
        return tuple(replace(b, name=ESTIMATORS[_registry_name(b.name)].name) for b in bounds)

    @property
    def objectives(self) -> tuple[Objective, Objective]:
        """Cost and gain."""
        return ESTIMATORS["latency"].objective(), ESTIMATORS[self.accuracy].objective()


@dataclass(frozen=True)
class SearchResult:
    """What a search gives: everything evaluated, and the chosen."""

    candidates: tuple[Candidate, ...]
    selection: Selection
    artifacts: tuple[Artifact, ...]


def search(settings: SearchSettings, folder: Path, display: Display) -> SearchResult:
    """Run, or go on with, a search in ``folder``; S/M/L are measured again before they are written."""
    space = settings.open_space()
    cost, gain = settings.objectives
    budgets = parse_budgets(settings.budgets) if settings.budgets else None
    data = open_cached(settings.data, settings.limit, display) if settings.data else None
    classes = data.classes if data else tuple(f"class{i}" for i in range(settings.num_classes or 80))
    supernet = None
    if settings.accuracy == "supernet":
        supernet = _given_supernet(settings, space, data, folder)
        if supernet is None:
            training_batches(_with_data(data), settings.open_recipe(), image_size_of(space), settings.augment)
    if not (folder / "run.json").exists():  # only now: what is wrong with the input must not leave a run behind
        settings.write(folder)
    if settings.accuracy == "supernet":
        supernet = (supernet or _train_supernet(settings, space, data, folder, display)).to(device_of(settings.device))
    study = Study(
        settings.storage or folder / "study.journal",
        settings.study_name(folder),
        space,
        (cost, gain),
        settings.sampler,
        settings.seed,
        settings.open_bounds(),
    )
    with LatencyDB(settings.latency_db or default_latency_db()) as database:
        context = Context(
            space,
            len(classes),
            data,
            Target.parse(settings.target),
            database,
            supernet,
            settings.device,
            settings.eval_images,
            seed=settings.seed,
            scratch=folder,
        )
        names = dict.fromkeys(("params", "macs", "latency", settings.accuracy, *(_registry_name(b.name) for b in settings.open_bounds())))
        estimators = {name: ESTIMATORS[name](context) for name in names}
        try:
            with display.search() as watch:
                study.run(list(estimators.values()), settings.trials, watch)
            return _conclude(settings, study, estimators, classes, data, budgets, folder, display)
        finally:
            for estimator in estimators.values():
                estimator.close()
            (folder / "candidate.onnx").unlink(missing_ok=True)


def _conclude(
    settings: SearchSettings,
    study: Study,
    estimators: Mapping[str, Estimator],
    classes: tuple[str, ...],
    data: DataPair | None,
    budgets: Any,
    folder: Path,
    display: Display,
) -> SearchResult:
    cost, gain = settings.objectives
    if not study.archive.front:
        first = study.failures[0][1] if study.failures else "no trial was run"
        raise InputError(f"no candidate was evaluated ({len(study.failures)} failed or outside a bound, the first: {first})", "at least one")
    display.note("measuring the chosen again, each in a fresh process")
    latency = estimators["latency"]
    assert isinstance(latency, Latency)
    # Every candidate, not the front alone: where noise put a pick over its budget, the next one may lie behind the front.
    selection = confirm(select(study.candidates, cost.name, gain.name, budgets), lambda c: latency.again(c.architecture))
    for note in (*selection.notes, *(f"{r.name}: {r.before.id} was replaced, {r.reason}" for r in selection.replaced)):
        display.note(note)
    record = DataRecord(data.name, data.fingerprint) if data else DataRecord("none", "none")
    artifacts = []
    for pick in selection:
        c = pick.candidate
        origin = StudyRecord(settings.study_name(folder), settings.seed, c.trial, len(study.candidates))
        artifacts.append(Artifact(pick.name, c.architecture, c.estimates, origin, classes, record))
        write_artifact(folder / f"{pick.name}.json", artifacts[-1])
    write_outputs(settings, study.candidates, study, selection, folder, data.name if data else "")
    return SearchResult(tuple(study.candidates), selection, tuple(artifacts))


def write_outputs(settings: SearchSettings, candidates: list[Candidate], study: Study, selection: Selection, folder: Path, data_name: str) -> None:
    """``front.json``, ``front.csv``, ``frontier.html``, ``frontier.png``."""
    cost, gain = settings.objectives
    archive = study.archive
    chosen = tuple((pick.name, pick.candidate.id) for pick in selection)
    write_front(folder, Front((cost, gain), archive.front, chosen, archive.hypervolume, archive.reference))
    data = frontier_data(
        candidates,
        cost,
        gain,
        selection=selection,
        target=settings.target,
        data_set=data_name,
        hypervolume=archive.hypervolume,
        title=f"Efficiency frontier: {settings.space}",
    )
    write_frontier(folder, data)


def _given_supernet(settings: SearchSettings, space: SearchSpace, data: DataPair | None, folder: Path) -> Supernet | None:
    """The supernet that is named, or that the run has trained already, checked to fit; none where it has yet to be trained."""
    data = _with_data(data)
    path = Path(settings.supernet) if settings.supernet else folder / "supernet.safetensors"
    if not settings.supernet and not path.exists():
        return None
    supernet, classes, _ = load_supernet(path)
    if classes != data.classes:
        raise InputError(f"{path} was trained for classes {list(classes)}", f"those of the data set: {list(data.classes)}")
    for choice in space.choices:
        if missing := [v for v in choice.values if choice.weights and v not in supernet.space[choice.name].values]:
            raise InputError(f"{choice.name} = {missing} of the search", f"values the supernet has: {supernet.space[choice.name].values}")
    return supernet


def _train_supernet(settings: SearchSettings, space: SearchSpace, data: DataPair | None, folder: Path, display: Display) -> Supernet:
    path = folder / "supernet.safetensors"
    return train_supernet(space, _with_data(data), settings.open_recipe(), path, display, settings.device, settings.augment)


def _with_data(data: DataPair | None) -> DataPair:
    if data is None:
        raise InputError("--accuracy supernet without a data set", "--data", "name a data set, or use a zero-cost score: --accuracy nwot")
    return data


def final_candidate(artifact: Artifact, metrics: Metrics) -> Candidate:
    """The chosen architecture with its trained accuracy in the place of the predicted one."""
    candidate = Candidate(artifact.architecture, artifact.estimates, artifact.study.trial)
    return candidate.with_estimate(Estimate("map", metrics.map, source="trained"))


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


def _registry_name(estimate: str) -> str:
    """The registry's name of the estimator that gives an estimate."""
    for name in ESTIMATORS:
        if estimate in (ESTIMATORS[name].name, name):
            return name
    raise InputError(f"bound on {estimate!r}", f"one of {', '.join(ESTIMATORS[n].name for n in ESTIMATORS)}")


def default_latency_db() -> Path:
    """One database for all searches of this user: a second search re-uses every measurement."""
    from nas.data.source import cache_folder

    return cache_folder() / "latency.sqlite"


def workload_of(path: Path, target: Target, scratch: Path) -> Workload:
    """What to time of an ONNX file (its own batch and size), an architecture file or weights (exported for the target)."""
    if path.suffix == ".onnx":
        return Workload.of_file(path)
    if path.suffix == ".safetensors":
        _, artifact, _ = load_detector(path)
    else:
        artifact = read_artifact(path)
    context = Context(space_of(artifact.architecture), artifact.num_classes, target=target, scratch=scratch)
    return latency_workload(context, artifact.architecture)
