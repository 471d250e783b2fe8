"""Evaluation on the val split, by all processes that train together; at the end of a training and during it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from nas.core import distributed as processes
from nas.data.loader import Loader, LoaderConfig
from nas.data.source import DataPair
from nas.inference.coco_metrics import Metrics, evaluate
from nas.inference.detect import batches, detect, images_of
from nas.inference.nms import Detections
from nas.supernet.batchnorm import recalibrate
from search_spaces.detector import Detector
from search_spaces.image_size import AnySize

CALIBRATION_IMAGES = 400
"""Train images that set the BatchNorm statistics."""
BATCH = 50
"""Images per batch."""


def calibrate(detector: Detector, data: DataPair, image_size: AnySize, frozen: Sequence[nn.Module] = ()) -> None:
    """Set the BatchNorm statistics of a detector from :data:`CALIBRATION_IMAGES` train images at ``image_size``, in
    place, except those of ``frozen`` parts."""
    device = next(detector.parameters()).device
    recalibrate(detector, images_of(batches(data.train, image_size, limit=CALIBRATION_IMAGES), device), frozen)


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
) -> Metrics:
    """Return COCO metrics on the whole val split, with the BatchNorm statistics as they are (see :func:`validate`)."""
    sizes = {sample.id: (sample.width, sample.height) for sample in data.val.samples}
    found: dict[int, Detections] = {}
    done = 0
    for batch in Loader(data.val, LoaderConfig(BATCH, image_size)).epoch(0, processes.rank(), processes.world_size()):
        found |= detect(detector, batch, sizes)
        done = min(done + len(batch) * processes.world_size(), len(data.val))
        progress(done, len(data.val))
    parts = processes.gather(found)
    return processes.broadcast_from_first(
        lambda: evaluate(data.val, {id: d for part in parts for id, d in part.items()})
    )


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
