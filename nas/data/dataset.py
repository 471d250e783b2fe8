"""Detection data sets in memory: images with boxes, independent of the format of their files."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.data.coco_writer import CocoWriter
from nas.data.images import read_image
from nas.data.problems import Problems
from nas.data.transforms import AREA
from search_spaces.errors import InputError
from search_spaces.text import brief

Loaded = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]

MAX_CLASSES = 100_000
"""Of one data set: five times those of the largest public ones (ImageNet-21k)."""

MAX_AREA = 1e12
"""px². A larger area in a file is no area, and float32 would hold it inexactly or not at all."""

ROUNDING_PX = 1.0
"""A box may reach this far over the edge before it counts as a defect: annotation tools round. It is clipped all the
same."""


@dataclass(frozen=True)
class Annotation:
    """One marked object as a file states it, unchecked: box xyxy in pixels, index of its class, area in px².

    ``crowd``: no single object to learn or to find, but a region that is ignored: COCO's *iscrowd*, VOC's
    *difficult*. Training leaves it out, and a detection there is neither right nor wrong. ``score``: how sure a model
    was that marked it; 1 for a person.
    """

    box: tuple[float, float, float, float]
    label: int
    crowd: bool = False
    area: float | None = None
    score: float = 1.0


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and its objects, checked: boxes float32 [N, 4] xyxy, pixels inside the image; labels int64 [N];
    crowd bool [N]; areas, scores float32 [N].

    ``areas`` (px²) is what COCO calls *area*: of the outline where the data set has outlines, else of the box. It
    decides small/medium/large.
    """

    id: int
    path: Path
    width: int
    height: int
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    areas: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)


def make_sample(
    id: int,
    path: Path,
    size: tuple[int, int],
    annotations: Sequence[Annotation],
    problems: Problems,
    where: object = None,
) -> Sample:
    """Check the annotations of one image and make its sample.

    A box without area inside the image is dropped; one that reaches out is clipped. Both are counted in ``problems``.

    Args:
        id: of the image within its split.
        path: of the image file.
        size: width and height in pixels.
        annotations: the objects as the file states them.
        problems: of the split.
        where: what messages name as the place; by default the image.
    """
    width, height = size
    where = path if where is None else where
    raw = np.array([a.box for a in annotations], np.float64).reshape(-1, 4)
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(raw).all(1)
        solid = _has_area(raw)
        clipped = np.clip(raw, 0, (width, height, width, height))
        inside = _has_area(clipped)
        reach = np.abs(clipped - raw).max(1, initial=0) > ROUNDING_PX
    keep = np.logical_and(finite & solid, inside)
    for kind, flaw, outcome in (
        ("box that is not finite", ~finite, "dropped"),
        ("box without area", finite & ~solid, "dropped"),
        ("box outside the image", finite & solid & ~inside, "dropped"),
        ("box reaching out of the image", keep & reach, "clipped"),
    ):
        if flaw.any():
            first = ", ".join(f"{value:g}" for value in raw[flaw.argmax()])
            problems.add(kind, where, f"{kind} ({first}) of {width}x{height} pixels, {outcome}", int(flaw.sum()))
    kept = [a for a, good in zip(annotations, keep, strict=True) if good]
    boxes = clipped[keep]
    spans = boxes[:, 2:] - boxes[:, :2]
    areas = [
        box_area if a.area is None else min(a.area, MAX_AREA) for a, box_area in zip(kept, spans.prod(1), strict=True)
    ]
    return Sample(
        id,
        path,
        width,
        height,
        _fixed(boxes, np.float32),
        _fixed([a.label for a in kept], np.int64),
        _fixed([a.crowd for a in kept], np.bool_),
        _fixed(areas, np.float32),
        _fixed([a.score for a in kept], np.float32),
    )


def _has_area(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each box xyxy has an area as float32, in which it is kept: a side of a billionth of a pixel has none."""
    kept = boxes.astype(np.float32)
    return np.asarray((kept[:, 2:] > kept[:, :2]).all(1))


def _fixed(values: ArrayLike, dtype: type[np.generic]) -> NDArray[Any]:
    array = np.array(values, dtype)
    array.flags.writeable = False
    return array


@dataclass
class _Cache:
    """Decoded images up to a number of bytes; the first come stay, since an epoch visits every image once and
    nothing is 'recent'."""

    limit: int
    used: int = 0
    items: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, index: int, rgb: NDArray[np.uint8]) -> None:
        with self.lock:
            if index not in self.items and self.used + rgb.nbytes <= self.limit:
                self.items[index] = rgb
                self.used += rgb.nbytes


class DetectionDataset:
    """Named, split, with ordered class names; ``load(i)`` decodes an image. ``cache_bytes`` keeps decoded images
    in memory up to that size. ``interpolation`` says how loaders shrink the images."""

    def __init__(
        self,
        name: str,
        split: str,
        classes: Iterable[str],
        samples: Iterable[Sample],
        problems: Problems | None = None,
        cache_bytes: int = 0,
        interpolation: str = AREA,
    ) -> None:
        self.name = name
        self.split = split
        self.classes = tuple(classes)
        self.samples = tuple(samples)
        self.problems = Problems() if problems is None else problems
        self._cache = _Cache(cache_bytes)
        self.interpolation = interpolation
        self._check()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": self._cache.limit}  # another process decodes for itself

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _cache=_Cache(state["_cache"]))

    def _check(self) -> None:
        what = f"{self.split} split of {self.name}"
        if len(self.classes) > MAX_CLASSES:
            raise InputError(f"the {what} has {len(self.classes)} classes", f"at most {MAX_CLASSES}")
        if len(set(self.classes)) != len(self.classes):
            twice = sorted(name for name, count in Counter(self.classes).items() if count > 1)
            raise InputError(f"the {what} names classes twice: {_some(twice)}", "every class once")
        if any(not name.strip() for name in self.classes):
            raise InputError(f"the {what} has a class without a name", "a name for every class")
        if wrong := [name for name in self.classes if not _is_unicode(name)]:
            raise InputError(f"the {what} has a class {brief(wrong[0])}", "class names of Unicode text")
        if not self.samples:
            lines = "; ".join(self.problems.lines())
            raise InputError(
                f"the {what} has no usable image" + (f" ({lines})" if lines else ""), "at least one readable image"
            )
        if len({s.id for s in self.samples}) != len(self.samples):
            raise InputError(f"the {what} has two images with one id", "every id once")
        for sample in self.samples:
            if len(sample) and not 0 <= sample.labels.min() <= sample.labels.max() < len(self.classes):
                raise InputError(
                    f"{sample.path}: label {sample.labels.max()} in the {what}", f"0..{len(self.classes) - 1}"
                )

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def boxes(self) -> int:
        """Return the number of annotated objects, crowds included."""
        return sum(len(s) for s in self.samples)

    @property
    def ignored(self) -> int:
        """Return the number of crowds and difficult objects, which are neither learnt nor to be found."""
        return sum(int(s.crowd.sum()) for s in self.samples)

    def remarks(self) -> list[str]:
        """Return one line per fact that is no defect but that the owner may not expect, such as ignored boxes."""
        ignored = [f"{self.ignored} of {self.boxes} boxes are ignored (crowd or difficult)"] if self.ignored else []
        return ignored + self.problems.notes

    def cached(self, cache_bytes: int) -> DetectionDataset:
        """Return the same data set, keeping decoded images in memory up to ``cache_bytes``."""
        how = self.interpolation
        return DetectionDataset(self.name, self.split, self.classes, self.samples, self.problems, cache_bytes, how)

    def interpolated(self, how: str) -> DetectionDataset:
        """Return the data set with images that are shrunk as ``how`` says (:data:`nas.data.transforms.INTERPOLATIONS`);
        itself if it is so already."""
        if how == self.interpolation:
            return self
        limit = self._cache.limit
        return DetectionDataset(self.name, self.split, self.classes, self.samples, self.problems, limit, how)

    def load(self, index: int) -> Loaded:
        """Decode an image. Returns RGB uint8 [H, W, 3], boxes float32 [N, 4] xyxy px, labels int64 [N], crowd bool [N].

        All arrays are read-only. Raises BrokenImage if the image cannot be read.
        """
        sample = self.samples[index]
        rgb = self._cache.items.get(index)
        if rgb is None:
            rgb = read_image(sample.path, (sample.width, sample.height))
            rgb.flags.writeable = False
            self._cache.put(index, rgb)
        return rgb, sample.boxes, sample.labels, sample.crowd

    def to_coco(self) -> dict[str, Any]:
        """Return this split as a COCO object. Category id = class index + 1; boxes xywh in pixels as checked."""
        return self.coco().content()

    def coco(self, names: Mapping[int, str] | None = None, numbers: Mapping[int, int] | None = None) -> CocoWriter:
        """Return this split in a :class:`nas.data.coco_writer.CocoWriter`.

        ``names``: image id -> file name; by default the name of its file. ``numbers``: image id -> id that is written;
        by default the same.
        """
        writer = CocoWriter(self.classes, {"description": f"{self.name} {self.split}"})
        for s in self.samples:
            name = s.path.name if names is None else names[s.id]
            writer.add(
                name,
                (s.width, s.height),
                s.boxes,
                s.labels,
                id=numbers[s.id] if numbers else s.id,
                crowd=s.crowd,
                areas=s.areas,
            )
        return writer

    @cached_property
    def fingerprint(self) -> str:
        """Return 16 hex digits over classes, file names, file sizes and annotations.

        The same content gives the same digits in any folder. Pixels enter by the size of their file only: hashing a
        data set of gigabytes would take longer than a search on ``digits``.
        """
        digest = hashlib.sha256(repr((self.classes, len(self.samples))).encode())
        for s in self.samples:
            size = s.path.stat().st_size if os.path.isfile(s.path) else -1
            digest.update(repr((s.id, s.path.name, size, s.width, s.height)).encode())
            for array in (s.boxes, s.labels, s.crowd):
                digest.update(array.tobytes())
        return digest.hexdigest()[:16]


def same_classes(train: Sequence[str], other: Sequence[str], split: str = "val") -> None:
    """Check that the splits train and ``split`` have the same classes.

    Raises InputError with the classes that only one of them has.
    """
    known_train, known_other = set(train), set(other)
    only_train = [c for c in train if c not in known_other]
    only_other = [c for c in other if c not in known_train]
    if only_train or only_other:
        parts = [
            f"{which} alone has {_some(names)}"
            for which, names in (("train", only_train), (split, only_other))
            if names
        ]
        raise InputError(f"the classes of train and {split} differ: {', '.join(parts)}", "the same classes in both")


def _some(names: Sequence[str]) -> str:
    return f"{[name[:80] for name in names[:10]]}" + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a single surrogate, which a JSON escape can write
        return False
    return True


def choose(count: int, limit: int | None) -> list[int]:
    """Choose at most ``limit`` of ``count`` images at random and return their indices in order, the same each time.

    The choice is random because files are often sorted by content. Raises InputError for a limit below 1.
    """
    if limit is None or limit >= count:
        return list(range(count))
    if limit < 1:
        raise InputError(f"a limit of {limit} images", "at least 1")
    return sorted(np.random.default_rng(0).choice(count, limit, replace=False).tolist())
