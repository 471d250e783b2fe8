"""Writing COCO objects: the one place that knows their keys, for data sets, predictions and pseudo-labels alike
(cocodataset.org, format)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search_spaces.errors import InputError
from search_spaces.text import json_text


class CocoWriter:
    """Collects images with their boxes into one COCO object.

    A class has the category id index + 1. Annotation ids count from 1, because COCO's evaluators take a match with
    annotation 0 for no match.

    >>> writer = CocoWriter(["cat", "dog"])
    >>> writer.add("a.jpg", (640, 480), boxes=[[10, 20, 30, 60]], labels=[1])
    1
    >>> writer.content()["annotations"][0]["bbox"]
    [10.0, 20.0, 20.0, 40.0]
    """

    def __init__(self, classes: Sequence[str], info: Mapping[str, Any] | None = None) -> None:
        self._info = info
        self._categories = [{"id": i, "name": name} for i, name in enumerate(classes, 1)]
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(
        self,
        file_name: str,
        size: tuple[int, int],
        boxes: ArrayLike,
        labels: ArrayLike,
        *,
        id: int | None = None,
        crowd: ArrayLike | None = None,
        areas: ArrayLike | None = None,
        scores: ArrayLike | None = None,
    ) -> int:
        """Add one image and return its id.

        Args:
            file_name: what the reader looks for below its image folder.
            size: width and height in pixels.
            boxes: [N, 4] xyxy in pixels.
            labels: [N] class indices, from 0.
            id: of the image; by default images count from 1.
            crowd: [N] whether a box is a region to ignore; by default none is.
            areas: [N] in px²; by default those of the boxes.
            scores: [N] of a model, 0..1; by default annotations have none.

        Raises:
            InputError: a box, an area or a score is not finite.
        """
        image = len(self._images) + 1 if id is None else id
        corners = np.asarray(boxes, np.float64).reshape(-1, 4)
        xywh = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
        numbers = [xywh.prod(1, where=[False, False, True, True]) if areas is None else np.asarray(areas, np.float64)]
        numbers += [] if scores is None else [np.asarray(scores, np.float64)]
        if not all(np.isfinite(values).all() for values in (xywh, *numbers)):
            raise InputError(f"a box, area or score of {file_name} is not finite", "numbers")
        ignored = np.zeros(len(xywh), np.int64) if crowd is None else np.asarray(crowd).astype(np.int64)
        self._images.append({"id": image, "file_name": file_name, "width": size[0], "height": size[1]})
        self._annotate(image, xywh, np.asarray(labels, np.int64), ignored, *numbers)
        return image

    def _annotate(
        self,
        image: int,
        xywh: NDArray[np.float64],
        labels: NDArray[np.int64],
        crowd: NDArray[np.int64],
        areas: NDArray[np.float64],
        scores: NDArray[np.float64] | None = None,
    ) -> None:
        for i, (box, label, ignored, area) in enumerate(
            zip(xywh.tolist(), labels.tolist(), crowd.tolist(), areas.tolist(), strict=True)
        ):
            entry = {
                "id": len(self._annotations) + 1,
                "image_id": image,
                "category_id": label + 1,
                "bbox": box,
                "area": area,
                "iscrowd": ignored,
            }
            self._annotations.append(entry if scores is None else {**entry, "score": float(scores[i])})

    def content(self) -> dict[str, Any]:
        """Return the COCO object: info (where given), images, categories, annotations."""
        return {
            **({} if self._info is None else {"info": dict(self._info)}),
            "images": self._images,
            "categories": self._categories,
            "annotations": self._annotations,
        }

    def text(self) -> str:
        """Return the COCO object as JSON and a newline."""
        return json_text(self.content()) + "\n"
