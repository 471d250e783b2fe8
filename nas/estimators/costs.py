"""Computed costs of a deployed architecture at batch 1: parameters, multiply-accumulates, activation memory."""

from __future__ import annotations

from nas.core.estimate import Estimate
from nas.estimators.base import Estimator
from search_spaces.architecture import Architecture
from search_spaces.op import Cost
from search_spaces.trace import trace


class _Traced(Estimator):
    direction, cheap, sees_precision = "min", True, False

    def cost(self, architecture: Architecture) -> Cost:
        """Trace the architecture at its image size. Raises InputError if it is no point of the context's space."""
        space = self.context.space
        return trace(space.graph(space.check(architecture)), self.context.num_classes)


class Params(_Traced):
    """Deployed parameters: all branches and BatchNorms folded."""

    name = "params"

    def __call__(self, architecture: Architecture) -> Estimate:
        return Estimate(self.name, self.cost(architecture).params)


class Macs(_Traced):
    """Multiply-accumulates of convolutions and matrix products at the architecture's image size."""

    name = "macs"

    def __call__(self, architecture: Architecture) -> Estimate:
        return Estimate(self.name, self.cost(architecture).macs)


class PeakActivations(_Traced):
    """Largest sum of simultaneously live feature maps in MiB of float32, without weights and a runtime's scratch
    memory."""

    name, unit = "activations_mib", "mib"

    def __call__(self, architecture: Architecture) -> Estimate:
        return Estimate(self.name, self.cost(architecture).peak_activations * 4 / 2**20, self.unit)


class ElementsWritten(_Traced):
    """Elements written by all operations of the deployed network: a training-free proxy of accuracy, maximised.

    Best ranking of YOLOBench's detectors (arXiv:2307.13901) among the scores tried: Kendall's tau with COCO mAP 0.89,
    MACs 0.79, the table's NWOT 0.83; at one resolution and within a quarter of its latencies 0.70, 0.54 and 0.53
    (``results/proxy_correlation.json``).
    """

    name, direction = "elements_written", "max"

    def __call__(self, architecture: Architecture) -> Estimate:
        return Estimate(self.name, self.cost(architecture).activations)
