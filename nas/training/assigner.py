"""Task-aligned label assignment (TOOD, Feng et al., arXiv:2108.07755), on flat lists of boxes instead of padded
batches.

Notation, for anchor point a and ground-truth box b with class k_b:

    s_ab = score of class k_b at a          u_ab = IoU of the predicted box at a with b
    m_ab = s_ab^ALPHA u_ab^BETA             alignment

1. Each box takes the TOP_K points of highest alignment among those whose centre lies inside it.
2. A point that several boxes took goes to the box of highest IoU among these; of equal IoUs, to the first in the list.
3. The soft target is t_ab = m_ab / max_a m_ab * max_a u_ab, with the maxima over the points of box b.

Difference to other implementations: in step 2, PP-YOLOE and YOLO-NAS (super-gradients) give a contested point to the
box of highest IoU among all boxes of the image, ultralytics to that among all boxes around the point, even if that box
did not take the point. Here only boxes that took it are considered. In crowded batches 1.4 % of the positives differ.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

TOP_K, ALPHA, BETA, EPS = 13, 1.0, 6.0, 1e-9  # the values of PP-YOLOE and YOLO-NAS
# Pairwise tables are made for as many boxes at a time as keep this many entries (16 MiB each in float32): a crowded
# batch takes longer, not more memory.
MAX_PAIRS = 1 << 22


class Assignment(NamedTuple):
    """P matched pairs of an anchor point and a ground-truth box.

    Attributes:
        image: (P,) index of the image.
        anchor: (P,) index of the anchor point.
        box: (P,) index into the flat list of ground truth.
        score: (P,) soft target t in 0..1.
        auxiliary: assignment of the auxiliary head, where there is one.
    """

    image: Tensor
    anchor: Tensor
    box: Tensor
    score: Tensor
    auxiliary: Assignment | None = None


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU (M, A) of boxes (M, 1, 4) with boxes (M or 1, A, 4), xyxy."""
    size = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp_(min=0)
    shared = size[..., 0] * size[..., 1]
    area_a, area_b = ((t[..., 2] - t[..., 0]) * (t[..., 3] - t[..., 1]) for t in (a, b))
    return shared / (area_a + area_b - shared).clamp_(min=EPS)


@torch.no_grad()
def assign(
    scores: Tensor,
    boxes: Tensor,
    points: Tensor,
    truth: Tensor,
    labels: Tensor,
    image_index: Tensor,
    top_k: int = TOP_K,
) -> Assignment:
    """Match anchor points to ground truth (procedure: see the module).

    Args:
        scores: (N, A, classes) predicted class scores in 0..1.
        boxes: (N, A, 4) predicted boxes, xyxy in pixels.
        points: (A, 2) anchor points x, y in pixels.
        truth: (M, 4) ground-truth boxes of all N images, xyxy in pixels.
        labels: (M,) their classes.
        image_index: (M,) their images.
        top_k: points per box.
    """
    count = points.shape[0]
    chunk = max(1, MAX_PAIRS // max(1, count))
    found = [
        _candidates(
            scores, boxes, points, truth[i : i + chunk], labels[i : i + chunk], image_index[i : i + chunk], i, top_k
        )
        for i in range(0, len(truth), chunk)
    ]
    if not found:
        empty = torch.zeros(0, dtype=torch.long, device=points.device)
        return Assignment(empty, empty, empty, scores.new_zeros(0))
    box, anchor, alignment, iou = (torch.cat(parts) for parts in zip(*found, strict=True))
    image = image_index[box]

    # Step 2: contested points go to the highest IoU; of equal ones, to the first in the list.
    place = image * count + anchor
    best = iou.new_zeros(scores.shape[0] * count).scatter_reduce_(0, place, iou, "amax")
    order = torch.arange(len(place), device=place.device)
    first = torch.full((scores.shape[0] * count,), len(place), device=place.device).scatter_reduce_(
        0, place, torch.where(iou >= best[place], order, len(place)), "amin"
    )
    kept = first[place] == order
    box, anchor, image, alignment, iou = (t[kept] for t in (box, anchor, image, alignment, iou))

    top = alignment.new_zeros(len(truth)).scatter_reduce_(0, box, alignment, "amax")
    top_iou = iou.new_zeros(len(truth)).scatter_reduce_(0, box, iou, "amax")
    return Assignment(image, anchor, box, alignment / (top[box] + EPS) * top_iou[box])


def _candidates(
    scores: Tensor,
    boxes: Tensor,
    points: Tensor,
    truth: Tensor,
    labels: Tensor,
    image_index: Tensor,
    offset: int,
    top_k: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the best pairs of each box of one chunk: box, anchor, alignment and IoU, each (P,)."""
    iou = pairwise_iou(truth[:, None].float(), boxes[image_index].float())
    inside = ((points > truth[:, None, :2]) & (points < truth[:, None, 2:])).all(-1)
    confidence = scores[image_index, :, labels].float()
    alignment = confidence.pow(ALPHA) * iou.pow(BETA)
    # Early in training every IoU^6 underflows to about 0. Points inside the box must still rank first.
    value, anchor = (alignment + EPS).masked_fill(~inside, 0.0).topk(min(top_k, points.shape[0]), dim=1)
    row, column = torch.nonzero(value > 0, as_tuple=True)
    anchor = anchor[row, column]
    return row + offset, anchor, alignment[row, anchor], iou[row, anchor]
