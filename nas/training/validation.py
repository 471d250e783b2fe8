"""mAP on the val split, by all processes that train together; also while training, of the averaged weights."""

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

CALIBRATION = 400
"""Train images that set BatchNorm's statistics."""
BATCH = 50


def validate(detector: Detector, data: DataPair, image_size: int, still: Sequence[nn.Module] = ()) -> Metrics:
    """COCO metrics on the whole val split, BatchNorm recalibrated in place except in parts that are ``still``.

    Of several processes each detects in its share of the batches, which are those of one process, so the metrics are,
    too. All must call it, with equal weights.
    """
    device = next(detector.parameters()).device
    recalibrate(detector, images_of(batches(data.train, image_size, limit=CALIBRATION), device), still)
    sizes = {sample.id: (sample.width, sample.height) for sample in data.val.samples}
    found: dict[int, Detections] = {}
    for batch in Loader(data.val, LoaderConfig(BATCH, image_size)).epoch(0, processes.rank(), processes.count()):
        found |= detect(detector, batch, sizes)
    parts = processes.gather(found)
    return processes.of_first(lambda: evaluate(data.val, {id: d for part in parts for id, d in part.items()}))


@dataclass
class Validation:
    """When and how a training is evaluated: every so many epochs, the detector that ``detector_of`` makes of the
    averaged model.

    ``still``: parts of it that keep their BatchNorm statistics. ``keep_best``: what becomes of the detector whose mAP
    is the best so far, in process 0; nothing by default.
    """

    every: int
    data: DataPair
    image_size: int
    detector_of: Callable[[nn.Module], Detector] = copy.deepcopy  # type: ignore[assignment]  # of a detector
    keep_best: Callable[[Detector, Metrics], None] | None = None
    still: Callable[[Detector], Sequence[nn.Module]] = lambda detector: ()
    _last: tuple[Detector, Metrics] | None = field(default=None, init=False)

    def due(self, epoch: int) -> bool:
        """Whether the weights are evaluated after this epoch, counted from 0."""
        return (epoch + 1) % self.every == 0

    def measure(self, averaged: nn.Module) -> dict[str, float]:
        """mAP50-95 and mAP50; the model itself stays as it is."""
        detector = self.detector_of(averaged)
        with torch.random.fork_rng(devices=[]):
            metrics = validate(detector, self.data, self.image_size, self.still(detector))
        self._last = detector, metrics
        return {"map": metrics.map, "map50": metrics.map50}

    def keep(self) -> None:
        """What was measured last is the best so far."""
        if self.keep_best is not None and self._last is not None and not processes.rank():
            self.keep_best(*self._last)
