"""Comparison of exported files with torch, in the runtime that will run them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from nas.inference.boxes import paired_iou
from nas.inference.layouts import Raw, to_raw
from nas.inference.nms import NEVER, Detections, Suppression, nms
from search_spaces.detector import Detector
from search_spaces.errors import InputError

if TYPE_CHECKING:
    from latency_db.core.profiler import InferenceSession

SAME_IOU = 0.999
"""Least IoU of equal detections."""
MOST_UNEQUAL = 0.02
"""Share of detections that may differ: a score or IoU that lies on a threshold is rounded to either side."""


def smooth_images(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Return smooth random images (count, 3, height, width) in 0..1; white noise would saturate the network."""
    coarse = torch.rand(count, 3, max(2, height // 8), max(2, width // 8), generator=generator)
    return nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")


def difference(
    session: InferenceSession,
    detector: Detector,
    layout: str,
    shape: tuple[int, int, int],
    suppression: Suppression | None = None,
    seed: int = 0,
) -> float:
    """Return the largest difference between a runtime and the detector in torch, which computes in float64.

    Scores are compared absolutely, boxes relative to the longer side, on smooth random images. Detections of a file
    with suppression are compared with those of :func:`nas.inference.nms.nms` on torch's outputs.

    Args:
        session: The file in its runtime.
        detector: The deployed detector.
        layout: Layout of the file's outputs.
        shape: Batch, height and width of the input.
        suppression: Settings of the suppression in the file.
        seed: Seed of the images.

    Raises:
        InputError: An output of either is not finite or has another shape, or too many detections differ.
    """
    batch, height, width = shape
    reference = copy.deepcopy(detector).cpu().double().eval()
    images = smooth_images(batch, height, width, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        wanted = [t.float().numpy() for t in reference.predict(images.double())]
    arrays = [np.asarray(array) for array in session(images.numpy())]
    boxes, scores = found = to_raw(layout, arrays, wanted[1].shape[-1], batch, "the exported file")
    if not all(np.isfinite(array).all() for array in (*found, *wanted)):
        raise InputError("outputs of the exported file or of torch that are not finite", "numbers")
    if suppression is None:
        side = max(height, width)
        return max(float(np.abs(boxes - wanted[0]).max()) / side, float(np.abs(scores - wanted[1]).max()))
    if detector.head.end_to_end:
        suppression = Suppression(**{**vars(suppression), "iou_threshold": NEVER})
    return detections_difference(found, (wanted[0], wanted[1]), suppression)


def detections_difference(found: Raw, dense: Raw, suppression: Suppression) -> float:
    """Return the largest difference of scores between suppressed detections and our suppression of dense outputs.

    Args:
        found: boxes (N, K, 4) and scores (N, K, C) of the file, suppressed.
        dense: boxes (N, A, 4) and scores (N, A, C) of all anchors.
        suppression: Settings of both.

    Raises:
        InputError: More than :data:`MOST_UNEQUAL` of the detections have no equal one.
    """
    worst, unequal, total = 0.0, 0, 0
    for wanted, got in pairs_of_detections(found, dense, suppression):
        matched = [equal for equal in _matches(wanted, got) if equal is not None]
        worst = max([worst, *(abs(float(wanted.scores[i] - got.scores[j])) for i, j in matched)])
        unequal += max(len(wanted), len(got)) - len(matched)
        total += max(len(wanted), len(got))
    if unequal > math.ceil(MOST_UNEQUAL * total):
        raise InputError(
            f"{unequal} of {total} detections that differ from the suppression of nas predict", "equal detections"
        )
    return worst


def pairs_of_detections(found: Raw, dense: Raw, suppression: Suppression) -> Iterator[tuple[Detections, Detections]]:
    """Yield our detections of dense outputs, and those of the file, for each image.

    ``found``: boxes (N, K, 4) and scores (N, K, C), suppressed; ``dense``: (N, A, 4) and (N, A, C).
    """
    settings = vars(suppression)
    for boxes, scores, all_boxes, all_scores in zip(*found, *dense, strict=True):
        yield nms(all_boxes, all_scores, **settings), nms(boxes, scores, **{**settings, "iou_threshold": NEVER})


def _matches(wanted: Detections, got: Detections) -> Iterator[tuple[int, int] | None]:
    """For each wanted detection the indices of it and of the equal one that is found, each used once."""
    free = set(range(len(got)))
    for i in range(len(wanted)):
        near = [j for j in sorted(free) if wanted.labels[i] == got.labels[j]]
        ious = paired_iou(np.repeat(wanted.boxes[i : i + 1], len(near), 0), got.boxes[near])
        same = [j for j, iou in zip(near, ious, strict=True) if iou >= SAME_IOU]
        if same:
            free.discard(same[0])
        yield (i, same[0]) if same else None
