"""The detection loss of YOLO-NAS (PP-YOLOE's, arXiv:2203.16250) and its distillation.

Notation:

    N, A, M, P  images, anchor points per image, ground-truth boxes, matched pairs (anchor point, box)
    z           class logits of an anchor point
    t_p         assigned score of pair p, the soft target in 0..1 (:mod:`nas.training.assigner`)
    w_p         weight of the box of pair p (1 unless labels carry weights)
    S           max(1, sum of t_p), the normaliser; over several processes a mean, see :func:`normaliser`
    d           distance of a box's side from the anchor point, in strides

The loss is

    L = c L_cls + 2.5 L_iou + 0.5 L_dfl

    L_cls = sum_{i, k} v_ik BCE(z_ik, q_ik) / S   varifocal loss (arXiv:2008.13367): q = t_p for the class of a matched
                                                  box, else 0; v = q where q > 0, else alpha sigmoid(z)^gamma
    L_iou = sum_p w_p t_p (1 - GIoU_p) / S        (arXiv:1902.09630)
    L_dfl = sum_p w_p t_p DFL_p / S               distribution focal loss of the four sides (arXiv:2006.04388)
"""

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
    """Ground truth of the N images of a batch in one flat list.

    Attributes:
        boxes: (M, 4) xyxy in pixels.
        labels: (M,) class indices.
        image_index: (M,) indices into the batch.
        weights: (M,) weights of the boxes in the loss; None is 1 for all. A box of weight 0 is not trained on, and
            anchor points inside it are no background.
        scores: if it is a list, the loss appends the sum of assigned scores (a mean over processes). Gradient
            accumulation weighs batches by it.
    """

    boxes: Tensor
    labels: Tensor
    image_index: Tensor
    weights: Tensor | None = None
    scores: list[Tensor] | None = None


@dataclass(frozen=True)
class DetectionLoss:
    """The detection loss for every head: weights of its terms, and alpha and gamma of the varifocal loss.

    Where a head predicts sides as numbers instead of distributions, L_dfl is the mean absolute error of the sides in
    strides. Heads with anchor boxes (priors) have no L_dfl. A head with an auxiliary head is trained as in YOLOv10
    (arXiv:2405.14458): the auxiliary head on many anchor points per box, the head itself on the best one.
    """

    classification: float = 1.0
    iou: float = 2.5
    dfl: float = 0.5
    alpha: float = 0.75
    gamma: float = 2.0

    def __call__(self, predictions: Predictions, truth: Truth) -> tuple[Tensor, Terms, Assignment]:
        """Return the loss (scalar), its weighted terms, and the assignment, which :meth:`assigned` and
        :meth:`distill` reuse."""
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
        """Return loss (scalar) and terms for a given assignment. ``boxes`` (N, A, 4): decoded boxes, if they have
        been computed."""
        norm = normaliser(matched)
        targets = torch.zeros_like(predictions.logits, dtype=torch.float32)
        targets[matched.image, matched.anchor, truth.labels[matched.box]] = matched.score
        terms = {
            "cls": self.classification
            * self._varifocal(predictions.log_odds.float(), targets, _anchor_weights(predictions, truth, matched))
            / norm,
            **self._box_terms(predictions, decode_boxes(predictions) if boxes is None else boxes, truth, matched, norm),
        }
        loss, values = torch.stack(list(terms.values())).sum(), {k: v.detach() for k, v in terms.items()}
        if predictions.auxiliary is None or matched.auxiliary is None:
            return loss, values
        added, auxiliary = self.assigned(predictions.auxiliary, truth, matched.auxiliary)
        return loss + added, {k: v + auxiliary[k] for k, v in values.items()}

    def distill(
        self, student: Predictions, teacher: Predictions, matched: Assignment, temperature: float = 1.0
    ) -> tuple[Tensor, Terms]:
        """Return the distillation loss (scalar) and its terms, at the anchor points of ``matched``.

        With temperature T, class probabilities q = sigmoid(z / T) and side distributions p = softmax(. / T):

            L = T^2 / S sum_p t_p [c sum_k KL(q_teacher || q_student) + 0.5 mean_sides KL(p_teacher || p_student)]

        The factor T^2 keeps the size of the gradients (Hinton et al., arXiv:1503.02531). The second divergence is
        left out where the heads code boxes in different ways. Other anchor points, a hundred times as many, are left
        out: there an undertrained teacher predicts noise.

        Args:
            student: predictions with gradients.
            teacher: predictions of the teacher at the same anchor points.
            matched: anchor points, and their scores t_p.
            temperature: T.
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
    """Return the weight (N, A) of each anchor point in the classification loss; None is 1 for all.

    It is the weight of the matched box, 0 for unmatched points inside a box of weight 0, else 1.
    """
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
    """Return S (scalar), the sum of assigned scores, at least 1.

    With several processes, S is the mean of their sums (at least 1 over the number of processes), so that the mean of
    their gradients is the gradient of the whole batch.
    """
    return at_least_one(processes.mean(matched.score.sum()))


def at_least_one(scores: Tensor) -> Tensor:
    """Return a mean over processes of sums of scores (any shape), clamped so that the sum over processes is at least
    1."""
    return scores.clamp(min=1.0 / processes.world_size())


def distribution_focal(logits: Tensor, sides: Tensor) -> Tensor:
    """Return the distribution focal loss (P,) of logits (P, 4, bins) for sides (P, 4) in strides, mean of the four.

    With l = floor(d), it is the cross-entropy -(l + 1 - d) log p_l - (d - l) log p_{l+1} (arXiv:2006.04388).
    """
    sides = sides.clamp(0, logits.shape[-1] - 1 - 0.01)
    left = sides.floor()
    log = logits.log_softmax(-1)
    lower, upper = (log.gather(-1, (left.long() + i)[..., None])[..., 0] for i in (0, 1))
    right_weight = sides - left
    return -(lower * (1 - right_weight) + upper * right_weight).mean(-1)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Return the generalised IoU (P,) of paired boxes (P, 4) xyxy, in -1..1 (Rezatofighi et al., arXiv:1902.09630):
    IoU - (hull - union) / hull, with the area of the smallest box around both as hull."""
    shared = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    return shared / union.clamp(min=1e-7) - (hull - union) / hull.clamp(min=1e-7)
