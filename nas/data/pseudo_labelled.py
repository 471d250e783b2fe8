"""Data sets of labelled and pseudo-labelled images, in which each box has a weight in the loss.

The weight of a box is packed into the upper 32 bits of its label by :meth:`MixedDataset.load` and unpacked by the
training task (:func:`unpack`). Transforms, loader and batches move labels with their boxes and thus need no change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nas.data.coco_reader import read_coco
from nas.data.dataset import DetectionDataset, Loaded, Sample
from nas.data.problems import Problems
from nas.data.source import DataPair
from search_spaces.errors import InputError

_BITS = 32


def pack(labels: NDArray[np.int64], weights: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return labels int64 [N] that carry a weight float32 [N] each: its 32 bits above those of the label."""
    return labels | (np.ascontiguousarray(weights, np.float32).view(np.int32).astype(np.int64) << _BITS)


def unpack(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return labels int64 (M,) and weights float32 (M,) of packed labels (M,)."""
    import torch

    return labels & ((1 << _BITS) - 1), (labels >> _BITS).to(torch.int32).view(torch.float32)


class MixedDataset(DetectionDataset):
    """A data set whose labels are packed; ``weights``: per sample those of its boxes, where they are not all 1.
    Crowds of such a sample are not left out: they are what a model was not sure of, boxes of weight 0."""

    def __init__(
        self,
        name: str,
        split: str,
        classes: Iterable[str],
        samples: Iterable[Sample],
        problems: Problems | None = None,
        cache_bytes: int = 0,
        weights: dict[int, NDArray[np.float32]] | None = None,
    ) -> None:
        super().__init__(name, split, classes, samples, problems, cache_bytes)
        self.weights = weights or {}

    def cached(self, cache_bytes: int) -> MixedDataset:
        """Return the same data set, keeping decoded images in memory up to ``cache_bytes``."""
        return MixedDataset(self.name, self.split, self.classes, self.samples, self.problems, cache_bytes, self.weights)

    def load(self, index: int) -> Loaded:
        """Decode an image as any data set does, with packed labels."""
        rgb, boxes, labels, crowd = super().load(index)
        weights = self.weights.get(self.samples[index].id)
        if weights is None:
            return rgb, boxes, pack(labels, np.ones(len(labels), np.float32)), crowd
        return rgb, boxes, pack(labels, weights), np.zeros_like(crowd)

    @cached_property
    def fingerprint(self) -> str:
        """Return the fingerprint of the data set and its weights."""
        digest = hashlib.sha256(super().fingerprint.encode())
        for id in sorted(self.weights):
            digest.update(id.to_bytes(8, "big") + self.weights[id].tobytes())
        return digest.hexdigest()[:16]


def with_pseudo(data: DataPair, path: Path, weight: float = 1.0, by_score: bool = False) -> tuple[DataPair, list[str]]:
    """Add the images of a file that ``nas pseudo-label`` wrote to the train split.

    Images that are in the data set already are left out, and so are images without a box of its classes. Classes go by
    name; boxes of other classes are left out. Returns the data set and lines about what was added and left out.

    Args:
        data: the labelled data set.
        path: of the pseudo-labels.
        weight: of their boxes in the loss, over 0 and at most 1; regions to ignore have weight 0.
        by_score: whether a box's weight is multiplied by its score.

    Raises:
        InputError: the weight is out of range, the file cannot be read, or no box is left.
    """
    if not 0 < weight <= 1:
        raise InputError(f"weight {weight} of pseudo-labels", "a number over 0, at most 1")
    found = read_coco(path, [path.parent], name=path.name, split="pseudo")
    index = {name: i for i, name in enumerate(data.classes)}
    label = np.array([index.get(name, -1) for name in found.classes])
    there = {s.path.resolve() for d in (data.train, data.val) for s in d.samples}
    new = [s for s in found.samples if s.path.resolve() not in there]
    kept = [s for s in (_chosen(s, label) for s in new) if (~s.crowd).any()]
    if not kept:
        raise InputError(
            f"{path} with no box of {list(data.classes)[:5]} in a new image",
            "pseudo-labels of these classes",
            "label other images",
        )
    first = 1 + max(s.id for s in data.train.samples)
    kept = [replace(s, id=first + i) for i, s in enumerate(kept)]
    weights = {s.id: np.where(s.crowd, 0, weight * (s.scores if by_score else 1)).astype(np.float32) for s in kept}
    d = data.train
    train = MixedDataset(d.name, d.split, d.classes, (*d.samples, *kept), d.problems, weights=weights)
    lines = [
        f"pseudo-labels: {sum(int((~s.crowd).sum()) for s in kept)} boxes in {len(kept)} images"
        f" beside the {len(d)} with labels"
    ]
    lines += _left_out(len(found) - len(new), "are in the data set already")
    lines += _left_out(len(new) - len(kept), "have no box of its classes")
    return replace(data, train=train), lines + [f"pseudo: {line}" for line in found.problems.lines()]


def _left_out(count: int, why: str) -> Sequence[str]:
    return [f"pseudo-labels: {count} images left out, they {why}"] if count else []


def _chosen(sample: Sample, label: NDArray[np.int64]) -> Sample:
    """The boxes of known classes, under their indices here."""
    own = label[sample.labels]
    keep = own >= 0
    return replace(
        sample,
        boxes=sample.boxes[keep],
        labels=own[keep],
        crowd=sample.crowd[keep],
        areas=sample.areas[keep],
        scores=sample.scores[keep],
    )
