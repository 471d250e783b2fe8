"""Accuracy of candidates with the supernet's weights: of the floating-point subnet, or in the precision of the
target."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import numpy as np

from nas.core.estimate import Estimate
from nas.estimators.base import Context, Estimator, needed
from nas.quantization.candidate import is_lower_precision
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError

Z95 = 1.959964


class SupernetMap(Estimator):
    """mAP50-95 (0..1) of the extracted subnet on the val split, BatchNorm recalibrated.

    On an int8 target the subnet is quantized first in the scheme of the target's runtime, calibrated on the first
    images of the BatchNorm recalibration and evaluated as that runtime computes it. On an fp16 target of a runtime that
    reads ONNX it is evaluated with the roundings of float16. Other fp16 and bf16 count as accurate as fp32. The 95 %
    interval is normal, with the standard deviation of the bootstrap replicates.
    """

    name, direction, rank, registry_name = "map", "max", 2, "supernet"
    role = "compute"
    metric: ClassVar[str] = "map"
    area: ClassVar[str] = "all"
    iou: ClassVar[float | None] = None

    def __init__(self, context: Context) -> None:
        from nas.estimators.supernet_evaluation import SupernetEvaluator, TargetSupernetEvaluator  # imports torch

        super().__init__(context)
        name = self.registry_name
        needed(context.supernet, name, "trained supernet", "train one: nas supernet, or let nas search do it")
        needed(context.data, name, "data set", "name one: --data digits")
        target = context.target
        self._target = str(target) if target is not None and is_lower_precision(target) else None
        kind = SupernetEvaluator if self._target is None else TargetSupernetEvaluator
        self._evaluator = context.shared.supernet(self._target, partial(kind, context))

    def __call__(self, architecture: Architecture) -> Estimate:
        """Return the estimate on all evaluation images. Raises InputError if they hold no object of the metric."""
        *_, last = self.rungs(architecture)
        return last

    def rungs(self, architecture: Architecture) -> Iterator[Estimate]:
        """Yield estimates on an eighth, on a third and on all of the images; only the last if another metric of the
        same evaluation was asked for before."""
        for count, metrics in self._evaluator.rungs(architecture):
            value = getattr(metrics, self.metric)
            if count is None:
                yield self._final(value)
            elif value is not None:
                yield Estimate(f"{self.name}@{count}", value, source="predicted", target=self._target)

    def split_half(self, architecture: Architecture) -> tuple[float, float] | None:
        """Return the metric on the even and on the odd evaluation images; None if a half has no object."""
        return self._evaluator.split_half(architecture, self.area, self.iou)

    def _final(self, value: float | None) -> Estimate:
        if value is None:
            raise InputError(
                f"{self.name}: the val split has no such object",
                "another accuracy",
                "nas data check lists the sizes of the objects",
            )
        replicates = self._evaluator.replicates(self.area, self.iou)
        half = Z95 * float(np.std(replicates)) if replicates else 0.0
        low, high = max(0.0, value - half), min(1.0, value + half)
        return Estimate(self.name, value, "", low, high, "predicted", self._target, replicates, self._evaluator.remarks)


class SupernetMap50(SupernetMap):
    """mAP50 (0..1): the same at an IoU of 0.5."""

    name = metric = "map50"
    registry_name = "supernet-50"
    iou = 0.5


class SupernetSmall(SupernetMap):
    """mAP50-95 of objects of less than 32 x 32 pixels of the original image."""

    name = metric = "map_small"
    registry_name = "supernet-small"
    area = "small"


class SupernetMedium(SupernetMap):
    """mAP50-95 of objects from 32 x 32 to 96 x 96 pixels of the original image."""

    name = metric = "map_medium"
    registry_name = "supernet-medium"
    area = "medium"


class SupernetLarge(SupernetMap):
    """mAP50-95 of objects over 96 x 96 pixels of the original image."""

    name = metric = "map_large"
    registry_name = "supernet-large"
    area = "large"
