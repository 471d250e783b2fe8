"""Statistics of a split: classes, sizes and aspect ratios of boxes, sizes of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.data.dataset import DetectionDataset
from search_spaces.text import counted

SMALL, LARGE = 32**2, 96**2
"""px²: below is small, from there on large (cocodataset.org, detection-eval)."""
MOST_CLASSES = 30
"""Named in a line; all are in the JSON."""
MOST_SIZES = 5

QUANTILES = (0.05, 0.5, 0.95)
Spread = tuple[float, float, float]
"""The 5 % quantile, the median, the 95 % quantile."""


@dataclass(frozen=True)
class ClassCount:
    """How many boxes a class has, in how many images; ignored ones (crowd, difficult) do not count."""

    name: str
    boxes: int
    images: int


@dataclass(frozen=True)
class Statistics:
    """Of one split. ``boxes`` are those to learn and to find, ``ignored`` crowds and difficult ones, ``empty``
    images without any of the former.

    ``side_share``: square root of a box's area over its image's. ``aspect``: width over height. Spreads are None
    without a box. ``sizes``: (width, height, number) of the most frequent image sizes, of ``size_kinds``.
    """

    split: str
    images: int
    empty: int
    boxes: int
    ignored: int
    classes: tuple[ClassCount, ...]
    small: int
    medium: int
    large: int
    side_share: Spread | None
    aspect: Spread | None
    per_image: Spread
    sizes: tuple[tuple[int, int, int], ...]
    size_kinds: int

    @property
    def unused(self) -> list[str]:
        """Return the classes without a box."""
        return [c.name for c in self.classes if not c.boxes]

    @property
    def imbalance(self) -> float | None:
        """Return the boxes of the most frequent class over those of the rarest class that has any.

        None with fewer than two such classes.
        """
        counts = [c.boxes for c in self.classes if c.boxes]
        return max(counts) / min(counts) if len(counts) > 1 else None

    def lines(self) -> Iterator[str]:
        """Yield the numbers as lines for a person."""
        empty = f" ({self.empty} show nothing)" if self.empty and self.classes else ""
        ignored = f" ({self.ignored} more ignored: crowd or difficult)" if self.ignored else ""
        images, boxes = counted(self.images, "image"), counted(self.boxes, "box", "boxes")
        yield f"{self.split}: {images}{empty}, {boxes}{ignored}"
        ranked = sorted(self.classes, key=lambda c: -c.boxes)
        if self.boxes:
            yield (
                "  classes: "
                + some([f"{c.name}: {c.boxes} in {c.images}" for c in ranked if c.boxes], MOST_CLASSES)
                + " images"
            )
        if self.imbalance is not None:
            yield f"  balance: the most frequent class has {self.imbalance:.3g} times the boxes of the rarest"
        if self.unused and self.classes:
            yield f"  never used: {some(self.unused, MOST_CLASSES)}"
        if self.side_share and self.aspect:
            kinds = f"{self.small} small, {self.medium} medium, {self.large} large"
            yield f"  boxes: {kinds} (COCO: under 32², under 96², from 96² px on)"
            side, aspect = _spread(self.side_share), _spread(self.aspect)
            yield f"  side, as share of the image's: {side}; width over height: {aspect} (5 %, median, 95 %)"
            yield f"  boxes in an image: {_spread(self.per_image)}"
        sizes = ", ".join(f"{width}x{height} ({count})" for width, height, count in self.sizes)
        yield f"  image sizes: {sizes}" + (
            f" and {self.size_kinds - len(self.sizes)} more" if self.size_kinds > len(self.sizes) else ""
        )


def statistics(data: DetectionDataset) -> Statistics:
    """Compute the numbers of a split from its annotations and headers; nothing is decoded."""
    per_image = [int((~s.crowd).sum()) for s in data.samples]
    sizes = Counter((s.width, s.height) for s in data.samples)
    areas = _joined([s.areas[~s.crowd] for s in data.samples])
    spans = _joined([s.boxes[~s.crowd, 2:] - s.boxes[~s.crowd, :2] for s in data.samples], (0, 2))
    images = _joined([np.full(n, s.width * s.height) for s, n in zip(data.samples, per_image, strict=True)])
    return Statistics(
        data.split,
        len(data),
        per_image.count(0),
        sum(per_image),
        data.ignored,
        _class_counts(data),
        int((areas < SMALL).sum()),
        int(((areas >= SMALL) & (areas < LARGE)).sum()),
        int((areas >= LARGE).sum()),
        _quantiles(np.sqrt(spans.prod(1) / images)),
        _quantiles(spans[:, 0] / spans[:, 1]),
        _quantiles(per_image) or (0, 0, 0),
        tuple((width, height, count) for (width, height), count in sizes.most_common(MOST_SIZES)),
        len(sizes),
    )


def _class_counts(data: DetectionDataset) -> tuple[ClassCount, ...]:
    boxes, images = np.zeros(len(data.classes), int), np.zeros(len(data.classes), int)
    for sample in data.samples:
        labels = sample.labels[~sample.crowd]
        np.add.at(boxes, labels, 1)
        images[np.unique(labels)] += 1
    return tuple(ClassCount(name, int(b), int(p)) for name, b, p in zip(data.classes, boxes, images, strict=True))


def _joined(arrays: Sequence[NDArray[Any]], empty: tuple[int, ...] = (0,)) -> NDArray[Any]:
    return np.concatenate([np.zeros(empty), *arrays])


def _quantiles(values: ArrayLike) -> Spread | None:
    if not np.size(values):
        return None
    low, middle, high = np.quantile(np.asarray(values, float), QUANTILES).tolist()
    return low, middle, high


def _spread(spread: Spread) -> str:
    return " / ".join(f"{value:.2g}" if value < 100 else f"{value:.0f}" for value in spread)


def some(texts: Sequence[str], most: int) -> str:
    """Join the texts with commas; of many, the first ``most`` and the number of the others."""
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")
