"""The tasks of the training loop: one detector on labels, or a supernet by the sandwich rule."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from nas.data.pseudo_labelled import unpack
from nas.supernet.supernet import Supernet
from nas.training.layers import ALL_LAYERS, LayerConfig
from nas.training.loss import DetectionLoss, Terms, Truth
from nas.training.task import Task
from search_spaces.architecture import Architecture
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.heads.base import Predictions
from search_spaces.image_size import ImageSize


class DetectorTask(Task):
    """Trains one architecture on labels.

    Args:
        detector: the network.
        identity: name of the training for its checkpoints.
        loss: weights of the loss terms.
        layers: frozen layers, and layers with a learning rate of their own.
        weighted: whether labels carry the weight of their box (:mod:`nas.data.pseudo_labelled`).
    """

    model: nn.Module

    def __init__(
        self,
        detector: Detector,
        identity: str,
        loss: DetectionLoss | None = None,
        layers: LayerConfig = ALL_LAYERS,
        weighted: bool = False,
    ) -> None:
        self.model = self.detector = detector
        self.identity = f"{identity}{layers}"
        self.loss = loss or DetectionLoss()
        self.layers, self.weighted = layers, weighted
        self._frozen = layers.freeze(detector)

    def groups(self, groups: list[dict[str, Any]], lr: float) -> list[dict[str, Any]]:
        """Divide parameter groups by the learning rates of the layers."""
        return self.layers.groups(groups, self.detector, lr)

    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        """Yield the detection loss, a scalar, and its terms, for ``images`` (N, 3, H, W) in 0..1."""
        self.freeze()
        loss, terms, _ = self.loss(self.detector(images), self.truth(truth))
        yield loss, terms

    def freeze(self) -> None:
        """Set frozen cells to evaluation mode: before each step, the loop sets the whole model to training mode."""
        for cell in self._frozen:
            cell.eval()

    def truth(self, truth: Truth) -> Truth:
        """Return the ground truth with the box weights that its labels carry."""
        if not self.weighted:
            return truth
        labels, weights = unpack(truth.labels)
        return replace(truth, labels=labels, weights=weights)


class SandwichTask(Task):
    """Trains a supernet by the sandwich rule of BigNAS (arXiv:2003.11142).

    Every step trains a largest, a smallest and ``between`` random architectures on the same images, and accumulates
    their gradients. Largest and smallest refer to widths and depths. Block types are sampled anew, so that every
    alternative is trained at both ends.

    1. The largest architecture is trained on labels.
    2. The others reuse its label assignment. Their loss is L_labels + r L_distill, where L_distill is in-place
       distillation from the largest (class scores and side distributions), and r rises from 0 to 1 over ``ramp_steps``.
       At r = 1 from the first step on, an untrained network would teach noise: on ``digits``, one trial each, the
       classification loss of the others then rose. Each of these losses is multiplied by ``weight``.
    3. In the first ``largest_only_steps``, only the largest is trained, at less than half the cost, as Once-for-all
       begins (arXiv:1908.09791). In short trainings this decides the accuracy: on an earlier, harder form of
       ``digits@96`` with 8,000 images (one run each, batch 16 or 32), the smallest, a middle and the largest
       architecture reached mAP 0.26, 0.34 and 0.49 with 70 % of the steps, and 0.08, 0.08 and 0.09 with none.

    All networks of a step have the same images, of one size.
    """

    def __init__(
        self,
        supernet: Supernet,
        identity: str,
        seed: int,
        between: int = 2,
        ramp_steps: int = 500,
        largest_only_steps: int = 0,
        loss: DetectionLoss | None = None,
        weight: float = 1.0,
    ) -> None:
        self.model = self.supernet = supernet
        self.identity = identity
        self.seed, self.between = seed, between
        self.ramp_steps, self.largest_only_steps = ramp_steps, largest_only_steps
        self.loss, self.weight = loss or DetectionLoss(), weight

    def compile(self) -> None:
        """Refuse to compile, since every step would compile other architectures. Raises InputError."""
        raise InputError(
            "compile of a supernet",
            "compile=false",
            "every step trains other architectures; compile the training of a chosen one",
        )

    def architectures(self, step: int) -> list[Architecture]:
        """Return the architectures that step ``step`` trains, the largest first."""
        rng = random.Random(f"{self.seed}/{step}")
        space = self.supernet.space
        return [space.extreme(-1, rng), *(space.sample(rng) for _ in range(self.between)), space.extreme(0, rng)]

    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        """Yield the loss of the largest architecture, then those of the others, each a scalar with its terms, for
        ``images`` (N, 3, H, W) in 0..1."""
        size = ImageSize(*images.shape[2:]).value
        largest, *others = (a.replace(image_size=size) for a in self.architectures(step))
        teacher = self.supernet(images, largest)
        loss, terms, matched = self.loss(teacher, truth)
        teacher = detached(teacher)
        yield loss, terms
        if step < self.largest_only_steps:
            return
        ramp = min(1.0, (step - self.largest_only_steps) / self.ramp_steps)
        for architecture in others:
            student = self.supernet(images, architecture)
            labelled, terms = self.loss.assigned(student, truth, matched)
            yield self.weight * (labelled + ramp * self.loss.distill(student, teacher, matched)[0]), terms


def detached(predictions: Predictions) -> Predictions:
    """Return the values of a teacher's predictions without gradients and without those of an auxiliary head, so that
    its graph can be freed."""

    def without_graph(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.detach()

    p = predictions
    return Predictions(p.logits.detach(), p.boxes.detach(), p.points, p.strides, without_graph(p.objectness), p.priors)
