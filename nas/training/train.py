"""Training of a supernet, and of the architectures that were chosen; in one process or several."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nas.core import distributed as processes
from nas.core.architecture_file import Artifact
from nas.core.atomic import atomic_write
from nas.core.compute import device_of
from nas.core.estimate import Candidate, Estimate
from nas.core.reporter import Reporter
from nas.core.training_progress import Watch
from nas.data.loader import Loader, LoaderConfig
from nas.data.source import DataPair, open_data
from nas.data.transforms import Augmentation
from nas.inference.coco_metrics import Metrics
from nas.supernet.supernet import Supernet
from nas.supernet.weights import load_detector, load_supernet, save_detector, save_supernet
from nas.training.initialization import PLAIN, Course, begin, detector_of, origin, task_of
from nas.training.loggers import Logged
from nas.training.logging_options import UNRECORDED, Records
from nas.training.loop import fit
from nas.training.recipe import Recipe
from nas.training.tasks import SandwichTask
from nas.training.validation import Validation, validate
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace
from search_spaces.spaces import space_of
from search_spaces.trace import trace

MOST_LOADERS = 8
"""Threads that prepare batches for a GPU; more of them wait for the interpreter's lock."""
CACHE_BYTES = 2 << 30
"""Decoded images kept in memory while training, by all processes together."""


@dataclass(frozen=True)
class Means:
    """What a training runs on: device, number of processes to start (CPU only; torchrun starts its own), and whether
    images are augmented."""

    device: str = "auto"
    processes: int = 1
    augment: bool = True

    def check(self, recipe: Recipe) -> Means:
        """Itself, or an error where it cannot be."""
        if self.processes > 1 and device_of(self.device).type != "cpu":
            hint = f"leave --processes out, or: torchrun --nproc-per-node {self.processes} -m nas train …"
            raise InputError(f"{self.processes} processes on {self.device}", "1 process on a GPU", hint)
        if self.processes > 1 and processes.count() > 1:
            raise InputError(f"--processes {self.processes} in what torchrun started", "one of the two")
        together = max(self.processes, processes.count())
        if self.processes < 1 or recipe.batch_size % together:
            raise InputError(
                f"{together} processes for batches of {recipe.batch_size}", "a number that divides the batch size"
            )
        return self


def open_training_data(spec: str, limit: int | None, reporter: Reporter) -> DataPair:
    """A data set, its problems told."""
    data = open_data(spec, limit=limit)
    for line in data.problems():
        reporter.note(f"data: {line}")
    return data


@contextmanager
def _telling_problems(data: DataPair, reporter: Reporter) -> Iterator[None]:
    """What only decoding shows to be wrong with a data set is told when the work on it ends: images that were left
    out."""
    before = set(data.problems())
    yield
    for line in data.problems():
        if line not in before:
            reporter.note(f"data: {line}")


def image_size_of(space: SearchSpace) -> int:
    """The one image size a supernet is trained at: the largest left in the space."""
    return int(space["image_size"].values[-1])


def training_batches(data: DataPair, recipe: Recipe, image_size: int, augment: bool, device: str = "cpu") -> Loader:
    """What a training goes through, this process's share of it; an error where the train split does not fill a batch.

    A GPU takes images faster than one thread makes them; on a CPU more threads would only take cores from the
    network.
    """
    augmentation = data.augmentation.changed(recipe.augmentation) if augment else Augmentation.NONE
    share = processes.rank(), processes.count()
    images = data.train.cached(CACHE_BYTES // processes.count())
    workers = (
        1 if device_of(device).type == "cpu" else max(1, min(MOST_LOADERS, processes.cores() // processes.count() - 1))
    )
    return Loader(
        images,
        LoaderConfig(
            recipe.batch_size,
            image_size,
            augmentation,
            recipe.seed,
            shuffle=True,
            drop_last=True,
            workers=workers,
            share=share,
            epochs=recipe.epochs,
            accumulate=recipe.accumulate,
        ),
    )


def train_supernet(
    space: SearchSpace,
    data: DataPair,
    recipe: Recipe,
    path: Path,
    reporter: Reporter,
    means: Means = Means(),
    records: Records = UNRECORDED,
) -> Supernet:
    """Train by the sandwich rule and write the averaged weights to ``path``; a checkpoint beside it makes an
    interrupted training go on."""
    means.check(recipe)
    if records.keep_best:
        raise InputError(
            "the best of a supernet", "--keep last", "its mAP while training is its largest architecture's alone"
        )
    settings = {"space": space.name, **origin(data, recipe, None, PLAIN)}
    with (
        _telling_problems(data, reporter),
        reporter.training("supernet") as watch,
        Logged(watch, records.loggers, path, settings) as logged,
    ):
        processes.launch(partial(_fit_supernet, space, data, recipe, path, means, records), means.processes, logged)
    _drop_checkpoint(path)
    return load_supernet(path)[0].to(device_of(means.device))


def _fit_supernet(
    space: SearchSpace, data: DataPair, recipe: Recipe, path: Path, means: Means, records: Records, watch: Watch
) -> None:
    torch.manual_seed(recipe.seed)
    supernet = Supernet(space, len(data.classes)).to(device_of(means.device))
    values = {c.name: c.values for c in space.choices}
    size = image_size_of(space)
    loader = training_batches(data, recipe, size, means.augment, means.device)
    alone = round(recipe.largest_first * recipe.epochs * (len(loader) // recipe.accumulate))
    identity = f"supernet {space.name}@{space.version} {values} {data.fingerprint}"
    task = SandwichTask(supernet, identity, recipe.seed, ramp_steps=alone or 500, alone_steps=alone, loss=recipe.loss())
    validation = Validation(records.eval_every, data, size, partial(_largest, space)) if records.eval_every else None
    averaged = fit(task, loader, recipe, path.with_suffix(".ckpt"), watch, validation=validation)
    assert isinstance(averaged, Supernet)
    if not processes.rank():
        record = {
            "recipe": recipe.to_dict(),
            "data": data.fingerprint,
            "augmentation": loader.config.augmentation.to_dict(),
        }
        save_supernet(path, averaged, data.classes, record)
    processes.gather(None)  # nobody goes on before the file is there


def _largest(space: SearchSpace, averaged: torch.nn.Module) -> Detector:
    assert isinstance(averaged, Supernet)
    return averaged.extract(space.largest)


def train_detector(
    artifact: Artifact,
    data: DataPair,
    recipe: Recipe,
    path: Path,
    reporter: Reporter,
    init: Path | None = None,
    means: Means = Means(),
    course: Course = PLAIN,
    records: Records = UNRECORDED,
) -> Metrics:
    """Train one architecture, evaluate its averaged weights on the whole val split, write ``path`` (safetensors) and
    the metrics beside it.

    ``init``: weights to begin with, a supernet's or a detector's; ``course``: who teaches it besides the labels, what
    of it is frozen or learns slower.
    """
    check_classes(artifact, data)
    means.check(recipe)
    course.check(artifact)
    if init is not None:
        for line in begin(artifact, init)[1].lines():
            reporter.note(f"{init.name}: {line}")
    settings = {"architecture": artifact.architecture.id, **origin(data, recipe, init, course)}
    with (
        _telling_problems(data, reporter),
        reporter.training(f"train {artifact.name}") as watch,
        Logged(watch, records.loggers, path, settings) as logged,
    ):
        processes.launch(
            partial(_fit_detector, artifact, data, recipe, path, init, means, course, records), means.processes, logged
        )
    return _finish(path)


def train_detectors(
    artifacts: Sequence[Artifact],
    data: DataPair,
    recipe: Recipe,
    folder: Path,
    reporter: Reporter,
    init: Path | None = None,
    augment: bool = True,
    device: str = "auto",
    at_once: int | None = None,
    course: Course = PLAIN,
) -> list[Metrics]:
    """:func:`train_detector` of each into ``folder``; what an earlier call finished is kept. ``at_once``: side by
    side, by default one on a GPU.

    On a CPU it is one on each core: small networks train faster so than one after the other on all cores, their
    operators being too short to be divided.
    """
    means = Means(device, augment=augment).check(recipe)
    paths = [folder / f"{artifact.name}.safetensors" for artifact in artifacts]
    left = [
        (a, path)
        for a, path in zip(artifacts, paths, strict=True)
        if not _finished(a, path, origin(data, recipe, init, course))
    ]
    for artifact, _ in left:
        check_classes(artifact, data)
    left.sort(key=lambda job: -_macs(job[0]))  # the longest first, so that the others fill what it leaves
    works = [
        partial(_fit_detector, artifact, data, recipe, path, init, means, course, UNRECORDED) for artifact, path in left
    ]
    at_once = at_once or (processes.cores() if device_of(means.device).type == "cpu" else 1)
    if works:
        with reporter.trainings([f"train {artifact.name}" for artifact, _ in left]) as watches, ExitStack() as stack:
            logged = [
                stack.enter_context(Logged(watch, (), path, {})) for watch, (_, path) in zip(watches, left, strict=True)
            ]
            processes.each(works, min(at_once, len(works)), logged)
    return [_finish(path) for path in paths]


def _macs(artifact: Artifact) -> int:
    return trace(space_of(artifact.architecture).graph(artifact.architecture), artifact.num_classes).macs


def _finish(path: Path) -> Metrics:
    """The metrics of finished weights, written beside them."""
    _, _, record = load_detector(path)
    if not processes.rank():
        atomic_write(path.with_suffix(".metrics.json"), json.dumps(record, indent=2) + "\n")
    _drop_checkpoint(path)
    return Metrics.from_dict(record.get("metrics"), f"{path}: metrics")


def _drop_checkpoint(path: Path) -> None:
    if not processes.rank():
        path.with_suffix(".ckpt").unlink(missing_ok=True)


def _fit_detector(
    artifact: Artifact,
    data: DataPair,
    recipe: Recipe,
    path: Path,
    init: Path | None,
    means: Means,
    course: Course,
    records: Records,
    watch: Watch,
) -> None:
    torch.manual_seed(recipe.seed)
    detector, report = begin(artifact, init)
    detector.to(device_of(means.device))
    size = int(artifact.architecture["image_size"])
    loader = training_batches(data, recipe, size, means.augment, means.device)

    def write(file: Path, found: Detector, metrics: Metrics) -> None:
        record = {
            "metrics": metrics.to_dict(),
            **origin(data, recipe, init, course),
            "augmentation": loader.config.augmentation.to_dict(),
        }
        save_detector(file, found, artifact, {**record, **({"transfer": report.to_dict()} if init else {})})

    best = partial(write, path.with_suffix(".best.safetensors")) if records.keep_best else None
    validation = Validation(records.eval_every, data, size, _copied, best, course.still) if records.eval_every else None
    task = task_of(detector, artifact, data, recipe, len(loader) // recipe.accumulate * recipe.epochs, init, course)
    averaged = detector_of(fit(task, loader, recipe, path.with_suffix(".ckpt"), watch, validation=validation))
    metrics = validate(averaged, data, size, course.still(averaged))
    if not processes.rank():
        write(path, averaged, metrics)
    processes.gather(None)  # nobody goes on before the file is there


def _copied(averaged: torch.nn.Module) -> Detector:
    return copy.deepcopy(detector_of(averaged))


def _finished(artifact: Artifact, path: Path, origin: dict[str, Any]) -> bool:
    """Whether ``path`` holds the outcome of this very training."""
    if not path.exists():
        return False
    _, found, record = load_detector(path)
    record = {
        **record,
        "recipe": {**Recipe().to_dict(), **record.get("recipe", {})},
    }  # an older one lacks what is at its default
    return found.architecture == artifact.architecture and all(record.get(k) == v for k, v in origin.items())


def check_classes(artifact: Artifact, data: DataPair) -> None:
    """An error unless the data set has the classes of the architecture's file, in their order."""
    if artifact.classes != data.classes:
        raise InputError(
            f"data set with classes {list(data.classes)}",
            f"those of {artifact.name}: {list(artifact.classes)}",
            "search on this data set",
        )


def final_candidate(artifact: Artifact, metrics: Metrics) -> Candidate:
    """The chosen architecture with its trained accuracy in the place of the predicted one."""
    candidate = Candidate(artifact.architecture, artifact.estimates, artifact.study.trial)
    return candidate.with_estimate(Estimate("map", metrics.map, source="trained"))
