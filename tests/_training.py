"""What tests of training train: a toy without a detector, a detector without BatchNorm, and a training that a
subprocess runs and is killed in."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.data.loader import Loader, LoaderConfig
from nas.data.source import DataPair
from nas.data.transforms import Augmentation
from nas.supernet.supernet import Supernet
from nas.training.loop import fit
from nas.training.loss import Terms, Truth
from nas.training.recipe import Recipe
from nas.training.task import Task
from nas.training.tasks import DetectorTask, SandwichTask
from search_spaces.detector import Detector
from search_spaces.spaces import SPACES

SPACE = SPACES["yolo-nano"].restrict({"width": (8,)})


class Toy(Task):
    """A convolution that learns the mean colour of images: steps of a millisecond."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Conv2d(3, 4, 3, 4), nn.ReLU(), nn.Conv2d(4, 3, 1))
        self.identity = "toy"

    def loss(self, images: Tensor) -> Tensor:
        return (self.model(images).float().mean((2, 3)) - images.mean((2, 3))).square().mean()

    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        loss = self.loss(images)
        yield loss, {"colour": loss.detach()}


def without_norms(detector: Detector) -> Detector:
    """BatchNorm's statistics are those of one batch of one process: without it, parts of a batch make up the whole
    exactly."""
    for module in list(detector.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    return detector


def batches(data: DataPair, recipe: Recipe, share: tuple[int, int] = (0, 1), workers: int = 0) -> Loader:
    """What ``nas.training.data.training_batches`` makes of a recipe, at 64 px."""
    augmentation = data.augmentation.changed(recipe.augmentation)
    return Loader(
        data.train,
        LoaderConfig(
            recipe.batch_size,
            64,
            augmentation,
            recipe.seed,
            True,
            True,
            workers,
            share,
            epochs=recipe.epochs,
            accumulate=recipe.accumulate,
        ),
    )


EVERYTHING = Recipe(
    epochs=3,
    batch_size=4,
    accumulate=2,
    optimizer="sgd",
    lr=1e-2,
    warmup_steps=2,
    precision="fp32",
    augmentation={
        name: value
        for name, value in Augmentation(
            affine=1, mosaic=0.5, mixup=0.5, swap=0.5, degrees=10, shear=3, close_mosaic=1, multi_scale=(0.5, 1.5)
        )
        .to_dict()
        .items()
        if name not in ("min_side", "min_area", "max_aspect")
    },
)
SANDWICH = Recipe(epochs=1, batch_size=4, warmup_steps=2, precision="fp32", lr=1e-3)


class Deadly:
    """``kill -9`` in the middle of step ``at``, when its last loss has been asked for."""

    at = -1

    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        # a block of somebody else's may draw from the global generator, as dropout does
        yield from super().losses(images + 0.01 * torch.rand_like(images), truth, step)  # type: ignore[misc]
        if step == self.at and not (truth.scores and len(truth.scores) < EVERYTHING.accumulate):
            os.kill(os.getpid(), signal.SIGKILL)


class DeadlyDetector(Deadly, DetectorTask):
    """One detector."""


class DeadlySandwich(Deadly, SandwichTask):
    """A supernet."""


def train(case: str, data: DataPair, checkpoint: Path, at: int = -1) -> dict[str, Any]:
    """Train (or go on) to the end, or to the death in step ``at``; what the checkpoint holds at the end."""
    torch.manual_seed(0)
    task: DeadlyDetector | DeadlySandwich
    if case == "detector":
        task, recipe = DeadlyDetector(SPACE.build(SPACE.smallest, 10), case), EVERYTHING
    else:
        task, recipe = DeadlySandwich(Supernet(SPACE, 10), case, seed=1, between=1, ramp_steps=2), SANDWICH
    task.at = at
    fit(task, batches(data, recipe, workers=2), recipe, checkpoint, save_every=2)
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    return state


def main() -> None:
    """Train in a process of its own: case, data, cache, checkpoint, the step to die in, threads."""
    from nas.data.source import open_data

    case, spec, cache, checkpoint, at, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    train(case, open_data(spec, cache=Path(cache)), Path(checkpoint), int(at))


if __name__ == "__main__":
    main()
