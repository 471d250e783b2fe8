"""The detection loss of YOLO-NAS (PP-YOLOE's, arXiv:2203.16250): varifocal classification, GIoU, distribution focal
loss; and its distillation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.core import distributed as processes
from nas.training.assigner import TOP_K, Assignment, assign
from search_spaces.heads.base import Predictions, decode_boxes

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Truth:
    """Ground truth of a batch in one flat list: ``boxes`` (M, 4) xyxy in pixels, ``labels`` (M,), ``image_index``
    (M,) into the batch.

    ``weights`` (M,): of each box in the loss; None is 1 for all. A box of weight 0 is not learnt, and what lies in it
    is not taken for background either. ``scores``: where there is a list, the loss adds the sum of assigned scores to
    it (a mean over processes): what it is divided by, except that that is at least 1 (:func:`at_least_one`). Gradient
    accumulation weighs batches by it.
    """

    boxes: Tensor
    labels: Tensor
    image_index: Tensor
    weights: Tensor | None = None
    scores: list[Tensor] | None = None


@dataclass(frozen=True)
class DetectionLoss:
    """Weights of the three terms; varifocal ``alpha`` and ``gamma`` (arXiv:2008.13367).

    One loss for every head. Where sides are predicted themselves and not as distributions, the third term is the
    error of the sides in strides; relative to priors there is none. A head with a helping branch is trained as
    YOLOv10 (arXiv:2405.14458): the auxiliary on many anchors per box, itself on the best one.
    """

    classification: float = 1.0
    iou: float = 2.5
    dfl: float = 0.5
    alpha: float = 0.75
    gamma: float = 2.0

    def __call__(self, predictions: Predictions, truth: Truth) -> tuple[Tensor, Terms, Assignment]:
        """Loss (scalar), its weighted terms, and the assignment, which :meth:`assigned` and :meth:`distill` re-use."""
        boxes = decode_boxes(predictions)
        matched = _match(predictions, boxes, truth, TOP_K if predictions.auxiliary is None else 1)
        if predictions.auxiliary is not None:
            matched = matched._replace(
                auxiliary=_match(predictions.auxiliary, decode_boxes(predictions.auxiliary), truth, TOP_K)
            )
        if truth.scores is not None:
            truth.scores.append(processes.mean(matched.score.sum()))
        loss, terms = self.assigned(predictions, truth, matched, boxes)
        return loss, terms, matched

    def assigned(
        self, predictions: Predictions, truth: Truth, matched: Assignment, boxes: Tensor | None = None
    ) -> tuple[Tensor, Terms]:
        """Loss and terms for an assignment made before; all terms are divided by the sum of assigned scores (>= 1).
        ``boxes``: decoded, if at hand."""
        norm = normaliser(matched)
        targets = torch.zeros_like(predictions.logits, dtype=torch.float32)
        targets[matched.image, matched.anchor, truth.labels[matched.box]] = matched.score
        terms = {
            "cls": self.classification
            * self._varifocal(predictions.log_odds.float(), targets, _anchor_weights(predictions, truth, matched))
            / norm,
            **self._box_terms(predictions, decode_boxes(predictions) if boxes is None else boxes, truth, matched, norm),
        }
        loss, said = torch.stack(list(terms.values())).sum(), {k: v.detach() for k, v in terms.items()}
        if predictions.auxiliary is None or matched.auxiliary is None:
            return loss, said
        more, helped = self.assigned(predictions.auxiliary, truth, matched.auxiliary)
        return loss + more, {k: v + helped[k] for k, v in said.items()}

    def distill(
        self, student: Predictions, teacher: Predictions, matched: Assignment, temperature: float = 1.0
    ) -> tuple[Tensor, Terms]:
        """What the teacher knows beyond the labels: its class probabilities and side distributions, at the anchors of
        ``matched``.

        Kullback-Leibler divergences (Bernoulli per class, categorical per side), weighted by the assigned score and
        normalised like the loss. Elsewhere a young teacher has nothing to say but noise, and there are a hundred
        times more such anchors. ``temperature`` divides the logits of both, and the terms are multiplied by its
        square, so that gradients keep their size (Hinton et al., arXiv:1503.02531).
        """
        norm = normaliser(matched) / temperature**2
        own, goal = (p.log_odds[matched.image, matched.anchor].float() / temperature for p in (student, teacher))
        probabilities = goal.detach().sigmoid()
        classes = F.binary_cross_entropy_with_logits(own, probabilities, reduction="none") - (
            torch.special.entr(probabilities) + torch.special.entr(1 - probabilities)
        )
        terms = {"cls": self.classification * (classes.sum(-1) * matched.score).sum() / norm}
        if student.boxes.shape[-1] == teacher.boxes.shape[-1] > 4:  # two heads of one space may code boxes differently
            coded = (p.boxes[matched.image, matched.anchor].float() / temperature for p in (student, teacher))
            own_sides, goal_sides = (sides.unflatten(1, (4, -1)) for sides in coded)
            sides = (
                F.kl_div(own_sides.log_softmax(-1), goal_sides.detach().softmax(-1), reduction="none").sum(-1).mean(-1)
            )
            terms["dfl"] = self.dfl * (sides * matched.score).sum() / norm
        return torch.stack(list(terms.values())).sum(), {k: v.detach() for k, v in terms.items()}

    def _varifocal(self, logits: Tensor, targets: Tensor, anchors: Tensor | None) -> Tensor:
        with torch.no_grad():
            weight = torch.where(targets > 0, targets, self.alpha * logits.sigmoid().pow(self.gamma))
            if anchors is not None:
                weight = weight * anchors[..., None]
        return (F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * weight).sum()

    def _box_terms(
        self, predictions: Predictions, boxes: Tensor, truth: Truth, matched: Assignment, norm: Tensor
    ) -> dict[str, Tensor]:
        goal = truth.boxes[matched.box].float()
        own = boxes[matched.image, matched.anchor].float()
        strides, points = predictions.strides[matched.anchor], predictions.points[matched.anchor]
        score = matched.score if truth.weights is None else matched.score * truth.weights[matched.box]
        terms = {"iou": self.iou * ((1 - giou(own, goal)) * score).sum() / norm}
        if predictions.priors is None:
            coded = predictions.boxes[matched.image, matched.anchor].float().unflatten(1, (4, -1))
            sides = torch.cat([points - goal[:, :2], goal[:, 2:] - points], 1) / strides
            missed = distribution_focal(coded, sides) if coded.shape[-1] > 1 else (coded[..., 0] - sides).abs().mean(-1)
            terms["dfl"] = self.dfl * (missed * score).sum() / norm
        return terms


def _match(predictions: Predictions, boxes: Tensor, truth: Truth, top_k: int) -> Assignment:
    scores = predictions.scores.detach()
    if truth.weights is None:
        return assign(scores, boxes.detach(), predictions.points, truth.boxes, truth.labels, truth.image_index, top_k)
    learnt = torch.nonzero(truth.weights > 0)[:, 0]
    truth_boxes, labels, image_index = (t[learnt] for t in (truth.boxes, truth.labels, truth.image_index))
    matched = assign(scores, boxes.detach(), predictions.points, truth_boxes, labels, image_index, top_k)
    return matched._replace(box=learnt[matched.box])


@torch.no_grad()
def _anchor_weights(predictions: Predictions, truth: Truth, matched: Assignment) -> Tensor | None:
    """(N, A): of each anchor in the classification loss: its box's weight, 0 for others within a box that is not
    learnt, else 1; None is 1 for all."""
    if truth.weights is None:
        return None
    count, points = predictions.logits.shape[0], predictions.points
    boxes, image = (t[truth.weights <= 0] for t in (truth.boxes, truth.image_index))
    inside = ((points > boxes[:, None, :2]) & (points < boxes[:, None, 2:])).all(-1)
    covered = inside.new_zeros((count, len(points)), dtype=torch.float32).index_add_(0, image, inside.float())
    weights = (covered == 0).float()
    weights[matched.image, matched.anchor] = truth.weights[matched.box].float()
    return weights


def normaliser(matched: Assignment) -> Tensor:
    """The sum of assigned scores (>= 1); of several processes their mean, so that the mean of their gradients is that
    of the whole batch."""
    return at_least_one(processes.mean(matched.score.sum()))


def at_least_one(scores: Tensor) -> Tensor:
    """A mean over processes of sums of scores, so large that their sum is 1 at least."""
    return scores.clamp(min=1.0 / processes.world_size())


def distribution_focal(logits: Tensor, sides: Tensor) -> Tensor:
    """(P, 4, bins) and sides (P, 4) in strides -> (P,): cross-entropy on the two bins around each side, mean of the
    four (arXiv:2006.04388)."""
    sides = sides.clamp(0, logits.shape[-1] - 1 - 0.01)
    left = sides.floor()
    log = logits.log_softmax(-1)
    lower, upper = (log.gather(-1, (left.long() + i)[..., None])[..., 0] for i in (0, 1))
    right_weight = sides - left
    return -(lower * (1 - right_weight) + upper * right_weight).mean(-1)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of paired boxes (P, 4) xyxy, in -1..1 (Rezatofighi et al., arXiv:1902.09630)."""
    shared = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    return shared / union.clamp(min=1e-7) - (hull - union) / hull.clamp(min=1e-7)
