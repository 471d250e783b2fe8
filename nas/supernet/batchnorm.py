"""BatchNorm: statistics of an extracted or averaged network, and of a batch that several processes share."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from nas.core import distributed as processes
from search_spaces.errors import InputError


@torch.no_grad()
def recalibrate(model: nn.Module, images: Iterable[Tensor], still: Iterable[nn.Module] = ()) -> None:
    """Set every BatchNorm's running statistics to the cumulative average over ``images`` (float batches (N, 3, H, W),
    without augmentation), in place.

    Needed before any evaluation: shared or averaged weights have no statistics of their own (Yu & Huang, "Universally
    Slimmable Networks", arXiv:1903.05134). The module is left in evaluation mode. Parts of it that are ``still`` keep
    the statistics they have.
    """
    parts = list(still)
    kept = {m for part in parts for m in part.modules()}
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m not in kept]
    momentum = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's sign for a cumulative average
    model.train()
    for part in parts:
        part.eval()
    count = 0
    try:
        for count, batch in enumerate(images, 1):  # noqa: B007 - how many there were
            model(batch)
    finally:
        model.eval()
        for norm, value in zip(norms, momentum, strict=True):
            norm.momentum = value
    if norms and not count:
        raise InputError("no image to recalibrate BatchNorm with", "at least one batch")


class SyncedBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the equal shares of a batch that several processes have; in evaluation mode, and alone, an
    ordinary one.

    Not torch's SyncBatchNorm, which works on GPUs only (so nothing of it could be tested where there is none) and is
    no ``BatchNorm2d``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), normalised by the mean and biased variance over N, H, W of all processes."""
        if not self.training or processes.count() == 1:
            return super().forward(x)
        own = x.float()
        mean = own.mean((0, 2, 3))
        total = processes.mean_with_gradient(mean)
        variance = processes.mean_with_gradient(own.var((0, 2, 3), correction=0) + (mean - total).square())
        self._follow(total.detach(), variance.detach(), processes.count() * x.numel() // x.shape[1])
        scale = (variance + self.eps).rsqrt() * self.weight
        return ((own - total[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (count / max(1, count - 1)), momentum)


def synchronise(model: nn.Module) -> None:
    """Replace every BatchNorm2d by a synced one with the same parameters and statistics, in place."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                synced = SyncedBatchNorm(
                    child.num_features,
                    child.eps,
                    child.momentum,
                    child.affine,
                    child.track_running_stats,
                    device="meta",
                )
                synced.__dict__.update(child.__dict__)
                setattr(module, name, synced)
