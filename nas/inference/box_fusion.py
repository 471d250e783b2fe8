"""Detections of one image from several views of it, as one list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nas.inference.boxes import paired_iou
from nas.inference.nms import Detections, nms

Merge = Callable[[Sequence[Detections], float], Detections]
"""Detections of each view, in the same pixels, and the IoU over which boxes of one class are one object -> one list,
best first."""


def suppressed(views: Sequence[Detections], iou_threshold: float) -> Detections:
    """Of boxes that are one object the best is kept."""
    every = concatenated(views)
    if not len(every):
        return every
    scores = np.zeros((len(every), int(every.labels.max()) + 1), np.float32)
    scores[np.arange(len(every)), every.labels] = every.scores
    return nms(
        every.boxes,
        scores,
        score_threshold=0.0,
        iou_threshold=iou_threshold,
        max_candidates=len(every),
        multi_label=False,
    )


def weighted(views: Sequence[Detections], iou_threshold: float) -> Detections:
    """Boxes that are one object become their mean, weighted by score; its score is their mean, less by the share of
    views that do not see it.

    Weighted boxes fusion (Solovyev et al., arXiv:1910.13302).
    """
    every = concatenated(views)
    groups: list[list[int]] = []
    fused = np.zeros((0, 4), np.float32)
    for k, (box, label) in enumerate(zip(every.boxes, every.labels, strict=True)):
        same = np.array([every.labels[group[0]] == label for group in groups], bool)
        overlap = np.where(same, paired_iou(box, fused), 0.0)
        if not overlap.size or overlap.max() <= iou_threshold:
            groups.append([k])
            fused = np.concatenate([fused, box[None]])
            continue
        best = int(overlap.argmax())
        groups[best].append(k)
        fused[best] = np.average(every.boxes[groups[best]], axis=0, weights=every.scores[groups[best]])
    scores = np.array([every.scores[g].mean() * min(len(g), len(views)) / len(views) for g in groups], np.float32)
    order = np.argsort(-scores, kind="stable")
    return Detections(fused[order], scores[order], every.labels[[g[0] for g in groups]][order])


MERGES: Mapping[str, Merge] = {"nms": suppressed, "weighted": weighted}


def concatenated(views: Sequence[Detections]) -> Detections:
    """All of them, best first."""
    boxes, scores, labels = (
        np.concatenate([getattr(v, name) for v in views]) for name in ("boxes", "scores", "labels")
    )
    order = np.argsort(-scores, kind="stable")
    return Detections(boxes[order], scores[order], labels[order])
