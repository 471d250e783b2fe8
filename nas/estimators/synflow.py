"""SynFlow, a data-free score of the signal that a network's weights pass (Tanaka et al., arXiv:2006.05467)."""

from __future__ import annotations

import torch

from nas.core.estimate import Estimate
from nas.estimators.base import Estimator
from search_spaces.architecture import Architecture

SIZE = 64


class Synflow(Estimator):
    """``log sum_w |w * dR/dw|``: R is the sum of all outputs of the network with absolute weights on an image of ones.

    Computed in the deployed form (BatchNorm would normalise the signal away) with random weights in float64 (the sum
    overflows float32 in deep networks), at 64 px: without data the image size adds no information.
    """

    name, direction, rank, sees_precision = "synflow", "max", 1, False
    role = "compute"

    def __call__(self, architecture: Architecture) -> Estimate:
        """Return the score of an architecture. Raises InputError if it is no point of the context's space."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.context.seed)
            detector = self.context.space.build(architecture, self.context.num_classes).deploy().double()
        with torch.no_grad():
            for parameter in detector.parameters():
                parameter.abs_()
        out = detector(torch.ones(1, 3, SIZE, SIZE, dtype=torch.float64))
        (out.logits.sum() + out.boxes.sum()).backward()
        flow = sum(
            float((p.detach() * p.grad).sum()) for p in detector.parameters() if p.grad is not None and p.dim() > 1
        )
        return Estimate(self.name, float(torch.tensor(flow, dtype=torch.float64).log()))
