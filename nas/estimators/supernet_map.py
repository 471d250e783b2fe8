"""Accuracy of a candidate with the supernet's weights: the float network's, or on a target of int8 the quantized
one's in the runtime that serves it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch

from nas.core.compute import device_of
from nas.core.estimate import Estimate
from nas.data.loader import Batch
from nas.data.subsets import first_of, first_samples, mixed
from nas.estimators.base import Context, Estimator, needed
from nas.evaluation.bootstrap import resamples
from nas.evaluation.matching import average_precision, match
from nas.inference.coco_metrics import Detections, Metrics, evaluate
from nas.inference.detect import RANKING, batches, detect, images_of, sort_out
from nas.quantization.candidate import IMAGES, open_int8_candidate
from nas.supernet.batchnorm import recalibrate
from search_spaces.architecture import Architecture
from search_spaces.detector import Detector
from search_spaces.errors import InputError

Detect = Callable[[Batch], dict[int, Detections]]
"""Detections of a batch by sample id."""

BATCH = 50
EARLY = (1 / 8, 1 / 3)
"""Shares of the images after which something is said already."""
FEW = 30
"""Images below which nothing is."""
RESAMPLES = 64
Z95 = 1.959964


class SupernetMap(Estimator):
    """mAP50-95 (0..1) of the extracted network, BatchNorm recalibrated, on the val split (or the part of it that the
    context asks for).

    On a target of int8 the extracted network is quantized first: in the form of the target's runtime, calibrated on
    the first of the images that BatchNorm was recalibrated on, evaluated as that runtime computes it. fp16 and bf16
    count as accurate as fp32.
    """

    name, direction, rank, called = "map", "max", 2, "supernet"
    metric: ClassVar[str] = "map"
    area: ClassVar[str] = "all"
    iou: ClassVar[float | None] = None

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        called = self.called
        needed(context.supernet, called, "trained supernet", "train one: nas supernet, or let nas search do it")
        needed(context.data, called, "data set", "name one: --data digits")
        target = context.target if context.target is not None and context.target.precision == "int8" else None
        kind = _Evaluations if target is None else _Int8Evaluations
        if kind.__name__ not in context.shared:
            context.shared[kind.__name__] = kind(context)
        self._evaluations: _Evaluations = context.shared[kind.__name__]
        self._target = None if target is None else str(target)
        self._drawn: list[float] = []

    def __call__(self, architecture: Architecture) -> Estimate:
        *_, last = self.rungs(architecture)
        return last

    def rungs(self, architecture: Architecture) -> Iterator[Estimate]:
        """On an eighth of the images, on a third, on all; only the last where another number of this evaluation was
        asked before."""
        for count, metrics in self._evaluations.of(architecture):
            value = getattr(metrics, self.metric)
            if count is not None:
                if value is not None:
                    yield Estimate(f"{self.name}@{count}", value, source="predicted", target=self._target)
            elif value is None:
                raise InputError(
                    f"{self.name}: the val split has no such object",
                    "another accuracy",
                    "nas data check says what sizes there are",
                )
            else:
                self._drawn = self._evaluations.drawn(self.area, self.iou)
                half = Z95 * float(np.std(self._drawn)) if len(self._drawn) else 0.0
                low, high = max(0.0, value - half), min(1.0, value + half)
                yield Estimate(self.name, value, low=low, high=high, source="predicted", target=self._target)

    @property
    def remarks(self) -> Sequence[str]:
        return self._evaluations.remarks

    @property
    def draws(self) -> Sequence[float]:
        """mAP on :data:`RESAMPLES` data sets drawn anew, image by image, from the val split: the same for every
        candidate."""
        return self._drawn


class SupernetMap50(SupernetMap):
    """The same at an overlap of 0.5."""

    name = metric = "map50"
    called = "supernet-50"
    iou = 0.5


class SupernetSmall(SupernetMap):
    """The same of objects of less than 32 x 32 pixels of the original image."""

    name = metric = "map_small"
    called = "supernet-small"
    area = "small"


class SupernetMedium(SupernetMap):
    """The same of objects from 32 x 32 to 96 x 96 pixels."""

    name = metric = "map_medium"
    called = "supernet-medium"
    area = "medium"


class SupernetLarge(SupernetMap):
    """The same of objects over 96 x 96 pixels."""

    name = metric = "map_large"
    called = "supernet-large"
    area = "large"


class _Evaluations:
    """One evaluation of a candidate, from which every number of it is taken."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._device = device_of(context.device)
        if "images" not in context.shared:
            context.shared["images"] = _Images(context)
        self._images: _Images = context.shared["images"]
        self._val = self._images.val
        self._sizes = {sample.id: (sample.width, sample.height) for sample in self._val.samples}
        self._last: tuple[str, Metrics] | None = None
        self._found: dict[int, Detections] = {}

    def of(self, architecture: Architecture) -> Iterator[tuple[int | None, Metrics]]:
        """(so many images, metrics on them) early, then (None, metrics on all)."""
        if self._last is None or self._last[0] != architecture.id:
            metrics = yield from self._evaluated(architecture)
            self._last = architecture.id, metrics
        yield None, self._last[1]

    def _evaluated(self, architecture: Architecture) -> Generator[tuple[int, Metrics], None, Metrics]:
        assert self._context.supernet is not None
        size = int(architecture["image_size"])
        calibration, val = self._images.of_size(size)
        with torch.random.fork_rng(devices=[]):  # building draws first weights, which the supernet's replace
            detector = self._context.supernet.extract(architecture)
        recalibrate(detector, images_of(calibration, self._device))
        found: dict[int, Detections] = {}
        steps = early_steps(len(self._val))
        with self._opened(detector.deploy(), size, calibration) as detections:
            for batch in val:
                found |= detections(batch)
                part = first_of(self._val, len(found))
                if len(found) in steps and any((~s.crowd).any() for s in part.samples):
                    yield len(found), evaluate(part, found)
        torch.cuda.empty_cache()
        self._found = found
        return evaluate(self._val, found)

    def _opened(self, detector: Detector, size: int, calibration: Sequence[Batch]) -> AbstractContextManager[Detect]:
        """What finds objects in images of a size, by a deployed detector."""
        return nullcontext(lambda batch: detect(detector, batch, self._sizes, RANKING))

    @property
    def remarks(self) -> Sequence[str]:
        return ()

    def drawn(self, area: str, iou: float | None) -> list[float]:
        """Of the last candidate: mAP on every drawn data set; none where one of them has no object to find."""
        matches = match(self._val, self._found, area)
        values = average_precision(matches, resamples(len(self._val), RESAMPLES, self._context.seed), iou)
        return [] if np.isnan(values).any() else values.tolist()


class _Int8Evaluations(_Evaluations):
    """The same of the quantized network."""

    _where = ""

    @contextmanager
    def _opened(self, detector: Detector, size: int, calibration: Sequence[Batch]) -> Iterator[Detect]:
        target, end_to_end = self._context.target, detector.head.end_to_end
        assert target is not None
        with open_int8_candidate(detector, target, size, [b.images.numpy() for b in calibration]) as served:
            self._where = served.where
            yield lambda batch: sort_out(*served(batch), batch, self._sizes, RANKING, end_to_end)

    @property
    def remarks(self) -> Sequence[str]:
        said = f"accuracy in int8: each candidate calibrated on at most {IMAGES} images and evaluated in {self._where}"
        return (said,) if self._where else ()


class _Images:
    """What candidates are recalibrated and evaluated on: ``val`` in the order of the evaluation, and the images of
    each size, decoded once."""

    def __init__(self, context: Context) -> None:
        assert context.data is not None
        self._context = context
        self._train = context.data.train
        self.val = mixed(first_samples(context.data.val, context.eval_images), context.seed)
        self._decoded: dict[int, tuple[list[Batch], list[Batch]]] = {}

    def of_size(self, size: int) -> tuple[list[Batch], list[Batch]]:
        """Calibration and val batches."""
        if size not in self._decoded:
            calibration = list(
                batches(self._train, size, limit=self._context.calibration_images, seed=self._context.seed)
            )
            steps = (0, *early_steps(len(self.val)), len(self.val))
            val = [b for begin, end in pairwise(steps) for b in batches(first_of(self.val, end, begin), size, BATCH)]
            self._decoded[size] = calibration, val
        return self._decoded[size]


def early_steps(count: int) -> tuple[int, ...]:
    """After how many of ``count`` images something is said early; none where they are few."""
    return tuple(n for share in EARLY if (n := round(count * share)) >= FEW)
