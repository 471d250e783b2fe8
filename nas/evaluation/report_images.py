"""Images of an evaluation, labelled objects beside detections: those with most errors, and a random choice."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from nas.data.images import BrokenImage
from nas.inference.draw import draw, fitted
from nas.inference.results import write_image

if TYPE_CHECKING:
    from nas.evaluation.report import EvaluationResult

RIGHT, WRONG, CROWD = (0, 158, 115), (213, 94, 0), (154, 163, 173)
"""RGB colours: Okabe and Ito's green and vermilion, and a grey for crowds and detections inside them."""
PANEL_PX = 480
"""Longest side of each half in pixels, the size at which the report shows it, so that tags are legible."""


@dataclass(frozen=True)
class Shown:
    """An image that was written.

    Args:
        path: The image file, relative to the report.
        worst: Whether the image was chosen for its errors, else at random.
        name: File name of the image in the data set.
        f1: F1 score of the image.
        missed: Number of missed objects.
        false: Number of false detections.
    """

    path: Path
    worst: bool
    name: str
    f1: float
    missed: int
    false: int


def remove_earlier(folder: Path) -> None:
    """Remove the images of the report in a folder; where there is no report, such files are somebody else's."""
    if (folder / "report.html").exists():
        for old in [*(folder / "images").glob("worst-*.jpg"), *(folder / "images").glob("random-*.jpg")]:
            old.unlink()


def write_images(folder: Path, evaluation: EvaluationResult, count: int, seed: int = 0) -> list[Shown]:
    """Write the ``count`` images with the lowest F1, then as many random others, as JPEG files in ``folder/images``.

    Those of an earlier report in the folder are removed. Images without errors are not among the first ones; of equal
    F1, those with more errors come first. Unreadable images are left out.
    """
    verdicts = evaluation.verdicts
    by_trouble = sorted(range(len(verdicts)), key=lambda i: (verdicts[i].f1, -verdicts[i].errors))
    worst = [i for i in by_trouble if verdicts[i].errors][:count]
    others = np.random.default_rng(seed).permutation([i for i in range(len(verdicts)) if i not in set(worst)])[:count]
    chosen = [(True, i) for i in worst] + [(False, int(i)) for i in others]
    shown = []
    remove_earlier(folder)
    for place, (bad, i) in enumerate(chosen, 1):
        sample, verdict = evaluation.dataset.samples[i], verdicts[i]
        try:
            drawn = side_by_side(evaluation, i)
        except (BrokenImage, cv2.error):
            continue
        stem = re.sub(r"[^\w.-]+", "_", sample.path.stem)[:60]
        path = Path("images") / f"{'worst' if bad else 'random'}-{place if bad else place - len(worst):02d}-{stem}.jpg"
        write_image(folder / path, drawn)
        false = int((~verdict.right & ~verdict.excused).sum())
        shown.append(Shown(path, bad, sample.path.name, verdict.f1, int((~verdict.met).sum()), false))
    return shown


def side_by_side(evaluation: EvaluationResult, index: int) -> NDArray[np.uint8]:
    """Return an RGB image, uint8 [H, W, 3]: labelled objects on the left, detections on the right.

    Missed objects and false detections are vermilion, crowds and detections inside them grey, all others green.
    """
    rgb, boxes, labels, crowd = evaluation.dataset.load(index)
    verdict, classes = evaluation.verdicts[index], evaluation.dataset.classes
    marked = [CROWD if c else RIGHT if met else WRONG for c, met in zip(crowd, verdict.met, strict=True)]
    judged = [
        RIGHT if right else CROWD if excused else WRONG
        for right, excused in zip(verdict.right, verdict.excused, strict=True)
    ]
    small, scale = fitted(rgb, PANEL_PX, enlarge=True)
    found = verdict.found
    left = draw(small, boxes * scale, np.full(len(boxes), np.nan), labels, classes, min_side=1, colours=marked)
    right = draw(small, found.boxes * scale, found.scores, found.labels, classes, min_side=1, colours=judged)
    gap = np.full((left.shape[0], 10, 3), 255, np.uint8)
    return np.concatenate([left, gap, right], 1)
