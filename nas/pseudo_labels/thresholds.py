"""What a trained model finds in an image that is worth a label: views merged, a threshold per class, thresholds
chosen by the precision they give."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.data.dataset import DetectionDataset
from nas.data.images import BrokenImage
from nas.inference.backends import Backend
from nas.inference.box_fusion import MERGES
from nas.inference.boxes import areas, intersection, paired_iou
from nas.inference.nms import NEVER, Detections, nms
from nas.inference.preprocess import Preprocessor
from search_spaces.errors import InputError

IOU = 0.6
"""Overlap over which boxes of one class are one object."""
RIGHT = 0.5
"""IoU from which a box is right."""
LEFT_OUT = math.inf
"""The threshold of a class that is not labelled."""
LEAST = 0.05
"""The lowest threshold that is looked for."""


@dataclass(frozen=True)
class Finder:
    """A network that looks at images. ``merge``: they are seen mirrored, too, and both views become one (a key of
    ``nas.inference.box_fusion.MERGES``); None: one view."""

    backend: Backend
    merge: str | None = None

    def __call__(self, rgb: NDArray[np.uint8], least: float) -> Detections:
        """What is found in an image uint8 [H, W, 3] with a score of ``least`` or more, in its pixels, best first,
        each anchor as one class."""
        images, placement = Preprocessor(self.backend.image_size, self.backend.interpolation)(rgb)
        views = [self._seen(images, least)]
        if self.merge is not None:
            mirrored = self._seen(np.ascontiguousarray(images[..., ::-1]), least)
            boxes = mirrored.boxes.copy()
            boxes[:, [0, 2]] = images.shape[-1] - mirrored.boxes[:, [2, 0]]
            views = [MERGES[self.merge]([*views, Detections(boxes, mirrored.scores, mirrored.labels)], IOU)]
        found = views[0].to_image(placement, rgb.shape[1], rgb.shape[0])
        kept = ((found.boxes[:, 2:] - found.boxes[:, :2]) >= 1).all(1) & (found.scores >= least)
        return Detections(found.boxes[kept], found.scores[kept], found.labels[kept])

    def _seen(self, images: NDArray[np.float32], least: float) -> Detections:
        boxes, scores = self.backend.run(images)
        # of two views, half the score: their mean may still be enough
        threshold = float(np.nextafter(np.float32(least if self.merge is None else least / 2), np.float32(0)))
        overlap = NEVER if self.backend.end_to_end else IOU
        return nms(boxes[0], scores[0], score_threshold=threshold, iou_threshold=overlap, multi_label=False)


def thresholds_for(
    precision: float, finder: Finder, data: DetectionDataset, progress: Callable[[int, int, str], None]
) -> tuple[dict[str, float], dict[str, int]]:
    """Return for each class the lowest score that gives at least ``precision``, and the number of boxes behind it.

    A detection is right if it matches an object of its class at IoU :data:`RIGHT`. A class that never reaches the
    precision, or is not in the split, has :data:`LEFT_OUT`. Raises InputError if ``precision`` is not in (0, 1].
    """
    if not 0 < precision <= 1:
        raise InputError(f"precision {precision}", "a number over 0, at most 1")
    classes = finder.backend.classes
    label = np.array([data.classes.index(name) if name in data.classes else -1 for name in classes])
    verdicts: list[list[tuple[float, bool]]] = [[] for _ in classes]
    progress(0, len(data.samples), "")
    for i, sample in enumerate(data.samples):
        try:
            rgb, boxes, labels, crowd = data.load(i)
        except BrokenImage as error:
            data.problems.add("broken image", sample.path, f"{error.reason}, skipped")
            continue
        for own, score, right in judged(finder(rgb, LEAST), label, boxes, labels, crowd):
            verdicts[own].append((score, right))
        progress(i + 1, len(data.samples), "")
    chosen = dict(zip(classes, (lowest(v, precision) for v in verdicts), strict=True))
    return {name: t for name, (t, _) in chosen.items()}, {name: n for name, (_, n) in chosen.items()}


def judged(
    found: Detections,
    label: NDArray[np.int64],
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    crowd: NDArray[np.bool_],
) -> Iterator[tuple[int, float, bool]]:
    """Yield (class of the model, score, whether right) of every detection, best first; each object is found once.

    Detections inside of a crowd of their class are left out.

    Args:
        found: detections of one image.
        label: the data set's class of each class of the model, [K]; -1 for none.
        boxes: boxes of the objects, [N, 4], xyxy in pixels.
        labels: their classes, [N].
        crowd: whether each is a crowd, [N].
    """
    free = ~crowd
    for k in np.argsort(-found.scores, kind="stable"):
        own, box = int(found.labels[k]), found.boxes[k]
        mine = labels == label[own]
        overlap = np.where(mine & free, paired_iou(box, boxes), 0.0)
        if overlap.size and overlap.max() >= RIGHT:
            free[overlap.argmax()] = False
            yield own, float(found.scores[k]), True
            continue
        within = intersection(box, boxes)[mine & crowd] / areas(box)
        if not (within >= RIGHT).any():
            yield own, float(found.scores[k]), False


def lowest(verdicts: Sequence[tuple[float, bool]], precision: float) -> tuple[float, int]:
    """The lowest score such that of the boxes with it or more the share ``precision`` is right, and how many those
    are; (:data:`LEFT_OUT`, 0) if none is."""
    chosen, right = (LEFT_OUT, 0), 0
    ordered = sorted(verdicts, reverse=True)
    for count, (score, good) in enumerate(ordered, 1):
        right += good
        last_of_its_score = count == len(ordered) or ordered[count][0] < score
        if last_of_its_score and right >= precision * count:
            chosen = score, count
    return chosen
