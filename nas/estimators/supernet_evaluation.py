"""Evaluation of candidates with the supernet's weights, in floating point, or in the precision of a target."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import pairwise

import numpy as np
import torch

from nas.core.compute import device_of
from nas.data.loader import Batch
from nas.data.subsets import first_of, first_samples, mixed
from nas.estimators.base import Context
from nas.evaluation.bootstrap import resamples
from nas.evaluation.matching import average_precision, match
from nas.inference.coco_metrics import Detections, Metrics, evaluate
from nas.inference.detect import RANKING, batches, detect, images_of, sort_out, training_images
from nas.quantization.candidate import IMAGES, open_candidate
from nas.supernet.batchnorm import recalibrate
from search_spaces.architecture import Architecture
from search_spaces.detector import Detector
from search_spaces.image_size import ImageSize

Detect = Callable[[Batch], dict[int, Detections]]
"""Detections of a batch by sample id."""

BATCH = 50
EARLY = (1 / 8, 1 / 3)
"""Shares of the evaluation images after which an early estimate is given."""
FEW = 30
"""Smallest number of images of an early estimate."""
REPLICATES = 64
"""Bootstrap replicates per candidate."""


class SupernetEvaluator:
    """Evaluates subnets with the supernet's weights and keeps the last evaluation for further metrics of it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._device = device_of(context.device)
        self._images = context.shared.images(partial(EvaluationImages, context))
        self._val = self._images.val
        self._sizes = {sample.id: (sample.width, sample.height) for sample in self._val.samples}
        self._last: tuple[str, Metrics] | None = None
        self._found: dict[int, Detections] = {}

    @property
    def remarks(self) -> tuple[str, ...]:
        """Lines about how the evaluations are done."""
        return ()

    def rungs(self, architecture: Architecture) -> Iterator[tuple[int | None, Metrics]]:
        """Yield (number of images, metrics on them) for early rungs, then (None, metrics on all images).

        Only the last pair for the architecture of the previous call.
        """
        if self._last is None or self._last[0] != architecture.id:
            metrics = yield from self._evaluated(architecture)
            self._last = architecture.id, metrics
        yield None, self._last[1]

    def replicates(self, area: str, iou: float | None) -> tuple[float, ...]:
        """Return :data:`REPLICATES` values of mAP of the last candidate, each on a data set resampled from the val
        split with replacement, the same data sets for every candidate; empty if one of them has no object."""
        matches = match(self._val, self._found, area)
        values = average_precision(matches, resamples(len(self._val), REPLICATES, self._context.seed), iou)
        return () if np.isnan(values).any() else tuple(values.tolist())

    def split_half(self, architecture: Architecture, area: str, iou: float | None) -> tuple[float, float] | None:
        """Return mAP of an architecture on the even and on the odd evaluation images; None if a half has no object."""
        for _ in self.rungs(architecture):
            pass
        weights = np.zeros((2, len(self._val)), np.int32)
        weights[0, ::2], weights[1, 1::2] = 1, 1
        first, second = average_precision(match(self._val, self._found, area), weights, iou).tolist()
        return None if np.isnan([first, second]).any() else (first, second)

    def _evaluated(self, architecture: Architecture) -> Generator[tuple[int, Metrics], None, Metrics]:
        assert self._context.supernet is not None
        size = architecture.image_size
        statistics, val = self._images.of_size(size)
        with torch.random.fork_rng(devices=[]):  # initial weights are random numbers, replaced by the supernet's
            detector = self._context.supernet.extract(architecture)
        recalibrate(detector, images_of(statistics, self._device))
        found: dict[int, Detections] = {}
        steps = early_steps(len(self._val))
        with self._opened(detector.deploy(), size) as detections:
            for batch in val:
                found |= detections(batch)
                part = first_of(self._val, len(found))
                if len(found) in steps and any((~s.crowd).any() for s in part.samples):
                    yield len(found), evaluate(part, found)
        torch.cuda.empty_cache()
        self._found = found
        return evaluate(self._val, found)

    def _opened(self, detector: Detector, size: ImageSize) -> AbstractContextManager[Detect]:
        """Return a function from a batch to detections of a deployed detector for images of ``size``."""
        return nullcontext(lambda batch: detect(detector, batch, self._sizes, RANKING))


class TargetSupernetEvaluator(SupernetEvaluator):
    """Evaluates the subnet in int8 or fp16, as the target's runtime computes it."""

    _where = ""

    @contextmanager
    def _opened(self, detector: Detector, size: ImageSize) -> Iterator[Detect]:
        target, end_to_end = self._context.target, detector.head.end_to_end
        assert target is not None
        with open_candidate(
            detector, target, size, [b.images.numpy() for b in self._images.calibration(size)]
        ) as served:
            self._where = served.where
            yield lambda batch: sort_out(*served(batch), batch, self._sizes, RANKING, end_to_end)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Where the subnets are evaluated."""
        target = self._context.target
        if target is not None and target.precision == "fp16":
            return (f"accuracy in fp16: each candidate evaluated in {self._where}",) if self._where else ()
        line = f"accuracy in int8: each candidate calibrated on at most {IMAGES} images and evaluated in {self._where}"
        return (line,) if self._where else ()


class EvaluationImages:
    """Train images for BatchNorm's statistics and for int8 ranges, val images in the order of the evaluation; decoded
    once per image size."""

    def __init__(self, context: Context) -> None:
        assert context.data is not None
        self._context = context
        self._data = context.data
        self.val = mixed(first_samples(context.data.val, context.eval_images), context.seed)
        self._decoded: dict[ImageSize, tuple[list[Batch], list[Batch]]] = {}
        self._calibration: dict[ImageSize, list[Batch]] = {}

    def of_size(self, size: ImageSize) -> tuple[list[Batch], list[Batch]]:
        """Return the batches that give BatchNorm its statistics, augmented as in training, and the val batches."""
        if size not in self._decoded:
            context = self._context
            statistics = list(training_images(self._data, size, context.calibration_images, context.seed))
            steps = (0, *early_steps(len(self.val)), len(self.val))
            val = [b for begin, end in pairwise(steps) for b in batches(first_of(self.val, end, begin), size, BATCH)]
            self._decoded[size] = statistics, val
        return self._decoded[size]

    def calibration(self, size: ImageSize) -> list[Batch]:
        """Return the batches that int8 ranges are taken from, as a deployed network sees them."""
        if size not in self._calibration:
            context = self._context
            found = batches(self._data.train, size, limit=context.calibration_images, seed=context.seed)
            self._calibration[size] = list(found)
        return self._calibration[size]


def early_steps(count: int) -> tuple[int, ...]:
    """Return after how many of ``count`` images early estimates are given; empty for few images."""
    return tuple(n for share in EARLY if (n := round(count * share)) >= FEW)
