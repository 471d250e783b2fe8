"""Scenes: images with their objects, on which end-to-end latency is measured, and the outputs a trained detector has
on them.

The time of non-maximum suppression follows from how many boxes are over the threshold. Random inputs, or a network with
untrained weights, give far too many or none. So the outputs are made from the annotated objects: around each object
:data:`PER_OBJECT` anchors of a network that is suppressed, as many as the assigners of these detectors train for an
object, and one anchor of a network with one box per object. They are the same for every network of an image size.

How images are shrunk is a fact of the weights that are deployed, and of the time: averaging areas takes several times
as long as linear interpolation unless the side is a whole multiple. A scene says it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from latency_db.core.cpu import cache_dir
from nas.data.transforms import AREA, letterbox
from search_spaces.errors import InputError
from search_spaces.image_size import AnySize, ImageSize

if TYPE_CHECKING:
    from nas.data.dataset import DetectionDataset

IMAGES = 8
"""Images of a scene, spread evenly over the split."""
PER_OBJECT = 10
"""Anchors over the threshold per object before suppression."""
LEAST_SCORE, MOST_SCORE = 0.3, 0.95
BACKGROUND = 0.02
"""Largest score of all other anchors."""
JITTER = 0.04
"""Standard deviation of the sides of the boxes around an object, as a share of its side."""


@dataclass(frozen=True, eq=False)
class Scene:
    """Images uint8 [H, W, 3] in RGB, with the boxes float32 [K, 4] xyxy in pixels and labels int64 [K] of each;
    ``interpolation``: how they are shrunk, one of :data:`nas.data.transforms.INTERPOLATIONS`."""

    images: tuple[NDArray[np.uint8], ...]
    boxes: tuple[NDArray[np.float32], ...]
    labels: tuple[NDArray[np.int64], ...]
    interpolation: str = AREA

    @classmethod
    def of(cls, data: DetectionDataset, count: int = IMAGES) -> Scene:
        """Take images with objects from a split, evenly spread, shrunk as those of the split.

        Raises:
            InputError: No image of the split has an object.
        """
        found = [i for i, sample in enumerate(data.samples) if (~sample.crowd).any()]
        if not found:
            raise InputError(f"no object in the {data.split} images of {data.name}", "annotated images")
        chosen = [found[i] for i in np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)]
        loaded = [data.load(i) for i in chosen]
        return cls(
            tuple(rgb for rgb, *_ in loaded),
            tuple(boxes[~crowd] for _, boxes, _, crowd in loaded),
            tuple(labels[~crowd] for _, _, labels, crowd in loaded),
            data.interpolation,
        )

    def interpolated(self, how: str) -> Scene:
        """Return the scene for networks whose images are shrunk in another way."""
        return replace(self, interpolation=how)

    @property
    def id(self) -> str:
        """Return 12 hex digits over images, objects and interpolation."""
        digest = hashlib.sha256()
        arrays: list[NDArray[np.generic]] = [*self.images, *self.boxes, *self.labels]
        for array in arrays:
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        if self.interpolation != AREA:  # scenes of before had no other, and their measurements keep their key
            digest.update(self.interpolation.encode())
        return digest.hexdigest()[:12]

    def saved(self) -> Path:
        """Write the scene to this user's cache, once, and return the file."""
        path = cache_dir() / f"scene-{self.id}.npz"
        if not path.exists():
            arrays: dict[str, NDArray[np.generic]] = {}
            for i, (image, boxes, labels) in enumerate(zip(self.images, self.boxes, self.labels, strict=True)):
                arrays |= {f"image{i}": image, f"boxes{i}": boxes, f"labels{i}": labels}
            arrays["interpolation"] = np.array(self.interpolation)
            beside = path.with_name(f".{path.stem}.{os.getpid()}.npz")
            np.savez(beside, **arrays)  # type: ignore[arg-type]
            beside.replace(path)
        return path

    @classmethod
    def load(cls, path: Path) -> Scene:
        """Read a scene that :meth:`saved` wrote."""
        with np.load(path, allow_pickle=False) as file:
            count = len(file.files) // 3
            images, boxes, labels = (
                tuple(file[f"{kind}{i}"] for i in range(count)) for kind in ("image", "boxes", "labels")
            )
            return cls(images, boxes, labels, str(file["interpolation"]) if "interpolation" in file.files else AREA)

    def outputs(
        self, size: AnySize, anchors: int, classes: int, per_object: int = PER_OBJECT, seed: int = 0
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Return boxes [A, 4] on the canvas and scores [A, C] of each image, as of a trained detector.

        Args:
            size: Size of the canvas.
            anchors: Number of anchors A.
            classes: Number of classes C; labels are taken modulo C.
            per_object: Anchors over the threshold of each object.
            seed: Seed of places, sides and scores.
        """
        rng, size = np.random.default_rng(seed), ImageSize.of(size)
        pairs = zip(self.images, self.boxes, self.labels, strict=True)
        return [
            _dense(
                letterbox(rgb.shape[1], rgb.shape[0], size).boxes(boxes),
                labels % classes,
                (anchors, classes),
                per_object,
                size,
                rng,
            )
            for rgb, boxes, labels in pairs
        ]


def _dense(
    objects: NDArray[np.float32],
    labels: NDArray[np.int64],
    shape: tuple[int, int],
    per_object: int,
    size: ImageSize,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    anchors, classes = shape
    centre = rng.random((anchors, 2)) * (size.width, size.height)
    half = rng.random((anchors, 2)) * max(size) / 8 + 2
    boxes = np.concatenate([centre - half, centre + half], 1)
    scores = rng.random((anchors, classes)) * BACKGROUND
    near = np.repeat(np.arange(len(objects)), per_object)[:anchors]
    places = rng.permutation(anchors)[: len(near)]
    sides = objects[:, 2:] - objects[:, :2]
    boxes[places] = objects[near] + rng.normal(0, JITTER, (len(near), 4)) * np.concatenate([sides, sides], 1)[near]
    best = LEAST_SCORE + (MOST_SCORE - LEAST_SCORE) * rng.random(len(near)) ** 0.5
    scores[places, labels[near]] = best
    return boxes.astype(np.float32), scores.astype(np.float32)


def mean_objects(boxes: Sequence[NDArray[np.float32]]) -> float:
    """Return the mean number of objects per image; ``boxes``: [K, 4] of each image."""
    return float(np.mean([len(one) for one in boxes]))
