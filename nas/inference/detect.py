"""A detector on images: calibration images, detections, mAP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.data.dataset import DetectionDataset
from nas.data.loader import Batch, Loader, LoaderConfig
from nas.data.source import DataPair
from nas.data.transforms import Augmentation
from nas.inference.coco_metrics import Metrics, evaluate
from nas.inference.nms import EVALUATION, NEVER, RANKING, Detections, Suppression, in_image
from search_spaces.detector import Detector
from search_spaces.image_size import AnySize

if TYPE_CHECKING:
    from nas.inference.model import Model

__all__ = [
    "EVALUATION",
    "RANKING",
    "Suppression",
    "batches",
    "detect",
    "detect_all",
    "images_of",
    "mean_average_precision",
    "training_images",
]

Watch = Callable[[int, int], None]
"""Receives the number of images done and of all images."""


def batches(
    dataset: DetectionDataset,
    image_size: AnySize,
    batch_size: int = 50,
    limit: int | None = None,
    seed: int = 0,
    augmentation: Augmentation = Augmentation.NONE,
) -> Iterator[Batch]:
    """Yield the images, by default without augmentation, in order; with ``limit`` about that many, a sample that
    follows from ``seed``."""
    loader = Loader(dataset, LoaderConfig(batch_size, image_size, augmentation, seed, shuffle=limit is not None))
    wanted = len(dataset) if limit is None else limit
    for i, batch in enumerate(loader.epoch(0)):
        if i * batch_size >= wanted:
            return
        yield batch


def training_images(data: DataPair, image_size: AnySize, limit: int, seed: int = 0) -> Iterator[Batch]:
    """Yield about ``limit`` images of the train split with the augmentation of the last epochs of a training.

    BatchNorm's statistics have to be those of the images that the weights were trained on. With those of images without
    augmentation, networks lose up to six points of mAP (``docs/decisions.md``, 66).
    """
    return batches(data.train, image_size, limit=limit, seed=seed, augmentation=data.augmentation.at_the_end())


def images_of(batches_: Iterable[Batch], device: torch.device) -> Iterator[Tensor]:
    """Yield batches of images, float32 [N, 3, H, W] in 0..1, on ``device``."""
    return (batch.images.to(device).float() / 255.0 for batch in batches_)


@torch.inference_mode()
def detect(
    detector: Detector, batch: Batch, sizes: dict[int, tuple[int, int]], suppression: Suppression = EVALUATION
) -> dict[int, Detections]:
    """Detections of a batch by sample id, in pixels of the original images (``sizes``: id -> width, height)."""
    device = next(detector.parameters()).device
    boxes, scores = (t.float().cpu().numpy() for t in detector.predict(batch.images.to(device).float() / 255.0))
    return sort_out(boxes, scores, batch, sizes, suppression, detector.head.end_to_end)


def sort_out(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    batch: Batch,
    sizes: dict[int, tuple[int, int]],
    suppression: Suppression = EVALUATION,
    end_to_end: bool = False,
) -> dict[int, Detections]:
    """What a network's outputs say, boxes (N, A, 4) and scores (N, A, classes), as :func:`detect` gives it.

    Of a head that gives one box per object nothing is suppressed: that is what it is for.
    """
    if end_to_end:
        suppression = replace(suppression, iou_threshold=NEVER)
    places = enumerate(zip(batch.sample_ids, batch.placements, strict=True))
    return {id: in_image(boxes[i], scores[i], suppression, placement, *sizes[id]) for i, (id, placement) in places}


def detect_all(
    model: Model,
    dataset: DetectionDataset,
    batch_size: int = 8,
    suppression: Suppression = EVALUATION,
    watch: Watch = lambda done, all_: None,
) -> dict[int, Detections]:
    """Detections of a model on all images of a data set by sample id, in pixels of the images; an error where the
    classes are not the model's.

    Images are read ahead in a thread; one that turns out broken is named in ``dataset.problems`` and counts as one
    in which nothing was found.
    """
    model.check_classes(dataset.classes)
    dataset = dataset.interpolated(model.backend.interpolation)
    sizes = {sample.id: (sample.width, sample.height) for sample in dataset.samples}
    suppression = model.suppression(suppression)
    found: dict[int, Detections] = {}
    watch(0, len(dataset))
    for batch in batches(dataset, model.backend.image_size, batch_size):
        boxes, scores = model.backend.run(batch.images.numpy().astype(np.float32) / np.float32(255))
        found |= sort_out(boxes, scores, batch, sizes, suppression)
        watch(len(found), len(dataset))
    return found


def mean_average_precision(
    detector: Detector, dataset: DetectionDataset, images: Iterable[Batch], suppression: Suppression = EVALUATION
) -> Metrics:
    """COCO metrics of a deployed or evaluation-mode detector over ``images`` (all of ``dataset``, each once)."""
    sizes = {sample.id: (sample.width, sample.height) for sample in dataset.samples}
    found: dict[int, Detections] = {}
    for batch in images:
        found |= detect(detector, batch, sizes, suppression)
    return evaluate(dataset, found)
