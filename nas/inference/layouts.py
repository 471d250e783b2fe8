"""Layouts of a file's outputs, and how each becomes boxes and scores of all anchors.

| layout | outputs |
|---|---|
| ``dense`` | ``boxes`` (N, A, 4) and ``scores`` (N, A, C) |
| ``yolo`` | ``output0`` (N, 4 + C, A): box centre, width and height in pixels of the input, then the scores |
| ``detections`` | ``boxes`` (N, K, 4), ``scores`` (N, K), ``labels`` (N, K) and ``count`` (N): the suppression is in the file |
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import InputError

OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "dense": ("boxes", "scores"),
    "yolo": ("output0",),
    "detections": ("boxes", "scores", "labels", "count"),
}
"""Layout -> names of the outputs in their order."""
MAX_DENSE = 1 << 28
"""Most scores that detections are spread to: images x detections x classes."""
SLACK = 0.01
"""What a score may be outside 0..1 by rounding in a lower precision."""

Raw = tuple[NDArray[np.float32], NDArray[np.float32]]
"""boxes [N, A, 4] xyxy in pixels of the canvas and scores [N, A, C] in 0..1, before suppression."""


def layout_of(outputs: Collection[str]) -> str | None:
    """Return the layout with these names of outputs, in any order; None if there is none."""
    return next((layout for layout, names in OUTPUTS.items() if {*names} == {*outputs}), None)


def to_raw(layout: str, arrays: Sequence[NDArray[np.generic]], classes: int, images: int, file: str) -> Raw:
    """Return the outputs of a file as boxes and scores of all anchors.

    Detections of a file with suppression become anchors with one class each; what is beyond ``count`` has score 0.

    Args:
        layout: One of :data:`OUTPUTS`.
        arrays: The outputs in the layout's order, with the shapes of the table above.
        classes: Number of classes C.
        images: Number of images N.
        file: Name of the file for errors.

    Raises:
        InputError: An output has another shape, a label is no class, or a score is outside 0..1.
    """
    if layout == "yolo":
        boxes, scores = _of_yolo(np.asarray(arrays[0], np.float32), classes, images, file)
    elif layout == "detections":
        boxes, scores = _of_detections(arrays, classes, images, file)
    else:
        boxes, scores = _of_dense(arrays, classes, images, file)
    low, high = (scores.min(), scores.max()) if scores.size else (0, 1)
    if low < -SLACK or high > 1 + SLACK:  # comparisons with NaN are false: suppression names it
        hint = "the file gives something else, such as values before the sigmoid"
        raise InputError(f"{file} gives scores from {low:.3g} to {high:.3g}", "0 to 1", hint)
    return boxes, scores


def _of_dense(arrays: Sequence[NDArray[np.generic]], classes: int, images: int, file: str) -> Raw:
    boxes, scores = (np.asarray(array, np.float32) for array in arrays)
    if boxes.ndim != 3 or boxes.shape != (images, boxes.shape[1], 4):
        raise InputError(f"{file} gives boxes of shape {boxes.shape}", f"({images}, anchors, 4)")
    if scores.shape != (expected := (images, boxes.shape[1], classes)):
        raise InputError(f"{file} gives scores of shape {scores.shape}", f"{expected}")
    return boxes, scores


def to_yolo(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return boxes [N, A, 4] xyxy and scores [N, A, C] as one array [N, 4 + C, A] of the layout ``yolo``."""
    low, high = boxes[..., :2], boxes[..., 2:]
    rows = np.concatenate([(low + high) / 2, high - low, scores], -1)
    return np.ascontiguousarray(rows.transpose(0, 2, 1))


def _of_yolo(rows: NDArray[np.float32], classes: int, images: int, file: str) -> Raw:
    if rows.ndim != 3 or rows.shape[:2] != (images, 4 + classes):
        raise InputError(f"{file} gives output0 of shape {rows.shape}", f"({images}, {4 + classes}, anchors)")
    columns = rows.transpose(0, 2, 1)
    centre, half = columns[..., :2], columns[..., 2:4] / 2
    return np.concatenate([centre - half, centre + half], -1), columns[..., 4:]


def _of_detections(arrays: Sequence[NDArray[np.generic]], classes: int, images: int, file: str) -> Raw:
    boxes, values = np.asarray(arrays[0], np.float32), np.asarray(arrays[1], np.float32)
    labels, count = np.asarray(arrays[2], np.int64), np.asarray(arrays[3], np.int64)
    shapes = [array.shape for array in (boxes, values, labels, count)]
    most = values.shape[-1]
    if shapes != [(images, most, 4), (images, most), (images, most), (images,)] or images * most * classes > MAX_DENSE:
        raise InputError(f"{file} gives detections of shapes {shapes}", "(N, K, 4), (N, K), (N, K), (N,)")
    found = np.arange(most)[None] < count[:, None]
    if (found & ((labels < 0) | (labels >= classes))).any():
        raise InputError(f"{file} gives a label that is no class", f"0 to {classes - 1}")
    scores = np.zeros((images, most, classes), np.float32)
    rows, columns = np.nonzero(found)
    scores[rows, columns, labels[rows, columns]] = values[rows, columns]
    return boxes, scores
