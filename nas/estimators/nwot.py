"""NWOT on pre-activations: how differently the units of a random network respond to different inputs.

Mellor et al., "Neural Architecture Search without Training", arXiv:2006.04647. On sign patterns of the convolutions'
outputs before the activation it was the best training-free score of YOLOBench (arXiv:2307.13901).

========  =====================================================================
N         number of random images, :data:`BATCH`
U         number of units (channels x height x width) of a convolution's output
s_i       signs of the U units for image i, in {-1, 1}
K_ij      number of units on which images i and j agree, (s_i . s_j + U) / 2
score     log |det sum over convolutions of K|
========  =====================================================================
"""

from __future__ import annotations

import math
from statistics import mean

import torch
from torch import Tensor, nn

from nas.core.estimate import Estimate
from nas.estimators.base import Estimator
from search_spaces.architecture import Architecture
from search_spaces.image_size import STRIDE, ImageSize

BATCH, SIZE = 8, 160
INITIALISATIONS = 3


class Nwot(Estimator):
    """Log-determinant of the Hamming kernel of sign patterns, summed over all convolutions; mean over
    :data:`INITIALISATIONS` random initialisations with 8 random images each.

    The network stays in its training form (branches unmerged), and the images are uniform in 0..1. Kendall's tau with
    YOLOBench's own column: 0.92 over 64 architectures (``results/proxy_correlation.json``); lower with merged
    branches, normally distributed images or one initialisation.

    Computed at ``min(image size, 160)`` px (a rectangle: of that area) and extended by ``2 * 8 * ln(size / 160)``: with a 2-D map every kernel
    entry grows with the square of the side, which adds that to the log-determinant of an 8 x 8 matrix (YOLOBench
    re-run: Kendall tau 0.985 against the full size).
    """

    name, direction, rank, sees_precision = "nwot", "max", 1, False
    role = "compute"

    def __call__(self, architecture: Architecture) -> Estimate:
        """Return the score of an architecture. Raises InputError if it is no point of the context's space."""
        size = architecture.image_size
        small = _reduced(size)
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(self.context.seed)
            score = mean(self._score(architecture, small) for _ in range(INITIALISATIONS))
        return Estimate(self.name, score + 2 * BATCH * math.log(size.side / small.side))

    def _score(self, architecture: Architecture, size: ImageSize) -> float:
        detector = self.context.space.build(architecture, self.context.num_classes).eval()
        kernel = torch.zeros(BATCH, BATCH, dtype=torch.float64)

        def count(_module: nn.Module, _inputs: object, out: Tensor) -> None:
            kernel.add_(agreement(out))

        for module in detector.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(count)
        detector(torch.rand(BATCH, 3, *size))
        return float(torch.linalg.slogdet(kernel).logabsdet)


def _reduced(size: ImageSize) -> ImageSize:
    """Return the size at which the score is computed: at most the area of :data:`SIZE` px squared, about as wide."""
    factor = min(1.0, SIZE / size.side)
    return ImageSize(*(max(1, round(side * factor / STRIDE)) * STRIDE for side in size))


def agreement(x: Tensor) -> Tensor:
    """Return the kernel (N, N) of units on which two images' signs agree, from an output (N, C, H, W)."""
    sign = (x.flatten(1) > 0).float() * 2 - 1
    return ((sign @ sign.T + sign.shape[1]) / 2).double()
