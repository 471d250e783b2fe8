"""Task-aligned label assignment (TOOD, Feng et al., arXiv:2108.07755), on flat lists of boxes instead of padded
batches."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

TOP_K, ALPHA, BETA, EPS = 13, 1.0, 6.0, 1e-9  # as PP-YOLOE and YOLO-NAS set them
# Pairwise tables are made for as many boxes at a time as keep this many entries (16 MiB each in float32): a crowded
# batch takes longer, not more memory.
MAX_PAIRS = 1 << 22


class Assignment(NamedTuple):
    """Which anchor answers for which ground-truth box: P matched pairs.

    ``image``, ``anchor``, ``box`` (P,) are indices (``box`` into the flat list of ground truth), ``score`` (P,) the
    soft target in 0..1. ``auxiliary``: the assignment of the head's helping branch, where it has one.
    """

    image: Tensor
    anchor: Tensor
    box: Tensor
    score: Tensor
    auxiliary: Assignment | None = None


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of (M, 1, 4) with (M or 1, A, 4), xyxy -> (M, A)."""
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
    """Match anchors to ground truth.

    ``scores`` (N, A, classes) and ``boxes`` (N, A, 4) are predictions; ``points`` (A, 2) anchor centres; ``truth``
    (M, 4), ``labels`` (M,) and ``image_index`` (M,) the ground truth of all N images in one list; all boxes xyxy in
    pixels. A pair's alignment is ``score^alpha * IoU^beta``; each box takes the ``top_k`` best anchors whose centre
    lies inside it; an anchor wanted twice goes to the box of higher IoU; the soft target is the alignment, scaled so
    that each box's best pair gets its highest IoU.
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

    # Anchors wanted by several boxes go to the highest IoU; of equals, to the first in the list.
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
    """The best pairs of each box of one chunk: (box, anchor, alignment, IoU), flat."""
    iou = pairwise_iou(truth[:, None].float(), boxes[image_index].float())
    inside = ((points > truth[:, None, :2]) & (points < truth[:, None, 2:])).all(-1)
    confidence = scores[image_index, :, labels].float()
    alignment = confidence.pow(ALPHA) * iou.pow(BETA)
    # Early in training every IoU^6 underflows to about 0; the centre test still has to pick anchors, so the rank is by
    # alignment with inside first.
    value, anchor = (alignment + EPS).masked_fill(~inside, 0.0).topk(min(top_k, points.shape[0]), dim=1)
    row, column = torch.nonzero(value > 0, as_tuple=True)
    anchor = anchor[row, column]
    return row + offset, anchor, alignment[row, anchor], iou[row, anchor]
