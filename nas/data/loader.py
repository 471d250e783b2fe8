"""Batches for training and evaluation, the same ones in every run and from any step on."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from nas.data.dataset import DetectionDataset
from nas.data.images import BrokenImage
from nas.data.mosaic import Image, compose
from nas.data.transforms import PAD, Augmentation, Placement, letterbox
from search_spaces.errors import InputError

AHEAD = 3
"""Batches prepared ahead per worker."""
MOST_BROKEN = 0.1
"""Share of images that may turn out broken before training stops: beyond that it is the disk or the path, not a
image."""
FEW_BROKEN = 3

SIDE_STEP = 32
"""Canvas sides of ``multi_scale`` are multiples of it, as networks want them (px)."""

_Item = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64], Placement, list[int]]
"""A canvas with its boxes, where the image lies, and the ids of the images on it, the first one's first."""


@dataclass(frozen=True, eq=False)
class Batch:
    """B images on S x S canvases with M objects in all (crowds left out).

    images uint8 [B, 3, S, S] RGB; boxes float32 [M, 4] xyxy in pixels of the canvas; labels int64 [M]; image_index
    int64 [M] in 0..B-1, ascending; sample_ids and placements: per image, to carry detections back to the data set
    (``placements[i].inverse``). ``partners``: ids of all other images that lie on the canvases (mosaic, mixup).
    """

    images: torch.Tensor
    boxes: torch.Tensor
    labels: torch.Tensor
    image_index: torch.Tensor
    sample_ids: tuple[int, ...]
    placements: tuple[Placement, ...]
    partners: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.sample_ids)

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The same batch with its tensors on ``device``; from pinned memory without waiting."""
        moved = [
            t.to(device, non_blocking=non_blocking) for t in (self.images, self.boxes, self.labels, self.image_index)
        ]
        return replace(self, images=moved[0], boxes=moved[1], labels=moved[2], image_index=moved[3])


class Loader:
    """``epoch(e)`` iterates over one pass; what it yields depends on (seed, e, position) only, not on the workers or
    on where it starts.

    ``workers`` threads prepare batches ahead of the consumer (OpenCV releases the interpreter's lock); 0 prepares
    them in the caller's thread. A image that turns out broken is reported once in ``dataset.problems``. With
    ``shuffle`` (training) another one takes its place; without (evaluation) an empty grey canvas does, so that every
    image keeps its place. Too many broken ones are an error. ``share`` (i, n): of every batch only the i-th of n
    equal parts, for one of n processes that train together. ``epochs``: of the whole training, for what ends before
    it does (``augmentation.close_mosaic``). ``accumulate``: batches of one step, which share one side where
    ``augmentation.multi_scale`` draws it.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        batch_size: int,
        image_size: int,
        augmentation: Augmentation = Augmentation.NONE,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        workers: int = 1,
        share: tuple[int, int] = (0, 1),
        epochs: int | None = None,
        accumulate: int = 1,
    ) -> None:
        if batch_size < 1 or image_size < 1 or workers < 0 or seed < 0:
            raise InputError(
                f"batch size {batch_size}, image size {image_size}, {workers} workers, seed {seed}",
                "1, 1, 0 and 0 at least",
            )
        if drop_last and len(dataset) < batch_size:
            raise InputError(
                f"{len(dataset)} images in {dataset.name}/{dataset.split}",
                f"a full batch of {batch_size}",
                "lower the batch size",
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.image_size = image_size
        self.augmentation = augmentation
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.workers = workers
        self.epochs = epochs
        self.accumulate = accumulate
        self.share, shares = share
        if batch_size % shares or not (drop_last or shares == 1):
            raise InputError(
                f"batches of {batch_size} in {shares} equal shares",
                f"a multiple of {shares}",
                "change the batch size or the processes",
            )
        self._local = batch_size // shares
        self._broken: set[int] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Batches per epoch."""
        count = len(self.dataset)
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def epoch(self, epoch: int = 0, start_step: int = 0, every: int = 1) -> Iterator[Batch]:
        """The batches of one pass, from ``start_step`` on, each or each ``every``-th: exactly those that a pass from
        0 would have given."""
        order = self._order(epoch)
        steps = range(start_step, len(self), every)
        if not self.workers:
            yield from (self._batch(epoch, order, step) for step in steps)
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="loader")
        pending: deque[Future[Batch]] = deque()
        try:
            for step in steps:
                pending.append(pool.submit(self._batch, epoch, order, step))
                if len(pending) > AHEAD * self.workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        count = len(self.dataset)
        return np.random.default_rng((self.seed, epoch)).permutation(count) if self.shuffle else np.arange(count)

    def _batch(self, epoch: int, order: NDArray[np.int64], step: int) -> Batch:
        first = step * self.batch_size + self.share * self._local
        positions = range(first, min(first + self._local, len(order)))
        side, augmentation = self._side(epoch, step), self._augmentation(epoch)
        items = [self._item(epoch, position, int(order[position]), side, augmentation) for position in positions]
        images = np.stack([item[0] for item in items]).transpose(0, 3, 1, 2)
        return Batch(
            torch.from_numpy(np.ascontiguousarray(images)),
            torch.from_numpy(np.concatenate([item[1] for item in items])),
            torch.from_numpy(np.concatenate([item[2] for item in items])),
            torch.from_numpy(np.repeat(np.arange(len(items)), [len(item[2]) for item in items])),
            tuple(item[4][0] for item in items),
            tuple(item[3] for item in items),
            tuple(id for item in items for id in item[4][1:]),
        )

    def _side(self, epoch: int, step: int) -> int:
        """Of the canvases of one step's batches, in every process the same."""
        low, high = self.augmentation.multi_scale
        if low == high == 1:
            return self.image_size
        first, last = (max(1, round(factor * self.image_size / SIDE_STEP)) for factor in (low, high))
        rng = np.random.default_rng(
            (self.seed, epoch, step // self.accumulate, SIDE_STEP)
        )  # four numbers: no image's generator
        return SIDE_STEP * int(rng.integers(first, last, endpoint=True))

    def _augmentation(self, epoch: int) -> Augmentation:
        if self.epochs is not None and epoch >= self.epochs - self.augmentation.close_mosaic:
            return replace(self.augmentation, mosaic=0.0, mixup=0.0)
        return self.augmentation

    def _item(self, epoch: int, position: int, index: int, side: int, augmentation: Augmentation) -> _Item:
        rng = np.random.default_rng((self.seed, epoch, position))
        used: list[int] = []
        first = self._image(index, rng, used)
        if first is None:
            sample = self.dataset.samples[index]
            canvas = np.full((side, side, 3), PAD, np.uint8)
            empty = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
            return canvas, *empty, letterbox(sample.width, sample.height, side), [sample.id]

        def another() -> Image:
            found = self._image(int(rng.integers(len(self.dataset))), rng, used)
            return found or Image(
                np.full((side, side, 3), PAD, np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
            )

        return *compose(first, another, side, augmentation, rng), used

    def _image(self, index: int, rng: np.random.Generator, used: list[int]) -> Image | None:
        """A image without its crowds, its id added to ``used``. Of a broken one another that is drawn, or, without
        ``shuffle``, None."""
        while True:
            try:
                rgb, boxes, labels, crowd = self.dataset.load(index)
            except BrokenImage as error:
                self._report(index, error)
                if not self.shuffle:
                    return None
                index = int(rng.integers(len(self.dataset)))  # ends: _report raises before all are broken
                continue
            used.append(self.dataset.samples[index].id)
            return Image(rgb, boxes[~crowd], labels[~crowd])

    def files(self, batch: Batch) -> list[str]:
        """Names of the images on a batch's canvases, those of ``sample_ids`` first."""
        paths = {sample.id: sample.path.name for sample in self.dataset.samples}
        return [paths[id] for id in dict.fromkeys((*batch.sample_ids, *batch.partners))]

    def _report(self, index: int, error: BrokenImage) -> None:
        """Name a broken image the first time it is met; an error once there are too many, in every thread that
        meets one."""
        with self._lock:
            new = index not in self._broken
            self._broken.add(index)
            count = len(self._broken)
        if new:
            outcome = "replaced by another" if self.shuffle else "left empty"
            self.dataset.problems.add("image broken while loading", error.path, f"{error.reason}, {outcome}")
        total = len(self.dataset)
        if count > max(FEW_BROKEN, MOST_BROKEN * total) or count == total:
            raise InputError(
                f"{count} of {total} images of {self.dataset.name}/{self.dataset.split} cannot be read, one is {error.path} ({error.reason})",
                f"at most {MOST_BROKEN:.0%}",
                "check the disk and the folder",
            )
