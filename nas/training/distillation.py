"""Knowledge distillation: a detector is trained on labels and on the predictions of a trained detector, its teacher.

Notation: z, class logits; q = sigmoid(z / T) at temperature T; p, distributions of the four box sides; s, the
teacher's highest class score at an anchor point, which weighs that point.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nas.supernet.batchnorm import recalibrate
from nas.supernet.weights import digest_of, is_supernet, load_detector, load_supernet
from nas.training.assigner import Assignment
from nas.training.layers import ALL_LAYERS, LayerConfig
from nas.training.loss import DetectionLoss, Terms, Truth, giou, normaliser
from nas.training.recipe import Recipe
from nas.training.tasks import DetectorTask
from search_spaces.detector import Detector, channels, run
from search_spaces.errors import InputError
from search_spaces.graph import Layout
from search_spaces.heads.base import Predictions, decode_boxes
from search_spaces.image_size import AnySize, ImageSize

MIN_CONFIDENCE = 0.05
"""Confidence of the teacher from which an anchor point is distilled. Below it are thousands of points of background,
whose sum would outweigh the others."""
FINAL_SHARE = 0.01
"""Share of the weight that is left at the end of the training, as in YOLOv6 3.0 (arXiv:2301.05586)."""
EPS = 1e-5
_TEACHER = " taught by "
"""Between the identities of student and teacher. Checkpoints of the version before contain it."""

Features = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained detector, evaluated without gradients.

    ``columns``: indices of the student's classes among the teacher's, in the student's order; None where the classes
    are equal. ``identity`` becomes part of the identity of the student's checkpoints.
    """

    detector: Detector
    identity: str
    columns: Tensor | None = None

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Predictions, Features]:
        """Return predictions for images (N, 3, H, W), with the student's classes, and the features of the neck."""
        predictions, features = predictions_and_features(self.detector, images)
        return self._selected(predictions), features

    def _selected(self, p: Predictions) -> Predictions:
        if self.columns is None:
            return p
        return p._replace(
            logits=p.logits[..., self.columns], auxiliary=None if p.auxiliary is None else self._selected(p.auxiliary)
        )


def open_teacher(
    path: Path, classes: Sequence[str], device: torch.device, images: Callable[[], Iterable[Tensor]]
) -> Teacher:
    """Read the teacher from a weights file; of a supernet, extract its largest architecture.

    Args:
        path: Weights file of a detector or of a supernet.
        classes: Class names of the student, in the order of its outputs.
        device: Device of the teacher.
        images: Returns batches (N, 3, H, W) on ``device``, from which the BatchNorm statistics of an extracted teacher
            are computed.

    Raises:
        InputError: if the teacher lacks one of the ``classes`` (compared by name, in any order).
    """
    known: tuple[str, ...]
    if is_supernet(path):
        supernet, known, _ = load_supernet(path)
        detector = supernet.extract(supernet.space.largest).to(device)
        recalibrate(detector, images())
    else:
        detector, artifact, _ = load_detector(path)
        known = artifact.classes
    if lacking := [c for c in classes if c not in known]:
        some = f"{lacking[:5]}{' …' if len(lacking) > 5 else ''}"
        raise InputError(
            f"teacher {path} lacks the classes {some}", "one that was trained for all classes of the data set"
        )
    columns = None if tuple(classes) == known else torch.tensor([known.index(c) for c in classes], device=device)
    if detector.head.end_to_end:  # its deployed form lacks the auxiliary head, which is distilled
        detector.eval()
    else:
        detector.deploy()
    detector.requires_grad_(False)
    return Teacher(detector.to(device), f"{path.name} {digest_of(path)}", columns)


def check_pair(student: Detector, teacher: Teacher, image_size: AnySize, features: bool) -> None:
    """Raises InputError unless student and teacher have the same number of anchor points at ``image_size``, and,
    where ``features`` are compared, neck outputs of the same sizes."""
    (own, own_maps), (goal, goal_maps) = (_shapes(d, image_size) for d in (student, teacher.detector))
    if own != goal:
        raise InputError(
            f"a teacher with {goal} anchor points at {image_size} px, its student with {own}",
            "heads of as many levels and anchors per position",
            "take a teacher whose head is of the student's kind (with or without anchor boxes)",
        )
    if features and own_maps != goal_maps:
        raise InputError(
            f"neck outputs of {own_maps} positions and, the teacher's, {goal_maps}",
            "equal ones",
            "leave --distill-features out",
        )


def _shapes(detector: Detector, image_size: AnySize) -> tuple[int, list[tuple[int, int]]]:
    """Return the number of anchor points, and height and width of each neck output, on the meta device."""
    skeleton = copy.deepcopy(detector).to("meta").eval()
    predictions, features = predictions_and_features(
        skeleton, torch.zeros(1, 3, *ImageSize.of(image_size), device="meta")
    )
    return int(predictions.logits.shape[1]), [(int(f.shape[2]), int(f.shape[3])) for f in features]


def predictions_and_features(detector: Detector, images: Tensor) -> tuple[Predictions, Features]:
    """Return a detector's predictions for ``images`` (N, 3, H, W), and the inputs of its head, one (N, C, H, W) per
    level."""
    features: list[Tensor] = []

    def call(node: object, inputs: tuple[Tensor, ...]) -> object:
        if node is detector.graph.head:
            features.extend(inputs)
        return detector.cell(node)(*inputs)  # type: ignore[arg-type]

    return run(detector.graph, images, call, detector.head), tuple(features)


class Student(nn.Module):
    """A detector with the parameters that only distillation needs: per neck output, a 1x1 convolution to the teacher's
    channels (none where features are not compared)."""

    def __init__(self, detector: Detector, goal: Layout = ()) -> None:
        super().__init__()
        self.detector = detector
        own = channels(detector.graph)[detector.graph.head.name]
        self.projections = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(own, goal, strict=False))


class DistillationTask(DetectorTask):
    """Trains a detector on labels and by distillation from a teacher.

    The weight of the distillation falls along a half cosine over ``steps``, from the recipe's to
    :data:`FINAL_SHARE` of it.
    """

    def __init__(
        self,
        detector: Detector,
        identity: str,
        teacher: Teacher,
        recipe: Recipe,
        steps: int,
        layers: LayerConfig = ALL_LAYERS,
        weighted: bool = False,
    ) -> None:
        super().__init__(detector, f"{identity}{_TEACHER}{teacher.identity}", recipe.loss(), layers, weighted)
        self.teacher, self.recipe, self.steps = teacher, recipe, steps
        goal = channels(teacher.detector.graph)[teacher.detector.graph.head.name] if recipe.distill_features else ()
        self.model = self.student = Student(detector, goal).to(next(detector.parameters()).device)

    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        """Yield the sum of the detection loss and of the distillation loss, a scalar, and its terms, for ``images``
        (N, 3, H, W) in 0..1."""
        self.freeze()
        goal, goal_features = self.teacher(images)
        student, features = predictions_and_features(self.detector, images)
        loss, terms, _ = self.loss(student, self.truth(truth))
        share = distillation_share(step, self.steps)
        added = {"distill": share * self.recipe.distill_weight * self._distill(student, goal)}
        if self.recipe.distill_features:
            levels = zip(self.student.projections, features, goal_features, strict=True)
            losses = [feature_loss(project(own), its) for project, own, its in levels]
            added["features"] = share * self.recipe.distill_features * torch.stack(losses).mean()
        yield loss + torch.stack(list(added.values())).sum(), {**terms, **{k: v.detach() for k, v in added.items()}}

    def _distill(self, student: Predictions, teacher: Predictions) -> Tensor:
        temperature, pairs = self.recipe.distill_temperature, branch_pairs(student, teacher)
        return torch.stack([distillation_loss(self.loss, own, goal, temperature) for own, goal in pairs]).sum()


def distillation_share(step: int, steps: int) -> float:
    """Return the share of the distillation weight: a half cosine from 1 at the first step to f = :data:`FINAL_SHARE`
    at the last, f + (1 - f) (1 + cos(pi t)) / 2 with t from 0 to 1."""
    return FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps - 1))))


def branch_pairs(student: Predictions, teacher: Predictions) -> list[tuple[Predictions, Predictions]]:
    """Return the pairs (student, teacher) of branches to distil.

    A branch trained with many boxes per object (the auxiliary head, else the head) is distilled from such a branch,
    and a branch with one box per object from such a branch, where both have one.
    """
    many = tuple(p if p.auxiliary is None else p.auxiliary for p in (student, teacher))
    both = student.auxiliary is not None and teacher.auxiliary is not None
    return [(many[0], many[1]), *([(student, teacher)] if both else [])]


def confident(teacher: Predictions) -> Assignment:
    """Return the anchor points whose highest class score s is over :data:`MIN_CONFIDENCE`, with s as their weight.
    ``box`` of the assignment is unused."""
    score = teacher.scores.float().amax(-1)
    image, anchor = torch.nonzero(score > MIN_CONFIDENCE, as_tuple=True)
    return Assignment(image, anchor, torch.zeros_like(anchor), score[image, anchor])


def distillation_loss(loss: DetectionLoss, student: Predictions, teacher: Predictions, temperature: float) -> Tensor:
    """Return the distillation loss (scalar) at the teacher's confident anchor points.

    As :meth:`DetectionLoss.distill`. Where the two heads code boxes in different ways, a GIoU loss with the teacher's
    decoded boxes, sum(s (1 - GIoU)) / sum(s), replaces the divergence of the side distributions.
    """
    points = confident(teacher)
    value, _ = loss.distill(student, teacher, points, temperature)
    if student.boxes.shape[-1] == teacher.boxes.shape[-1] > 4:
        return value
    own, goal = (decode_boxes(p)[points.image, points.anchor].float() for p in (student, teacher))
    return value + loss.iou * ((1 - giou(own, goal)) * points.score).sum() / normaliser(points)


def feature_loss(own: Tensor, goal: Tensor) -> Tensor:
    """Return half the mean squared error of two feature maps (N, C, H, W) whose channels are standardised over their
    batch: 1 - Pearson correlation.

    The scales of two networks' features carry no information (Cao et al., PKD, arXiv:2207.02039).
    """
    return 0.5 * (_standardised(own) - _standardised(goal)).square().mean()


def _standardised(x: Tensor) -> Tensor:
    x = x.float()
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
    return (x - mean) / (variance + EPS).sqrt()
