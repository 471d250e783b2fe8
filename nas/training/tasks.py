"""What is trained: one detector on labels, or a supernet by the sandwich rule."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from nas.data.pseudo_labelled import unpack
from nas.supernet.supernet import Supernet
from nas.training.loop import Task
from nas.training.loss import DetectionLoss, Terms, Truth
from nas.training.transfer import UNTUNED, FineTuning
from search_spaces.architecture import Architecture
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.heads.base import Predictions


class DetectorTask(Task):
    """One architecture, learning from labels.

    ``tuning``: what of it stays as it is, and what moves slower. ``weighted``: labels carry the weight of their box
    (:mod:`nas.data.pseudo_labelled`).
    """

    model: nn.Module

    def __init__(
        self,
        detector: Detector,
        identity: str,
        loss: DetectionLoss | None = None,
        tuning: FineTuning = UNTUNED,
        weighted: bool = False,
    ) -> None:
        self.model = self.detector = detector
        self.identity = f"{identity}{tuning}"
        self.loss = loss or DetectionLoss()
        self.tuning, self.weighted = tuning, weighted
        self._still = tuning.freeze(detector)

    def groups(self, groups: list[dict[str, Any]], lr: float) -> list[dict[str, Any]]:
        """Each divided by the rates of the nodes."""
        return self.tuning.groups(groups, self.detector, lr)

    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        """The detection loss."""
        self.settle()
        loss, terms, _ = self.loss(self.detector(images), self.truth(truth))
        yield loss, terms

    def settle(self) -> None:
        """What is frozen in evaluation mode: the loop sets all of the model to training before each step."""
        for cell in self._still:
            cell.eval()

    def truth(self, truth: Truth) -> Truth:
        """With the weights that labels carry."""
        if not self.weighted:
            return truth
        labels, weights = unpack(truth.labels)
        return replace(truth, labels=labels, weights=weights)


class SandwichTask(Task):
    """A largest, a smallest and ``between`` random architectures per step, gradients accumulated (the sandwich rule
    of BigNAS, arXiv:2003.11142).

    Largest and smallest are so in widths and depths, with block types drawn anew, so that every alternative is
    trained at its ends. All of a step share one set of images. The largest learns from labels; the others re-use
    its label assignment and learn from the labels there and, in place, from its class scores and side distributions,
    with a weight that rises from 0 to 1 over the first ``ramp_steps``: from the first step on, and instead of labels,
    a detector that knows nothing yet taught the others noise (in one trial of each on ``digits``, its classification
    loss rose where labels kept it level). In the first ``alone_steps`` the largest (in widths and depths, of drawn
    block types) learns alone, at less than half the cost, as Once-for-all begins (arXiv:1908.09791). Where training
    is short, this decides: on an earlier, harder form of ``digits@96`` with 8,000 images seen (one run each, batch
    16 or 32), the smallest, a middle and the largest architecture reached mAP 0.26, 0.34 and 0.49 with 70 % of the
    steps alone, 0.08, 0.08 and 0.09 with none. Images are as the loader gives them: one image size.
    """

    def __init__(
        self,
        supernet: Supernet,
        identity: str,
        seed: int,
        between: int = 2,
        ramp_steps: int = 500,
        alone_steps: int = 0,
        loss: DetectionLoss | None = None,
    ) -> None:
        self.model = self.supernet = supernet
        self.identity = identity
        self.seed, self.between, self.ramp_steps, self.alone_steps = seed, between, ramp_steps, alone_steps
        self.loss = loss or DetectionLoss()

    def compile(self) -> None:
        """Refused: every step would be another program."""
        raise InputError(
            "compile of a supernet",
            "compile=false",
            "every step trains other architectures; compile the training of a chosen one",
        )

    def architectures(self, step: int) -> list[Architecture]:
        """Whom step ``step`` trains, largest first."""
        rng = random.Random(f"{self.seed}/{step}")
        space = self.supernet.space
        return [space.extreme(-1, rng), *(space.sample(rng) for _ in range(self.between)), space.extreme(0, rng)]

    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        """The largest one's loss, then the others'."""
        largest, *others = self.architectures(step)
        teacher = self.supernet(images, largest)
        loss, terms, matched = self.loss(teacher, truth)
        teacher = detached(teacher)
        yield loss, terms
        if step < self.alone_steps:
            return
        trust = min(1.0, (step - self.alone_steps) / self.ramp_steps)
        for architecture in others:
            student = self.supernet(images, architecture)
            taught, terms = self.loss.assigned(student, truth, matched)
            yield taught + trust * self.loss.distill(student, teacher, matched)[0], terms


def detached(predictions: Predictions) -> Predictions:
    """The same values without their history and without a helper: a teacher's, that its graph may go."""

    def alone(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.detach()

    p = predictions
    return Predictions(p.logits.detach(), p.boxes.detach(), p.points, p.strides, alone(p.objectness), p.priors)
