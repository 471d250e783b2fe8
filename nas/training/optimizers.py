"""Optimizers by name, their parameter groups, the learning rate schedule and the EMA of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nas.training.recipe import OPTIMIZERS, Recipe

Groups = list[dict[str, Any]]


def adamw(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW (arXiv:1711.05101) with torch's momenta, 0.9 and 0.999."""
    return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)


def sgd(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum; plain where ``momentum`` is 0."""
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True)


def open_optimizer(
    model: nn.Module, recipe: Recipe, divide: Callable[[Groups, float], Groups] = lambda groups, lr: groups
) -> torch.optim.Optimizer:
    """Return the recipe's optimizer of all trainable parameters.

    Weight decay applies to tensors of two or more axes, not to biases, norms and scalars. ``divide`` splits the
    parameter groups further, by learning rate.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups: Groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return OPTIMIZERS[recipe.optimizer](divide(groups, recipe.lr), recipe)


def learning_rate_factor(recipe: Recipe, steps: int, epoch_steps: int) -> Callable[[int], float]:
    """Return a function of the step: learning rate / ``recipe.lr``.

    Linear warm-up over w steps from ``warmup_lr`` to 1, then a cosine to f = ``final_lr``:
    f + (1 - f) (1 + cos(pi (t - w) / (steps - w))) / 2.
    """
    warmup = min(max(recipe.warmup_steps, round(recipe.warmup_epochs * epoch_steps)), max(1, steps // 5))
    start = recipe.warmup_lr / recipe.lr

    def factor(step: int) -> float:
        if step < warmup:
            return start + (1 - start) * ((step + 1) / warmup)
        share = min(1.0, (step - warmup) / max(1, steps - warmup))
        return recipe.final_lr + (1 - recipe.final_lr) * 0.5 * (1 + math.cos(math.pi * share))

    return factor


def ema_update(recipe: Recipe) -> Callable[..., None]:
    """Return the EMA update for ``AveragedModel``: decay min(``ema_decay``, (1 + t) / (``ema_ramp`` + t)) at step t.

    The ramp keeps the average from remembering the first, untrained weights.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        t = int(count)
        torch._foreach_lerp_(averaged, current, 1 - min(recipe.ema_decay, (1 + t) / (recipe.ema_ramp + t)))

    return update
