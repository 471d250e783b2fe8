"""One detector learns from labels and from another one that is trained already: its class scores and boxes, and, if
asked, the features of its neck."""

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
from nas.training.loss import DetectionLoss, Terms, Truth, giou, normaliser
from nas.training.recipe import Recipe
from nas.training.tasks import DetectorTask
from nas.training.transfer import UNTUNED, FineTuning
from search_spaces.detector import Detector, channels, run
from search_spaces.errors import InputError
from search_spaces.graph import Layout
from search_spaces.heads.base import Predictions, decode_boxes

LEAST = 0.05
"""Confidence from which a teacher's anchor is listened to: below it are thousands, of background, whose sum would
drown the others."""
LAST = 0.01
"""What is left of the weight at the end of the training (as YOLOv6 3.0 has it, arXiv:2301.05586)."""
EPS = 1e-5

Features = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained detector, evaluated without gradients. ``columns``: the student's classes among its own, in the
    student's order; None where they are equal.

    ``identity`` goes into the checkpoints of who is taught.
    """

    detector: Detector
    identity: str
    columns: Tensor | None = None

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Predictions, Features]:
        """What it says of the images (N, 3, H, W), in the student's classes, and its features."""
        predictions, features = observed(self.detector, images)
        return self._selected(predictions), features

    def _selected(self, p: Predictions) -> Predictions:
        if self.columns is None:
            return p
        return p._replace(
            logits=p.logits[..., self.columns], helper=None if p.helper is None else self._selected(p.helper)
        )


def open_teacher(
    path: Path, classes: Sequence[str], device: torch.device, images: Callable[[], Iterable[Tensor]]
) -> Teacher:
    """The teacher in a weights file; of a supernet's its largest architecture, its BatchNorm statistics taken from
    ``images`` (batches on the device).

    InputError where it does not know all of the ``classes`` (by name, in any order).
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
            f"teacher {path} does not know the classes {some}", "one that was trained for all classes of the data set"
        )
    columns = None if tuple(classes) == known else torch.tensor([known.index(c) for c in classes], device=device)
    if detector.head.end_to_end:  # its deployed form lacks the branch that has most to say
        detector.eval()
    else:
        detector.deploy()
    detector.requires_grad_(False)
    return Teacher(detector.to(device), f"{path.name} {digest_of(path)}", columns)


def check_pair(student: Detector, teacher: Teacher, image_size: int, features: bool) -> None:
    """An error unless both answer at the same anchors of a image (and have neck outputs of the same sizes, where
    ``features`` are compared)."""
    (own, own_maps), (goal, goal_maps) = (_shapes(d, image_size) for d in (student, teacher.detector))
    if own != goal:
        raise InputError(
            f"a teacher that answers at {goal} anchors of a image of {image_size} px, its student at {own}",
            "heads of as many levels and anchors per position",
            "take a teacher whose head is of the student's kind (with or without anchor boxes)",
        )
    if features and own_maps != goal_maps:
        raise InputError(
            f"neck outputs of {own_maps} positions and, the teacher's, {goal_maps}",
            "equal ones",
            "leave --distill-features out",
        )


def _shapes(detector: Detector, image_size: int) -> tuple[int, list[tuple[int, int]]]:
    """Anchors, and height and width of the neck's outputs; nothing is computed."""
    skeleton = copy.deepcopy(detector).to("meta").eval()
    predictions, features = observed(skeleton, torch.zeros(1, 3, image_size, image_size, device="meta"))
    return int(predictions.logits.shape[1]), [(int(f.shape[2]), int(f.shape[3])) for f in features]


def observed(detector: Detector, images: Tensor) -> tuple[Predictions, Features]:
    """A detector's predictions, and what its head reads."""
    features: list[Tensor] = []

    def call(node: object, inputs: tuple[Tensor, ...]) -> object:
        if node is detector.graph.head:
            features.extend(inputs)
        return detector.cell(node)(*inputs)  # type: ignore[arg-type]

    return run(detector.graph, images, call, detector.head), tuple(features)


class Student(nn.Module):
    """A detector with what only its training needs: a 1x1 per neck output to the teacher's channels (none where
    features are not compared)."""

    def __init__(self, detector: Detector, goal: Layout = ()) -> None:
        super().__init__()
        self.detector = detector
        own = channels(detector.graph)[detector.graph.head.name]
        self.projections = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(own, goal, strict=False))


class DistillationTask(DetectorTask):
    """A detector that learns from labels and from a teacher, whose weight falls along a cosine over ``steps``, from
    the recipe's to :data:`LAST` of it."""

    def __init__(
        self,
        detector: Detector,
        identity: str,
        teacher: Teacher,
        recipe: Recipe,
        steps: int,
        tuning: FineTuning = UNTUNED,
        weighted: bool = False,
    ) -> None:
        super().__init__(detector, f"{identity} taught by {teacher.identity}", recipe.loss(), tuning, weighted)
        self.teacher, self.recipe, self.steps = teacher, recipe, steps
        goal = channels(teacher.detector.graph)[teacher.detector.graph.head.name] if recipe.distill_features else ()
        self.model = self.student = Student(detector, goal).to(next(detector.parameters()).device)

    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        """The detection loss and the teacher's share, as one."""
        self.settle()
        goal, goal_features = self.teacher(images)
        student, features = observed(self.detector, images)
        loss, terms, _ = self.loss(student, self.truth(truth))
        share = falling(step, self.steps)
        more = {"taught": share * self.recipe.distill_weight * self._taught(student, goal)}
        if self.recipe.distill_features:
            levels = zip(self.student.projections, features, goal_features, strict=True)
            missed = torch.stack([feature_loss(project(own), its) for project, own, its in levels]).mean()
            more["features"] = share * self.recipe.distill_features * missed
        yield loss + torch.stack(list(more.values())).sum(), {**terms, **{k: v.detach() for k, v in more.items()}}

    def _taught(self, student: Predictions, teacher: Predictions) -> Tensor:
        pairs = branches(student, teacher)
        return torch.stack([taught(self.loss, own, goal, self.recipe.distill_temperature) for own, goal in pairs]).sum()


def falling(step: int, steps: int) -> float:
    """1 at the first step, :data:`LAST` at the last, a half cosine between them."""
    return LAST + (1 - LAST) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps - 1))))


def branches(student: Predictions, teacher: Predictions) -> list[tuple[Predictions, Predictions]]:
    """Who learns from whom where a head has two branches: many boxes per object from many, one from one."""
    many = tuple(p if p.helper is None else p.helper for p in (student, teacher))
    both = student.helper is not None and teacher.helper is not None
    return [(many[0], many[1]), *([(student, teacher)] if both else [])]


def confident(teacher: Predictions) -> Assignment:
    """The anchors where a teacher is sure of something (over :data:`LEAST`), with its highest score as their weight;
    ``box`` means nothing here."""
    score = teacher.scores.float().amax(-1)
    image, anchor = torch.nonzero(score > LEAST, as_tuple=True)
    return Assignment(image, anchor, torch.zeros_like(anchor), score[image, anchor])


def taught(loss: DetectionLoss, student: Predictions, teacher: Predictions, temperature: float) -> Tensor:
    """What the student says otherwise than its teacher, where that one is confident: as
    :meth:`DetectionLoss.distill`, and where the two code boxes in different ways the GIoU with the teacher's boxes in
    the place of side distributions."""
    sure = confident(teacher)
    value, _ = loss.distill(student, teacher, sure, temperature)
    if student.boxes.shape[-1] == teacher.boxes.shape[-1] > 4:
        return value
    own, goal = (decode_boxes(p)[sure.image, sure.anchor].float() for p in (student, teacher))
    return value + loss.iou * ((1 - giou(own, goal)) * sure.score).sum() / normaliser(sure)


def feature_loss(own: Tensor, goal: Tensor) -> Tensor:
    """Half the mean squared error of (N, C, H, W) features, each channel at mean 0 and deviation 1 over its batch: 1
    - their correlation.

    Scales of two networks' features say nothing of what they see (Cao et al., PKD, arXiv:2207.02039).
    """
    return 0.5 * (_normal(own) - _normal(goal)).square().mean()


def _normal(x: Tensor) -> Tensor:
    x = x.float()
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
    return (x - mean) / (variance + EPS).sqrt()
