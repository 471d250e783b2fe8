"""How long a supernet is trained by default: in steps, not in epochs, so that a small data set is not undertrained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas.training.recipe import Recipe
from nas.training.supernet_budget import default_supernet_epochs
from search_spaces.image_size import ImageSize
from search_spaces.text import counted

SMALL_SET = 1000
"""Images below which the default batch is :data:`SMALL_BATCH`, for more steps from the same images."""
SMALL_BATCH = 16


@dataclass(frozen=True)
class SupernetBudget:
    """The training budget of a supernet.

    Args:
        recipe: The complete recipe.
        images: Images of the train split.
        by_default: Whether the number of epochs follows from the data set and was not given.
    """

    recipe: Recipe
    images: int
    by_default: bool

    @property
    def steps(self) -> int:
        """Optimizer steps of the training; an incomplete last batch is dropped."""
        return self.recipe.epochs * max(1, self.images // self.recipe.batch_size // self.recipe.accumulate)

    def __str__(self) -> str:
        steps = f"{self.steps:,} steps of batch {self.recipe.batch_size}"
        text = f"supernet: {counted(self.recipe.epochs, 'epoch')} of {counted(self.images, 'image')}, {steps}"
        return text + (" (default for this data set; --epochs N sets it)" if self.by_default else "")


def supernet_budget(
    recipe: Recipe, given: Mapping[str, Any], images: int, image_sizes: Sequence[ImageSize] = ()
) -> SupernetBudget:
    """Return the training budget for a data set.

    Args:
        recipe: The recipe with everything that was given.
        given: Values that were given; those of ``epochs`` and ``batch_size`` stay.
        images: Images of the train split.
        image_sizes: Image sizes of the search.

    Without ``epochs``: those of :func:`nas.training.supernet_budget.default_supernet_epochs`.
    """
    values: dict[str, Any] = {}
    if "batch_size" not in given and "epochs" not in given and images < SMALL_SET:
        values["batch_size"] = max(1, min(recipe.batch_size, SMALL_BATCH, images))
    batch = values.get("batch_size", recipe.batch_size)
    if "epochs" not in given:
        values["epochs"] = default_supernet_epochs(images, batch * recipe.accumulate, image_sizes)
    return SupernetBudget(recipe.changed(values), images, "epochs" not in given)
