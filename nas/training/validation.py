"""Evaluation on the val split, by all processes that train together; at the end of a training and during it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from nas.core import distributed as processes
from nas.data.loader import Loader, LoaderConfig
from nas.data.source import DataPair
from nas.evaluation.bootstrap import map_interval
from nas.evaluation.matching import match
from nas.inference.coco_metrics import Metrics, evaluate
from nas.inference.detect import detect, images_of, training_images
from nas.inference.nms import Detections
from nas.supernet.batchnorm import recalibrate
from search_spaces.detector import Detector
from search_spaces.image_size import AnySize

CALIBRATION_IMAGES = 400
"""Train images that set the BatchNorm statistics."""
BATCH = 50
"""Images per batch."""


def calibrate(
    detector: Detector,
    data: DataPair,
    image_size: AnySize,
    frozen: Sequence[nn.Module] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Set the BatchNorm statistics of a detector from :data:`CALIBRATION_IMAGES` train images, augmented as in training,
    in place.

    Args:
        detector: the network.
        data: its train split has the images, its augmentation is that of the training.
        image_size: of the input in pixels.
        frozen: parts that keep their statistics.
        progress: receives the number of images done and of all images, before each batch.
    """
    device = next(detector.parameters()).device
    images = images_of(training_images(data, image_size, CALIBRATION_IMAGES), device)
    recalibrate(detector, _counted(images, min(CALIBRATION_IMAGES, len(data.train)), progress), frozen)


def _counted(images: Iterable[Tensor], total: int, progress: Callable[[int, int], None]) -> Iterator[Tensor]:
    done = 0
    for batch in images:
        progress(min(done, total), total)
        yield batch
        done += len(batch)
    progress(total, total)


def validate(
    detector: Detector,
    data: DataPair,
    image_size: AnySize,
    frozen: Sequence[nn.Module] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Metrics:
    """Recalibrate BatchNorm in place, and return COCO metrics on the whole val split.

    Of several processes, each evaluates its share of the batches; the metrics are those of one process. All processes
    must call it with equal weights.

    Args:
        detector: the network, on the device that evaluates it.
        data: calibration images come from its train split.
        image_size: of the input.
        frozen: parts that keep their BatchNorm statistics.
        progress: receives the number of evaluated images and of all images.
    """
    calibrate(detector, data, image_size, frozen)
    return detect_and_score(detector, data, image_size, progress)


def detect_and_score(
    detector: Detector,
    data: DataPair,
    image_size: AnySize,
    progress: Callable[[int, int], None] = lambda done, total: None,
    interval: bool = False,
) -> Metrics:
    """Return COCO metrics on the whole val split, with the BatchNorm statistics as they are (see :func:`validate`).

    ``interval``: also compute the 95 % bootstrap interval of mAP over the images, the same as ``nas evaluate``.
    """
    sizes = {sample.id: (sample.width, sample.height) for sample in data.val.samples}
    found: dict[int, Detections] = {}
    done = 0
    progress(done, len(data.val))
    for batch in Loader(data.val, LoaderConfig(BATCH, image_size)).epoch(0, processes.rank(), processes.world_size()):
        found |= detect(detector, batch, sizes)
        done = min(done + len(batch) * processes.world_size(), len(data.val))
        progress(done, len(data.val))
    parts = processes.gather(found)

    def score() -> Metrics:
        merged = {id: d for part in parts for id, d in part.items()}
        metrics = evaluate(data.val, merged)
        if not interval:
            return metrics
        estimate = map_interval(match(data.val, merged))
        ends = None if estimate.low is None or estimate.high is None else (estimate.low, estimate.high)
        return replace(metrics, map_interval=ends)

    return processes.broadcast_from_first(score)


@dataclass
class Validation:
    """Evaluations during a training.

    Attributes:
        every: epochs between two evaluations.
        data: data set.
        image_size: of the input.
        detector_of: makes the detector that is evaluated from the EMA model, which must stay as it is.
        keep_best: receives the detector of the best mAP so far and its metrics, in rank 0.
        frozen: returns the parts of the detector that keep their BatchNorm statistics.
    """

    every: int
    data: DataPair
    image_size: AnySize
    detector_of: Callable[[nn.Module], Detector] = copy.deepcopy  # type: ignore[assignment]  # of a detector
    keep_best: Callable[[Detector, Metrics], None] | None = None
    frozen: Callable[[Detector], Sequence[nn.Module]] = lambda detector: ()
    _last: tuple[Detector, Metrics] | None = field(default=None, init=False)

    def due(self, epoch: int) -> bool:
        """Return whether the weights are evaluated after this epoch, counted from 0."""
        return (epoch + 1) % self.every == 0

    def measure(self, ema: nn.Module) -> dict[str, float]:
        """Return mAP50-95 and mAP50 of the EMA model, which stays as it is."""
        detector = self.detector_of(ema)
        with torch.random.fork_rng(devices=[]):
            metrics = validate(detector, self.data, self.image_size, self.frozen(detector))
        self._last = detector, metrics
        return {"map": metrics.map, "map50": metrics.map50}

    def keep(self) -> None:
        """Pass the detector of the last measurement to ``keep_best``: it is the best so far."""
        if self.keep_best is not None and self._last is not None and not processes.rank():
            self.keep_best(*self._last)
