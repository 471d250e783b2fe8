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
from nas.data.transforms import LINEAR, PAD, Augmentation, Placement, letterbox
from search_spaces.errors import InputError
from search_spaces.image_size import ImageSize, SizeField

AHEAD = 3
"""Batches prepared ahead per worker."""
MOST_BROKEN = 0.1
"""Share of images that may turn out broken before training stops: beyond that it is the disk or the path, not a
image."""
FEW_BROKEN = 3

SIDE_STEP = 32
"""Sides of the canvases of ``multi_scale`` are multiples of it, as networks want them (px)."""

_Item = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64], Placement, list[int]]
"""A canvas with its boxes, where the image lies, and the ids of the images on it, the first one's first."""


@dataclass(frozen=True, eq=False)
class Batch:
    """B images on canvases of one size with M objects in all (crowds left out).

    images uint8 [B, 3, H, W] RGB; boxes float32 [M, 4] xyxy in pixels of the canvas; labels int64 [M]; image_index
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
        """Return the same batch with its tensors on ``device``; a copy from pinned memory does not wait."""
        moved = [
            t.to(device, non_blocking=non_blocking) for t in (self.images, self.boxes, self.labels, self.image_index)
        ]
        return replace(self, images=moved[0], boxes=moved[1], labels=moved[2], image_index=moved[3])


@dataclass(frozen=True)
class LoaderConfig:
    """How a :class:`Loader` makes batches of a data set.

    Attributes:
        batch_size: images in a batch, over all processes.
        image_size: of the canvases.
        augmentation: random changes of images and boxes; without any, images are letterboxed.
        seed: of order and augmentation; at least 0.
        shuffle: random order, and another image in the place of a broken one (training). Otherwise images come in the
            order of the data set and an empty grey canvas takes the place of a broken one (evaluation).
        drop_last: leave out the last batch of an epoch where it is not full.
        workers: threads that prepare batches ahead (OpenCV releases the interpreter's lock); 0: the caller's thread.
        share: (i, n): of every batch only the i-th of n equal parts, for one of n processes that train together.
        epochs: length of the whole training, which ``augmentation.close_mosaic`` counts back from.
        accumulate: batches of one optimizer step; they share the size that is drawn of ``image_sizes`` and by
            ``augmentation.multi_scale``.
        image_sizes: sizes of which each optimizer step draws one, with equal probability; none: always ``image_size``.

    Raises InputError if a number is out of range or the batch cannot be divided into equal shares.
    """

    batch_size: int
    image_size: SizeField = SizeField()
    augmentation: Augmentation = Augmentation.NONE
    seed: int = 0
    shuffle: bool = False
    drop_last: bool = False
    workers: int = 1
    share: tuple[int, int] = (0, 1)
    epochs: int | None = None
    accumulate: int = 1
    image_sizes: tuple[ImageSize, ...] = ()

    def __post_init__(self) -> None:
        if self.batch_size < 1 or min(self.image_size) < 1 or self.workers < 0 or self.seed < 0:
            raise InputError(
                f"batch size {self.batch_size}, image size {self.image_size}, {self.workers} workers, seed {self.seed}",
                "1, 1, 0 and 0 at least",
            )
        shares = self.share[1]
        if self.batch_size % shares or not (self.drop_last or shares == 1):
            raise InputError(
                f"batches of {self.batch_size} in {shares} equal shares",
                f"a multiple of {shares}",
                "change the batch size or the processes",
            )


class Loader:
    """Iterates over a data set in batches; ``epoch(e)`` is one pass.

    What a pass yields depends on (seed, epoch, position) only: not on the number of workers, and not on the step that
    it starts at. A broken image is reported once in ``dataset.problems``.

    Raises InputError if no batch is full and ``drop_last`` is set; while loading, if more than :data:`MOST_BROKEN`
    of the images are broken.
    """

    def __init__(self, dataset: DetectionDataset, config: LoaderConfig) -> None:
        if config.drop_last and len(dataset) < config.batch_size:
            raise InputError(
                f"{len(dataset)} images in {dataset.name}/{dataset.split}",
                f"a full batch of {config.batch_size}",
                "lower the batch size",
            )
        self.dataset = dataset
        self.config = config
        self._broken: set[int] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Batches per epoch."""
        count = len(self.dataset)
        return count // self.config.batch_size if self.config.drop_last else -(-count // self.config.batch_size)

    def epoch(self, epoch: int = 0, start_step: int = 0, every: int = 1) -> Iterator[Batch]:
        """Yield the batches of one pass from ``start_step`` on, every ``every``-th of them.

        They are exactly those that a pass from step 0 yields. Raises InputError if too many images are broken.
        """
        order = self._order(epoch)
        steps = range(start_step, len(self), every)
        if not self.config.workers:
            yield from (self._batch(epoch, order, step) for step in steps)
            return
        pool = ThreadPoolExecutor(self.config.workers, thread_name_prefix="loader")
        pending: deque[Future[Batch]] = deque()
        try:
            for step in steps:
                pending.append(pool.submit(self._batch, epoch, order, step))
                if len(pending) > AHEAD * self.config.workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        count = len(self.dataset)
        return (
            np.random.default_rng((self.config.seed, epoch)).permutation(count)
            if self.config.shuffle
            else np.arange(count)
        )

    def _batch(self, epoch: int, order: NDArray[np.int64], step: int) -> Batch:
        rank, shares = self.config.share
        count = self.config.batch_size // shares
        first = step * self.config.batch_size + rank * count
        positions = range(first, min(first + count, len(order)))
        size, augmentation = self._size(epoch, step), self._augmentation(epoch)
        items = [self._item(epoch, position, int(order[position]), size, augmentation) for position in positions]
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

    def _size(self, epoch: int, step: int) -> ImageSize:
        """Size of the canvases of one step's batches, in every process the same."""
        low, high = self.config.augmentation.multi_scale
        size, sizes = self.config.image_size, self.config.image_sizes
        rng = np.random.default_rng(
            (self.config.seed, epoch, step // self.config.accumulate, SIDE_STEP)
        )  # four numbers: no image's generator
        if len(sizes) > 1:
            size = sizes[rng.integers(len(sizes))]
        if low == high == 1:
            return size
        longest = max(size)
        first, last = (max(1, round(factor * longest / SIDE_STEP)) for factor in (low, high))
        steps = int(rng.integers(first, last, endpoint=True))
        return ImageSize(*(SIDE_STEP * max(1, round(steps * side / longest)) for side in size))

    def _augmentation(self, epoch: int) -> Augmentation:
        if self.config.epochs is not None and epoch >= self.config.epochs - self.config.augmentation.close_mosaic:
            return replace(self.config.augmentation, mosaic=0.0, mixup=0.0)
        return self.config.augmentation

    def _item(self, epoch: int, position: int, index: int, size: ImageSize, augmentation: Augmentation) -> _Item:
        rng = np.random.default_rng((self.config.seed, epoch, position))
        used: list[int] = []
        first = self._image(index, rng, used)
        if first is None:
            sample = self.dataset.samples[index]
            canvas = np.full((*size, 3), PAD, np.uint8)
            empty, how = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64)), self.dataset.interpolation
            return canvas, *empty, letterbox(sample.width, sample.height, size, how), [sample.id]

        def another() -> Image:
            found = self._image(int(rng.integers(len(self.dataset))), rng, used)
            return found or Image(
                np.full((*size, 3), PAD, np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
            )

        return *compose(first, another, size, augmentation, rng), used

    def _image(self, index: int, rng: np.random.Generator, used: list[int]) -> Image | None:
        """An image without its crowds, its id added to ``used``. Of a broken one another that is drawn, or, without
        ``shuffle``, None."""
        while True:
            try:
                rgb, boxes, labels, crowd = self.dataset.load(index)
            except BrokenImage as error:
                self._report(index, error)
                if not self.config.shuffle:
                    return None
                index = int(rng.integers(len(self.dataset)))  # ends: _report raises before all are broken
                continue
            used.append(self.dataset.samples[index].id)
            return Image(rgb, boxes[~crowd], labels[~crowd], self.dataset.interpolation == LINEAR)

    def files(self, batch: Batch) -> list[str]:
        """Return the names of the images on the canvases of a batch, those of ``sample_ids`` first."""
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
            outcome = "replaced by another" if self.config.shuffle else "left empty"
            self.dataset.problems.add("image broken while loading", error.path, f"{error.reason}, {outcome}")
        total = len(self.dataset)
        if count > max(FEW_BROKEN, MOST_BROKEN * total) or count == total:
            raise InputError(
                f"{count} of {total} images of {self.dataset.name}/{self.dataset.split} cannot be read,"
                f" one is {error.path} ({error.reason})",
                f"at most {MOST_BROKEN:.0%}",
                "check the disk and the folder",
            )
