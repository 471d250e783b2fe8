"""A trained detector as people use it: ``nas.load("S.onnx").predict("street.jpg")``. Files, arrays and data sets go
through the same steps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas.inference.backends import open_backend
from nas.inference.images import Image, Images, expand, pixels_of
from nas.inference.nms import EVALUATION, NEVER, SHOWN, Detections, Suppression, in_image
from nas.inference.preprocess import Preprocessor
from nas.inference.results import Result
from search_spaces.errors import InputError
from search_spaces.registry import unknown
from search_spaces.text import counted

if TYPE_CHECKING:
    from nas.data.dataset import DetectionDataset
    from nas.data.source import DataPair
    from nas.inference.coco_metrics import Metrics

BATCH = 8


def load(path: str | os.PathLike[str], device: str = "auto") -> Model:
    """A detector from trained weights (``.safetensors``) or an exported file (``.onnx``); ``device``: auto (a GPU
    where there is one), cpu, cuda."""
    return Model(Path(path), device)


class Model:
    """Reads, letterboxes, runs, suppresses: the same steps for :meth:`predict` and :meth:`evaluate`, which differ in
    the suppression only."""

    def __init__(self, path: Path, device: str = "auto") -> None:
        self.path = path
        self.backend = open_backend(path, device)
        self.preprocess = Preprocessor(self.backend.image_size, self.backend.interpolation)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the labels."""
        return self.backend.classes

    @property
    def runtime(self) -> str:
        """What it runs on: ``ONNX Runtime 1.20.0, CPU``."""
        return self.backend.runtime

    def __repr__(self) -> str:
        classes = counted(len(self.classes), "class", "classes")
        return f"<{self.path}: {classes} at {self.backend.image_size} px on {self.runtime}>"

    def predict(
        self,
        source: Image | Images,
        score: float = SHOWN.score_threshold,
        iou: float = SHOWN.iou_threshold,
        classes: Sequence[str] | None = None,
        max_detections: int = SHOWN.max_detections,
    ) -> Any:
        """Return what is found in images: a :class:`Result` of one image, a list of them of several.

        >>> model.predict("street.jpg").show()  # doctest: +SKIP
        >>> [len(result) for result in model.predict("photos/", score=0.5)]  # doctest: +SKIP

        Args:
            source: One image: a file, an array uint8 [H, W, 3] in RGB, or an image of Pillow. Several: a folder, a
                pattern such as ``"photos/*.jpg"``, or a list of anything that is one image, a folder or a pattern.
            score: Least score of a detection, 0..1.
            iou: IoU over which boxes of one class are one object, 0..1.
            classes: Names of the classes to look for; None for all.
            max_detections: Most detections per image.

        Raises:
            InputError: An image is missing, broken or of another type, a folder has none, or a class is unknown.
        """
        suppression = replace(
            SHOWN,
            score_threshold=score,
            iou_threshold=iou,
            max_detections=max_detections,
            max_candidates=max(SHOWN.max_candidates, max_detections),
        )
        labels = self.labels_of(classes)
        images, many = expand(source)
        found: list[Result] = []
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            pixels = [pixels_of(one) for one in part]
            paths = [one if isinstance(one, Path) else None for one in part]
            detections = self.detect(pixels, suppression, labels)
            found += [Result(*one) for one in zip(pixels, detections, repeat(self.classes), paths)]
        return found if many else found[0]

    def detect(
        self,
        images: Sequence[NDArray[np.uint8]],
        suppression: Suppression = EVALUATION,
        labels: Sequence[int] | None = None,
    ) -> list[Detections]:
        """Detections in images uint8 [H, W, 3] RGB, run as one batch. ``labels``: of these classes only, at most
        ``max_detections`` of them."""
        if not images:
            return []
        prepared = [self.preprocess(image) for image in images]
        boxes, scores = self.backend.run(np.concatenate([planes for planes, _ in prepared]))
        found = []
        for i, (image, (_, placement)) in enumerate(zip(images, prepared, strict=True)):
            all_ = in_image(
                boxes[i],
                scores[i],
                self.suppression(suppression, labels is None),
                placement,
                image.shape[1],
                image.shape[0],
            )
            found.append(all_ if labels is None else all_.of(labels, suppression.max_detections))
        return found

    def suppression(self, wanted: Suppression, limited: bool = True) -> Suppression:
        """``wanted`` as this network needs it: one that gives one box per object is not suppressed. Not ``limited``:
        all candidates may stay."""
        most = wanted.max_detections if limited else wanted.max_candidates
        return replace(
            wanted, iou_threshold=NEVER if self.backend.end_to_end else wanted.iou_threshold, max_detections=most
        )

    def labels_of(self, names: Sequence[str] | None) -> list[int] | None:
        """Return the indices of class names; None for None. Raises InputError for an unknown name."""
        for name in names or ():
            if name not in self.classes:
                raise unknown("class", name, self.classes)
        return None if names is None else [self.classes.index(name) for name in names]

    def evaluate(self, data: str | Path | DataPair | DetectionDataset, limit: int | None = None) -> Metrics:
        """COCO metrics on the val split of a data set (what ``--data`` takes, or one that is open); ``limit``: at
        most so many images."""
        from nas.data.dataset import DetectionDataset
        from nas.data.source import open_data
        from nas.inference.coco_metrics import evaluate
        from nas.inference.detect import detect_all

        if isinstance(data, (str, Path)):
            data = open_data(data, limit=limit)
        dataset = data if isinstance(data, DetectionDataset) else data.val
        return evaluate(dataset, detect_all(self, dataset))

    def check_classes(self, classes: Sequence[str]) -> None:
        """Check the classes of a data set. Raises InputError unless they are this model's, in their order."""
        if tuple(classes) != self.classes:
            raise InputError(f"data set with classes {list(classes)}", f"those of {self.path}: {list(self.classes)}")
