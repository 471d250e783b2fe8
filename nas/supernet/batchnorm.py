"""BatchNorm: statistics of an extracted or EMA network, and synchronisation over processes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from nas.core import distributed as processes
from search_spaces.errors import InputError


@torch.no_grad()
def recalibrate(model: nn.Module, images: Iterable[Tensor], frozen: Iterable[nn.Module] = ()) -> None:
    """Set the running statistics of every BatchNorm to the cumulative average over ``images``, in place.

    Shared or averaged weights have no statistics of their own, so this is needed before any evaluation (Yu & Huang,
    "Universally Slimmable Networks", arXiv:1903.05134). The model is left in evaluation mode.

    Args:
        model: the network.
        images: float batches (N, 3, H, W) in 0..1, augmented as in the training of the weights.
        frozen: parts of the model that keep their statistics.

    Raises:
        InputError: the model has BatchNorm, and ``images`` is empty.
    """
    parts = list(frozen)
    kept = {m for part in parts for m in part.modules()}
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m not in kept]
    momentum = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # for torch, the cumulative average
    model.train()
    for part in parts:
        part.eval()
    count = 0
    try:
        for count, batch in enumerate(images, 1):  # noqa: B007 - used below
            model(batch)
    finally:
        model.eval()
        for norm, value in zip(norms, momentum, strict=True):
            norm.momentum = value
    if norms and not count:
        raise InputError("no image to recalibrate BatchNorm with", "at least one batch")


class SyncedBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the equal shares of a batch in several processes; an ordinary one in evaluation mode and in a
    single process.

    torch's SyncBatchNorm is no alternative: it works on GPUs only, and is no ``BatchNorm2d``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` (N, C, H, W), normalised by the mean and biased variance over N, H, W of all processes.

        With the mean m_p and variance v_p of process p, m = mean(m_p) and v = mean(v_p + (m_p - m)^2).
        """
        if not self.training or processes.world_size() == 1:
            return super().forward(x)
        own = x.float()
        mean = own.mean((0, 2, 3))
        total = processes.mean_with_gradient(mean)
        variance = processes.mean_with_gradient(own.var((0, 2, 3), correction=0) + (mean - total).square())
        self._update_statistics(total.detach(), variance.detach(), processes.world_size() * x.numel() // x.shape[1])
        scale = (variance + self.eps).rsqrt() * self.weight
        return ((own - total[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    def _update_statistics(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (count / max(1, count - 1)), momentum)


def convert_sync_batchnorm(model: nn.Module) -> None:
    """Replace every BatchNorm2d by a :class:`SyncedBatchNorm` with its parameters and statistics, in place."""
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
