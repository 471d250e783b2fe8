"""How a detector's training begins and who takes part in it: first weights, a teacher, what is frozen or learns
slower."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.core.architecture_file import Artifact
from nas.data.pseudo_labelled import MixedDataset
from nas.data.source import DataPair
from nas.inference.detect import batches, images_of
from nas.supernet.weights import digest_of, is_supernet, load_detector, load_supernet
from nas.training.distillation import DistillationTask, Student, check_pair, open_teacher
from nas.training.recipe import Recipe
from nas.training.tasks import DetectorTask
from nas.training.transfer import UNTUNED, FineTuning, Report, nodes_of, transfer
from search_spaces.detector import Detector
from search_spaces.spaces import space_of

CALIBRATION = 400
"""Images that a supernet's teacher takes its BatchNorm statistics from."""


@dataclass(frozen=True)
class Course:
    """``teacher``: the weights file of a detector or a supernet; ``tuning``: what is frozen, and rates of nodes."""

    teacher: Path | None = None
    tuning: FineTuning = UNTUNED

    def check(self, artifact: Artifact) -> None:
        """An error, before anything is begun, for patterns that fit no node."""
        graph = space_of(artifact.architecture).graph(artifact.architecture)
        nodes_of(graph, (*self.tuning.frozen, *(pattern for pattern, _ in self.tuning.rates)))

    def still(self, detector: Detector) -> list[nn.Module]:
        """The frozen cells."""
        return [detector.cell(node) for node in nodes_of(detector.graph, self.tuning.frozen)]


PLAIN = Course()
"""Labels alone."""


def begin(artifact: Artifact, init: Path | None) -> tuple[Detector, Report]:
    """The detector as its training begins: fresh, or with the weights that fit it from ``init``, a supernet's or
    another detector's; and what was taken."""
    architecture = artifact.architecture
    detector = space_of(architecture).build(architecture, artifact.num_classes)
    if init is None:
        return detector, Report()
    if is_supernet(init):
        supernet, classes, _ = load_supernet(init)
        source = supernet.extract(architecture)
    else:
        source, other, _ = load_detector(init)
        classes = other.classes
    return detector, transfer(source, classes, detector, artifact.classes)


def task_of(
    detector: Detector,
    artifact: Artifact,
    data: DataPair,
    recipe: Recipe,
    steps: int,
    init: Path | None,
    course: Course,
) -> DetectorTask:
    """What is trained in ``steps`` steps, on the device where the detector is."""
    identity = f"detector {artifact.architecture.id} {data.fingerprint} from {_begun(init)}"
    weighted = isinstance(data.train, MixedDataset)
    if course.teacher is None:
        return DetectorTask(detector, identity, recipe.loss(), course.tuning, weighted)
    device, size = next(detector.parameters()).device, int(artifact.architecture["image_size"])
    images = partial(_calibration, data, size, device)
    teacher = open_teacher(course.teacher, artifact.classes, device, images)
    check_pair(detector, teacher, size, recipe.distill_features > 0)
    return DistillationTask(detector, identity, teacher, recipe, steps, course.tuning, weighted)


def _calibration(data: DataPair, size: int, device: torch.device) -> Iterator[Tensor]:
    return images_of(batches(data.train, size, limit=CALIBRATION), device)


def detector_of(averaged: nn.Module) -> Detector:
    """The detector in what a task has trained."""
    found = averaged.detector if isinstance(averaged, Student) else averaged
    assert isinstance(found, Detector)
    return found


def origin(data: DataPair, recipe: Recipe, init: Path | None, course: Course) -> dict[str, Any]:
    """What of a training its weights' record names: with the same, it need not be repeated."""
    found = {"recipe": recipe.to_dict(), "from": _begun(init), "data": data.fingerprint}
    if course.teacher is not None:
        found["teacher"] = f"{course.teacher.name} {digest_of(course.teacher)}"
    return {**found, **({"tuning": str(course.tuning).strip()} if str(course.tuning) else {})}


def _begun(init: Path | None) -> str:
    if init is None:
        return "scratch"
    return "supernet" if is_supernet(init) else f"weights {digest_of(init)}"
