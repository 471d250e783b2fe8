"""BatchNorm statistics of an extracted or averaged network."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from search_spaces.errors import InputError


@torch.no_grad()
def recalibrate(model: nn.Module, images: Iterable[Tensor], still: Iterable[nn.Module] = ()) -> None:
    """Set every BatchNorm's running statistics to the cumulative average over ``images`` (float batches (N, 3, H, W), without augmentation), in place.

    Needed before any evaluation: shared or averaged weights have no statistics of their own (Yu & Huang, "Universally Slimmable Networks", arXiv:1903.05134).
    The module is left in evaluation mode. Parts of it that are ``still`` keep the statistics they have.
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
        raise InputError("no picture to recalibrate BatchNorm with", "at least one batch")
