"""What an architecture costs on paper, at batch 1, deployed: parameters, multiply-accumulates, activation memory."""

from __future__ import annotations

from nas.core.estimate import Estimate
from nas.estimators.base import Estimator
from search_spaces.architecture import Architecture
from search_spaces.op import Cost
from search_spaces.trace import trace


class _Traced(Estimator):
    direction, cheap, sees_precision = "min", True, False

    def cost(self, architecture: Architecture) -> Cost:
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
    """Largest sum of feature maps alive at one time, in MiB of float32, weights and a runtime's scratch memory not
    counted."""

    name, unit = "activations_mib", "mib"

    def __call__(self, architecture: Architecture) -> Estimate:
        return Estimate(self.name, self.cost(architecture).peak_activations * 4 / 2**20, self.unit)


class ElementsWritten(_Traced):
    """Elements written by all operations of the deployed network: a training-free stand-in for accuracy, and so to be
    maximised.

    On YOLOBench (arXiv:2307.13901) no score that was tried ranks its detectors better: Kendall's tau with COCO mAP
    0.89 where MACs have 0.79 and the table's NWOT 0.83; at one resolution and within a quarter of its latencies 0.70,
    0.54 and 0.53 (``results/proxy_correlation.json``).
    """

    name, direction = "elements_written", "max"

    def __call__(self, architecture: Architecture) -> Estimate:
        return Estimate(self.name, self.cost(architecture).activations)
