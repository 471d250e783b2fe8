"""The first weights of a detector, and the task that trains it: labels alone, or distillation."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from nas.core.architecture_file import Artifact
from nas.data.pseudo_labelled import MixedDataset
from nas.data.source import DataPair
from nas.inference.detect import images_of, training_images
from nas.supernet.weights import is_supernet, load_detector, load_supernet
from nas.training.distillation import DistillationTask, Student, check_pair, open_teacher
from nas.training.job import TrainJob, initial_weights
from nas.training.tasks import DetectorTask
from nas.training.transfer import TransferReport, transfer
from search_spaces.detector import Detector
from search_spaces.image_size import ImageSize
from search_spaces.spaces import space_of

CALIBRATION_IMAGES = 400
"""Train images that set the BatchNorm statistics of a teacher that is extracted from a supernet."""


def initialize(artifact: Artifact, init: Path | None) -> tuple[Detector, TransferReport]:
    """Build a detector, with random weights or with those of ``init`` that fit it, and report what was transferred.

    ``init`` holds the weights of a supernet or of another detector. Raises InputError if the file cannot be read or
    none of its weights fits.
    """
    architecture = artifact.architecture
    detector = space_of(architecture).build(architecture, artifact.num_classes)
    if init is None:
        return detector, TransferReport()
    if is_supernet(init):
        supernet, classes, _ = load_supernet(init)
        source = supernet.extract(architecture)
    else:
        source, other, _ = load_detector(init)
        classes = other.classes
    return detector, transfer(source, classes, detector, artifact.classes)


def build_task(detector: Detector, artifact: Artifact, job: TrainJob, steps: int) -> DetectorTask:
    """Return the task that trains ``detector`` for ``steps`` steps on its device. Raises InputError if the teacher
    lacks a class, or answers at other anchor points."""
    data, recipe = job.data, job.recipe
    identity = f"detector {artifact.architecture.id} {data.fingerprint} from {initial_weights(job.init)}"
    weighted = isinstance(data.train, MixedDataset)
    if job.teacher is None:
        return DetectorTask(detector, identity, recipe.loss(), job.layers, weighted)
    device, size = next(detector.parameters()).device, artifact.architecture.image_size
    images = partial(_calibration_images, job.images, size, device)
    teacher = open_teacher(job.teacher, artifact.classes, device, images)
    check_pair(detector, teacher, size, recipe.distill_features > 0)
    return DistillationTask(detector, identity, teacher, recipe, steps, job.layers, weighted)


def _calibration_images(data: DataPair, size: ImageSize, device: torch.device) -> Iterator[Tensor]:
    return images_of(training_images(data, size, CALIBRATION_IMAGES), device)


def detector_of(model: nn.Module) -> Detector:
    """Return the detector inside of what a task has trained."""
    found = model.detector if isinstance(model, Student) else model
    assert isinstance(found, Detector)
    return found
