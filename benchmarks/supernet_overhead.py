"""Forward + backward of an architecture inside the supernet against the same network extracted.

``python -m benchmarks.supernet_overhead --space yolo-nas --image-size 320 --batch 8 --architectures 20``

Each architecture is new to the supernet; both sides are timed in turn, ``--repeats`` times, and the least time of
each counts (others use the machine too). The gradient of the shared weights is cleared before every step, as training
does. The first step, which plans the cuts, is reported apart.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any

import torch

from benchmarks.record import Goal, median_interval, write
from nas.supernet.supernet import Supernet
from search_spaces.heads.base import Predictions
from search_spaces.spaces import SPACES


def step(forward: Callable[[], Predictions], parameters: list[torch.nn.Parameter]) -> float:
    """Seconds of one forward and backward."""
    for parameter in parameters:
        parameter.grad = None
    start = time.perf_counter()
    p = forward()
    (p.logits.square().mean() + p.boxes.square().mean()).backward()
    if p.logits.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """At most 1.15 times the extracted network."""
    what = f"training step inside the supernet over that of the extracted network, {figure['space']} at {figure['image_size']} px"
    return [Goal(what, figure["ratio_median"], "<= 1.15", "×")]


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="yolo-nas")
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--architectures", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.manual_seed(0)
    rng = random.Random(0)
    space = SPACES[args.space]
    supernet = Supernet(space, 80).to(args.device).train()
    images = torch.rand(args.batch, 3, args.image_size, args.image_size, device=args.device)
    ratios, first = [], []
    for i in range(args.architectures):
        architecture = space.sample(rng)
        alone = supernet.extract(architecture).train()
        own, shared = list(alone.parameters()), list(supernet.parameters())
        step(partial(alone, images), own)
        unplanned = step(partial(supernet, images, architecture), shared)
        pairs = [
            (step(partial(alone, images), own), step(partial(supernet, images, architecture), shared))
            for _ in range(args.repeats)
        ]
        extracted, inside = (min(column) for column in zip(*pairs, strict=True))
        ratios.append(inside / extracted)
        first.append(unplanned - inside)
        print(
            f"{i + 1}/{args.architectures}: extracted {extracted * 1e3:.0f} ms, inside {inside * 1e3:.0f} ms, ratio {ratios[-1]:.3f}",
            flush=True,
        )
    middle, low, high = median_interval(ratios)
    figure = {
        "ratio_median": middle,
        "ratio_interval": [low, high],
        "ratios": ratios,
        "planning_ms_median": median(first) * 1e3,
        "space": args.space,
        "image_size": args.image_size,
        "batch": args.batch,
        "device": torch.cuda.get_device_name() if "cuda" in args.device else "cpu",
        "threads": torch.get_num_threads(),
    }
    write(f"supernet_overhead_{args.space}_{args.device.partition(':')[0]}", figure, goals_of(figure))


if __name__ == "__main__":
    main()
