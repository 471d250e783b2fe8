"""Training of a supernet, and of the architectures that were chosen; in one process or several."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nas.accuracy import batches, images_of, mean_average_precision
from nas.artifact import Artifact
from nas.console import Display
from nas.data.loader import Loader
from nas.data.source import DataPair, open_data
from nas.data.transforms import Augmentation
from nas.estimate import Candidate, Estimate
from nas.evaluation import Metrics
from nas.files import atomic_write
from nas.supernet import Supernet
from nas.training import processes
from nas.training.bn import recalibrate
from nas.training.loop import fit
from nas.training.precision import device_of
from nas.training.progress import Watch
from nas.training.recipe import Recipe
from nas.training.tasks import SandwichTask
from nas.weights import load_detector, load_supernet, save_detector, save_supernet
from nas.workflow.course import PLAIN, Course, begin, detector_of, origin, task_of
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace
from search_spaces.spaces import space_of
from search_spaces.trace import trace

MOST_LOADERS = 8
"""Threads that prepare batches for a GPU; more of them wait for the interpreter's lock."""
CACHE_BYTES = 2 << 30
"""Decoded pictures kept in memory while training, by all processes together."""


@dataclass(frozen=True)
class Means:
    """What a training runs on: device, number of processes (CPU only), and whether pictures are augmented."""

    device: str = "auto"
    processes: int = 1
    augment: bool = True

    def check(self, recipe: Recipe) -> Means:
        """Itself, or an error where it cannot be."""
        if self.processes > 1 and device_of(self.device).type != "cpu":
            raise InputError(f"{self.processes} processes on {self.device}", "1 process on a GPU", "leave --processes out")
        if self.processes < 1 or recipe.batch_size % self.processes:
            raise InputError(f"{self.processes} processes for batches of {recipe.batch_size}", "a number that divides the batch size")
        return self


def open_training_data(spec: str, limit: int | None, display: Display) -> DataPair:
    """A data set, its problems told."""
    data = open_data(spec, limit=limit)
    for line in data.problems():
        display.note(f"data: {line}")
    return data


def image_size_of(space: SearchSpace) -> int:
    """The one image size a supernet is trained at: the largest left in the space."""
    return int(space["image_size"].values[-1])


def training_batches(data: DataPair, recipe: Recipe, image_size: int, augment: bool, device: str = "cpu") -> Loader:
    """What a training goes through, this process's share of it; an error where the train split does not fill a batch.

    A GPU takes pictures faster than one thread makes them; on a CPU more threads would only take cores from the network.
    """
    augmentation = data.augmentation if augment else Augmentation.NONE
    share = processes.rank(), processes.count()
    pictures = data.train.cached(CACHE_BYTES // processes.count())
    workers = 1 if device_of(device).type == "cpu" else max(1, min(MOST_LOADERS, processes.cores() - 1))
    return Loader(pictures, recipe.batch_size, image_size, augmentation, recipe.seed, shuffle=True, drop_last=True, workers=workers, share=share)


def train_supernet(
    space: SearchSpace,
    data: DataPair,
    recipe: Recipe,
    path: Path,
    display: Display,
    means: Means = Means(),
) -> Supernet:
    """Train by the sandwich rule and write the averaged weights to ``path``; a checkpoint beside it makes an interrupted training go on."""
    means.check(recipe)
    with display.training("supernet") as watch:
        processes.launch(partial(_fit_supernet, space, data, recipe, path, means), means.processes, watch)
    path.with_suffix(".ckpt").unlink(missing_ok=True)
    return load_supernet(path)[0].to(device_of(means.device))


def _fit_supernet(space: SearchSpace, data: DataPair, recipe: Recipe, path: Path, means: Means, watch: Watch) -> None:
    torch.manual_seed(recipe.seed)
    supernet = Supernet(space, len(data.classes)).to(device_of(means.device))
    values = {c.name: c.values for c in space.choices}
    loader = training_batches(data, recipe, image_size_of(space), means.augment, means.device)
    alone = round(recipe.largest_first * recipe.epochs * len(loader))
    identity = f"supernet {space.name}@{space.version} {values} {data.fingerprint}"
    task = SandwichTask(supernet, identity, recipe.seed, ramp_steps=alone or 500, alone_steps=alone, loss=recipe.loss())
    averaged = fit(task, loader, recipe, path.with_suffix(".ckpt"), watch)
    assert isinstance(averaged, Supernet)
    if not processes.rank():
        save_supernet(path, averaged, data.classes, {"recipe": recipe.to_dict(), "data": data.fingerprint})


def train_detector(
    artifact: Artifact,
    data: DataPair,
    recipe: Recipe,
    path: Path,
    display: Display,
    init: Path | None = None,
    means: Means = Means(),
    course: Course = PLAIN,
) -> Metrics:
    """Train one architecture, evaluate its averaged weights on the whole val split, write ``path`` (safetensors) and the metrics beside it.

    ``init``: weights to begin with, a supernet's or a detector's; ``course``: who teaches it besides the labels, what of it is frozen or learns slower.
    """
    check_classes(artifact, data)
    means.check(recipe)
    course.check(artifact)
    if init is not None:
        for line in begin(artifact, init)[1].lines():
            display.note(f"{init.name}: {line}")
    with display.training(f"train {artifact.name}") as watch:
        processes.launch(partial(_fit_detector, artifact, data, recipe, path, init, means, course), means.processes, watch)
    return _finish(path)


def train_detectors(
    artifacts: Sequence[Artifact],
    data: DataPair,
    recipe: Recipe,
    folder: Path,
    display: Display,
    init: Path | None = None,
    augment: bool = True,
    device: str = "auto",
    at_once: int | None = None,
    course: Course = PLAIN,
) -> list[Metrics]:
    """:func:`train_detector` of each into ``folder``; what an earlier call finished is kept. ``at_once``: side by side, by default one on a GPU.

    On a CPU it is one on each core: small networks train faster so than one after the other on all cores, their operators being too short to be divided.
    """
    means = Means(device, augment=augment).check(recipe)
    paths = [folder / f"{artifact.name}.safetensors" for artifact in artifacts]
    left = [(a, path) for a, path in zip(artifacts, paths, strict=True) if not _finished(a, path, origin(data, recipe, init, course))]
    for artifact, _ in left:
        check_classes(artifact, data)
    left.sort(key=lambda job: -_macs(job[0]))  # the longest first, so that the others fill what it leaves
    works = [partial(_fit_detector, artifact, data, recipe, path, init, means, course) for artifact, path in left]
    at_once = at_once or (processes.cores() if device_of(means.device).type == "cpu" else 1)
    if works:
        with display.trainings([f"train {artifact.name}" for artifact, _ in left]) as watches:
            processes.each(works, min(at_once, len(works)), watches)
    return [_finish(path) for path in paths]


def _macs(artifact: Artifact) -> int:
    return trace(space_of(artifact.architecture).graph(artifact.architecture), artifact.num_classes).macs


def _finish(path: Path) -> Metrics:
    """The metrics of finished weights, written beside them."""
    _, _, record = load_detector(path)
    atomic_write(path.with_suffix(".metrics.json"), json.dumps(record, indent=2) + "\n")
    path.with_suffix(".ckpt").unlink(missing_ok=True)
    return Metrics.from_dict(record["metrics"])


def _fit_detector(
    artifact: Artifact, data: DataPair, recipe: Recipe, path: Path, init: Path | None, means: Means, course: Course, watch: Watch
) -> None:
    torch.manual_seed(recipe.seed)
    detector, report = begin(artifact, init)
    detector.to(device_of(means.device))
    size = int(artifact.architecture["image_size"])
    loader = training_batches(data, recipe, size, means.augment, means.device)
    task = task_of(detector, artifact, data, recipe, len(loader) * recipe.epochs, init, course)
    averaged = detector_of(fit(task, loader, recipe, path.with_suffix(".ckpt"), watch))
    if not processes.rank():
        recalibrate(averaged, images_of(batches(data.train, size, limit=400), device_of(means.device)), course.still(averaged))
        metrics = mean_average_precision(averaged, data.val, batches(data.val, size))
        record = {"metrics": metrics.to_dict(), **origin(data, recipe, init, course)}
        save_detector(path, averaged, artifact, {**record, **({"transfer": report.to_dict()} if init else {})})


def _finished(artifact: Artifact, path: Path, origin: dict[str, Any]) -> bool:
    """Whether ``path`` holds the outcome of this very training."""
    if not path.exists():
        return False
    _, found, record = load_detector(path)
    return found.architecture == artifact.architecture and all(record.get(k) == v for k, v in origin.items())


def check_classes(artifact: Artifact, data: DataPair) -> None:
    """An error unless the data set has the classes of the architecture's file, in their order."""
    if artifact.classes != data.classes:
        raise InputError(
            f"data set with classes {list(data.classes)}", f"those of {artifact.name}: {list(artifact.classes)}", "search on this data set"
        )


def final_candidate(artifact: Artifact, metrics: Metrics) -> Candidate:
    """The chosen architecture with its trained accuracy in the place of the predicted one."""
    candidate = Candidate(artifact.architecture, artifact.estimates, artifact.study.trial)
    return candidate.with_estimate(Estimate("map", metrics.map, source="trained"))
