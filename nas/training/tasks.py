"""What is trained: one detector on labels, or a supernet by the sandwich rule."""

from __future__ import annotations

import random
from collections.abc import Iterator

from torch import Tensor

from nas.supernet import Supernet
from nas.training.loop import Task, Terms
from nas.training.loss import DetectionLoss, Truth
from search_spaces.architecture import Architecture
from search_spaces.detector import Detector


class DetectorTask(Task):
    """One architecture, learning from labels."""

    def __init__(self, detector: Detector, identity: str, loss: DetectionLoss | None = None) -> None:
        self.model = self.detector = detector
        self.identity = identity
        self.loss = loss or DetectionLoss()

    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        """The detection loss."""
        loss, terms, _ = self.loss(self.detector(images), truth)
        yield loss, terms


class SandwichTask(Task):
    """A largest, a smallest and ``between`` random architectures per step; the others learn from the largest (BigNAS, arXiv:2003.11142).

    Largest and smallest are so in widths and depths, with block types drawn anew, so that every alternative is trained at its ends. All of a step share one
    set of pictures, label assignment and the largest one's predictions. Pictures are as the loader gives them: one image size.
    """

    def __init__(
        self, supernet: Supernet, identity: str, seed: int, between: int = 2, warmup_steps: int = 0, loss: DetectionLoss | None = None
    ) -> None:
        self.model = self.supernet = supernet
        self.identity = identity
        self.seed, self.between, self.warmup_steps = seed, between, warmup_steps
        self.loss = loss or DetectionLoss()

    def architectures(self, step: int) -> list[Architecture]:
        """Whom step ``step`` trains, largest first; during ``warmup_steps`` only the largest."""
        rng = random.Random(f"{self.seed}/{step}")
        space = self.supernet.space
        largest = space.extreme(-1, rng)
        if step < self.warmup_steps:
            return [largest]
        return [largest, *(space.sample(rng) for _ in range(self.between)), space.extreme(0, rng)]

    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        """The largest one's loss on labels, then the others' distillation losses."""
        largest, *others = self.architectures(step)
        teacher = self.supernet(images, largest)
        loss, terms, matched = self.loss(teacher, truth)
        teacher = teacher._replace(logits=teacher.logits.detach(), boxes=teacher.boxes.detach())
        yield loss, terms
        for architecture in others:
            yield self.loss.distill(self.supernet(images, architecture), teacher, truth, matched)
