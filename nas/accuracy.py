"""A detector on pictures: calibration images, detections, mAP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.data.dataset import DetectionDataset
from nas.data.loader import Batch, Loader
from nas.evaluation import Metrics, evaluate
from nas.postprocess import NEVER, Detections, nms
from search_spaces.detector import Detector


@dataclass(frozen=True)
class Suppression:
    """Which of all anchors count as detections: see :func:`nas.postprocess.nms`."""

    score_threshold: float = 0.01
    iou_threshold: float = 0.7
    max_detections: int = 300
    max_candidates: int = 1000


EVALUATION = Suppression()
"""As super-gradients evaluates YOLO-NAS in its recipe."""
RANKING = Suppression(max_detections=100, max_candidates=300)
"""To compare candidates: where a young network finds something everywhere, sorting that out took longer than running it."""


def batches(dataset: DetectionDataset, image_size: int, batch_size: int = 50, limit: int | None = None, seed: int = 0) -> Iterator[Batch]:
    """The pictures without augmentation, in order; with ``limit`` about that many, drawn by ``seed`` (the same ones every time)."""
    loader = Loader(dataset, batch_size, image_size, seed=seed, shuffle=limit is not None)
    wanted = len(dataset) if limit is None else limit
    for i, batch in enumerate(loader.epoch(0)):
        if i * batch_size >= wanted:
            return
        yield batch


def images_of(batches_: Iterable[Batch], device: torch.device) -> Iterator[Tensor]:
    """Float images in 0..1 on ``device``."""
    return (batch.images.to(device).float() / 255.0 for batch in batches_)


@torch.inference_mode()
def detect(detector: Detector, batch: Batch, sizes: dict[int, tuple[int, int]], suppression: Suppression = EVALUATION) -> dict[int, Detections]:
    """Detections of a batch by sample id, in pixels of the original pictures (``sizes``: id -> width, height)."""
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
    found: dict[int, Detections] = {}
    for i, (sample_id, placement) in enumerate(zip(batch.sample_ids, batch.placements, strict=True)):
        kept = nms(boxes[i], scores[i], **asdict(suppression))
        found[sample_id] = kept.to_picture(placement, *sizes[sample_id])
    return found


def mean_average_precision(
    detector: Detector, dataset: DetectionDataset, pictures: Iterable[Batch], suppression: Suppression = EVALUATION
) -> Metrics:
    """COCO metrics of a deployed or evaluation-mode detector over ``pictures`` (all of ``dataset``, each once)."""
    sizes = {sample.id: (sample.width, sample.height) for sample in dataset.samples}
    found: dict[int, Detections] = {}
    for batch in pictures:
        found |= detect(detector, batch, sizes, suppression)
    return evaluate(dataset, found)
