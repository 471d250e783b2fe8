"""A step of the training loop against plain forward + backward + optimizer of the same network, and the loader
against what the network takes.

``python -m benchmarks.training_step --model yolo-nas-s --image-size 320 --batch 8 --steps 30``

The loop's step has label assignment, the detection loss, clipping, the schedule, and the average besides (goal: at
most 1.15 times the plain one). Both train copies of one network on one batch, in turn, step by step, so that whatever
else the machine does hits both; medians of the ratios of neighbours count. Then images per second that the loader
makes, of each kind of augmentation, with ``--workers`` threads and no network running, beside those the loop takes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.record import Goal, median_interval, write
from nas.bench.models import resolve_models
from nas.core.compute import autocast, device_of, resolve
from nas.data.loader import Batch, Loader, LoaderConfig
from nas.data.source import DataPair, open_data
from nas.data.transforms import Augmentation
from nas.training.loop import fit
from nas.training.optimizers import open_optimizer
from nas.training.recipe import Recipe
from nas.training.tasks import DetectorTask
from search_spaces.architecture import Architecture
from search_spaces.detector import Detector
from search_spaces.fixed_values import fixed_values
from search_spaces.spaces import SPACES, space_of

WARM = 3
"""Steps before the clock is read: memory is reserved, kernels are chosen."""


class InTurn(Loader):
    """One batch again and again; between two steps of who asks for it, ``other()`` runs. What each took is noted."""

    def __init__(self, loader: Loader, steps: int, device: torch.device, other: Callable[[Batch], None]) -> None:
        super().__init__(loader.dataset, loader.config)
        self.batch, self.steps, self.device, self.other = next(loader.epoch()).to(device), steps, device, other
        self.asked: list[float] = []
        self.others: list[float] = []

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int = 0, start_step: int = 0, every: int = 1) -> Iterator[Batch]:
        """The batch, ``steps`` times."""
        for _ in range(self.steps):
            start = self._now()
            yield self.batch
            middle = self._now()
            self.other(self.batch)
            self.asked.append(middle - start)
            self.others.append(self._now() - middle)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def plain_step(detector: Detector, recipe: Recipe, device: torch.device) -> Callable[[Batch], None]:
    """Forward, backward of a sum of squares, the same optimizer; nothing else."""
    optimizer, precision = open_optimizer(detector, recipe), resolve(recipe.precision, device)

    def step(batch: Batch) -> None:
        with autocast(precision, device):
            p = detector(batch.images.float() / 255.0)
            loss: Tensor = p.logits.float().square().mean() + p.boxes.float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def steps(
    architecture: Architecture, data: DataPair, recipe: Recipe, count: int, device: torch.device
) -> tuple[list[float], list[float]]:
    """Seconds of ``count`` steps of the loop and of as many plain ones."""
    loop, plain = (space_of(architecture).build(architecture, len(data.classes)).to(device).train() for _ in range(2))
    loader = Loader(
        data.train,
        LoaderConfig(
            recipe.batch_size,
            architecture.image_size,
            data.augmentation,
            shuffle=True,
            drop_last=True,
            workers=0,
        ),
    )
    # one more: the last one's other half is never asked for
    turns = InTurn(loader, count + WARM + 1, device, plain_step(plain, recipe, device))
    fit(DetectorTask(loop, "benchmark"), turns, recipe)
    return turns.asked[WARM:], turns.others[WARM:]


def made_per_second(
    data: DataPair, augmentation: Augmentation, size: int, batch: int, workers: int, batches: int
) -> float:
    """Images per second of a loader that nobody keeps waiting; decoded images are kept in memory, as training
    does."""
    loader = Loader(
        data.train.cached(2 << 30),
        LoaderConfig(batch, size, augmentation, shuffle=True, drop_last=True, workers=workers),
    )
    for _ in loader.epoch(0):  # images are decoded once
        pass
    made, epoch, start = 0, 1, time.perf_counter()
    while made < batches:
        for _ in loader.epoch(epoch):
            made += 1
        epoch += 1
    return made * batch / (time.perf_counter() - start)


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """At most 1.15 times a plain step."""
    model = "smallest network of yolo-nano" if figure["model"] == "smallest" else figure["model"]
    what = f"step of the training loop over a plain step, {model} at {figure['image_size']} px"
    return [Goal(what, figure["ratio_median"], "<= 1.15", "×")]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="yolo-nas-s", help="a reference's name, or 'smallest' of yolo-nano (default %(default)s)"
    )
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--data", default="digits@320:train=64,val=8")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dry-run", action="store_true", help="print and write nothing")
    args = parser.parse_args()
    torch.manual_seed(0)
    device, data = device_of(args.device), open_data(args.data)
    if args.model == "smallest":
        space = SPACES["yolo-nano"]
        architecture = space.restrict(fixed_values(space, [f"image_size={args.image_size}"])).smallest
    else:
        (model,) = resolve_models([args.model], len(data.classes), args.image_size)
        architecture = model.network.architecture.replace(image_size=args.image_size)
    recipe = Recipe(epochs=1, batch_size=args.batch, precision=args.precision)
    asked, others = steps(architecture, data, recipe, args.steps, device)
    middle, low, high = median_interval([a / b for a, b in zip(asked, others, strict=True)])
    kinds = {
        "default": data.augmentation,
        "mosaic": data.augmentation.changed({"mosaic": 1.0}),
        "mixup": data.augmentation.changed({"mixup": 1.0}),
    }
    figure: dict[str, Any] = {
        "ratio_median": middle,
        "ratio_interval": [low, high],
        "step_ms_median": median(asked) * 1e3,
        "plain_ms_median": median(others) * 1e3,
        "taken_per_s": args.batch / median(asked),
        "made_per_s": {
            name: made_per_second(data, a, args.image_size, args.batch, args.workers, args.steps)
            for name, a in kinds.items()
        },
        **{name: getattr(args, name) for name in ("model", "image_size", "batch", "workers", "precision")},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
    }
    print(
        f"the loop's step {figure['step_ms_median']:.1f} ms, plain {figure['plain_ms_median']:.1f} ms, ratio {middle:.3f} ({low:.3f}…{high:.3f})"
    )
    made = ", ".join(f"{name} {rate:.0f}" for name, rate in figure["made_per_s"].items())
    print(f"images per second: taken {figure['taken_per_s']:.0f}, made {made}")
    if not args.dry_run:
        write(f"training_step_{args.model}_{args.device.partition(':')[0]}", figure, goals_of(figure))


if __name__ == "__main__":
    main()
