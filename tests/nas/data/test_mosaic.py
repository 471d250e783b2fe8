"""Mosaic, mixup and drawn sides: boxes stay on their pixels, every batch comes again, and what is left out at the end
is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas.data.loader import Batch, Loader, LoaderConfig
from nas.data.mosaic import Image, compose, mosaic
from nas.data.transforms import Augmentation
from search_spaces.image_size import ImageSize
from tests.nas.data.test_loader import images, same

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))
EVERYTHING = Augmentation(affine=1, mosaic=0.5, mixup=0.5, swap=0.5, degrees=10, shear=5, multi_scale=(0.5, 1.5))


def rectangles(rng: np.random.Generator, background: int = 0) -> Iterator[Image]:
    """Images with one rectangle each, of colours in turn; labels say which."""
    for label, colour in cycle(enumerate(COLOURS)):
        rgb = np.full((int(rng.integers(80, 160)), int(rng.integers(80, 160)), 3), background, np.uint8)
        x, y = int(rng.integers(5, 50)), int(rng.integers(5, 50))
        box = (x, y, x + int(rng.integers(15, 28)), y + int(rng.integers(15, 28)))
        rgb[box[1] : box[3], box[0] : box[2]] = colour
        yield Image(rgb, np.array([box], np.float32), np.array([label]))


@pytest.mark.parametrize("changes", [{}, {"flip": 1.0}, {"degrees": 20.0, "flip": 0.5}], ids=str)
def test_boxes_of_a_mosaic_lie_on_their_pixels(changes: dict[str, float]) -> None:
    rng = np.random.default_rng(3)
    augmentation, source, seen, canvases = (
        Augmentation(affine=1, hsv=0, min_area=0).changed(changes),
        rectangles(rng),
        0,
        set[bytes](),
    )
    close = 0
    for _ in range(40):
        four = [next(source) for _ in range(4)]
        canvas, boxes, labels, _ = mosaic(four, 160, augmentation, rng)
        assert canvas.shape == (160, 160, 3) and len(set(labels.tolist())) == len(labels)
        for image in four:
            label = int(image.labels[0])
            ys, xs = np.nonzero((np.abs(canvas.astype(int) - COLOURS[label]) < 100).all(2))
            if label not in labels:
                assert len(xs) < 3 * 160  # at most a sliver
                continue
            found = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            missed = np.abs(boxes[labels == label][0] - found).max()
            seen += 1
            close += missed < 1.6
            # a turned rectangle that is cut off may lack the corners that its box was made of
            assert missed < 1.6 or (augmentation.degrees and (boxes[labels == label][0] - found)[:2].max() < 1.6)
        canvases.add(canvas.tobytes())
    assert seen > 60 and close > 0.7 * seen and len(canvases) == 40


def test_a_image_of_a_mosaic_begins_where_the_four_meet() -> None:
    """Plain images as large as the canvas fill their quarters wholly, mirrored or not, wherever they meet."""
    four = [
        Image(np.full((64, 64, 3), 40 * i, np.uint8), np.array([[0, 0, 64, 64]], np.float32), np.array([i]))
        for i in range(1, 5)
    ]
    for seed in range(20):
        canvas, boxes, labels, _ = mosaic(
            four, 64, Augmentation(affine=0, hsv=0, min_area=0), np.random.default_rng(seed)
        )
        assert sorted(labels.tolist()) == [1, 2, 3, 4] and np.prod(boxes[:, 2:] - boxes[:, :2], 1).sum() == 64 * 64
        for (x1, y1, x2, y2), label in zip(boxes.astype(int), labels, strict=True):
            assert (canvas[y1:y2, x1:x2] == 40 * label).all()


def test_mixup_is_half_of_each_with_the_boxes_of_both() -> None:
    first = Image(np.full((32, 32, 3), 100, np.uint8), np.array([[1, 2, 20, 21]], np.float32), np.array([0]))
    second = Image(np.full((32, 32, 3), 50, np.uint8), np.array([[5, 6, 30, 31]], np.float32), np.array([1]))
    canvas, boxes, labels, _ = compose(
        first, lambda: second, 32, Augmentation(flip=0, affine=0, hsv=0, mixup=1), np.random.default_rng(0)
    )
    assert (canvas == 75).all() and boxes.tolist() == [[1, 2, 20, 21], [5, 6, 30, 31]] and labels.tolist() == [0, 1]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_batch_comes_again_from_any_step_on(tmp_path: Path, workers: int) -> None:
    data = images(tmp_path)
    whole = list(Loader(data, LoaderConfig(2, 96, EVERYTHING, seed=5, shuffle=True, workers=0)).epoch(3))
    rest = list(
        Loader(data, LoaderConfig(2, 96, EVERYTHING, seed=5, shuffle=True, workers=workers)).epoch(3, start_step=2)
    )
    assert any(b.partners for b in whole) and len(rest) == 4
    assert all(same(a, b) and a.partners == b.partners for a, b in zip(whole[2:], rest, strict=True))


def test_sides_are_drawn_per_step_alike_in_all_processes(tmp_path: Path) -> None:
    data = images(tmp_path, 24)

    def sides(share: tuple[int, int], accumulate: int = 1) -> list[int]:
        loader = Loader(
            data,
            LoaderConfig(
                2,
                96,
                Augmentation(multi_scale=(0.5, 1.5)),
                shuffle=True,
                drop_last=True,
                share=share,
                accumulate=accumulate,
            ),
        )
        return [b.images.shape[2] for epoch in range(4) for b in loader.epoch(epoch)]

    drawn = sides((0, 1))
    assert set(drawn) == {64, 96, 128}  # 1.5 to 4.5 times 32, rounded to even
    assert sides((0, 2)) == sides((1, 2)) == drawn
    pairs = sides((0, 1), accumulate=2)
    assert pairs[::2] == pairs[1::2] and len(set(pairs)) > 1


def test_sizes_of_a_list_are_drawn_per_step(tmp_path: Path) -> None:
    data, sizes = images(tmp_path, 24), (ImageSize(64, 64), ImageSize(64, 96), ImageSize(128, 128))

    def batches(epochs: int, augmentation: Augmentation = Augmentation.NONE, **options: Any) -> list[Batch]:
        config = LoaderConfig(2, 128, augmentation, shuffle=True, drop_last=True, image_sizes=sizes, **options)
        loader = Loader(data, config)
        return [b for epoch in range(epochs) for b in loader.epoch(epoch)]

    drawn = batches(10)
    shapes = [(b.images.shape[2], b.images.shape[3]) for b in drawn]
    assert set(shapes) == {size.shape for size in sizes} and all(24 < shapes.count(s.shape) < 56 for s in sizes)
    for batch in drawn[:12]:
        one = next(Loader(data, LoaderConfig(1, ImageSize(*batch.images.shape[2:]), workers=0)).epoch())
        first = batch.sample_ids.index(100) if 100 in batch.sample_ids else None
        assert first is None or torch.equal(batch.images[first], one.images[0])
    halves = [[b.images.shape for b in batches(10, share=(i, 2))] for i in range(2)]
    assert halves[0] == halves[1] and [s[2:] for s in halves[0]] == [b.images.shape[2:] for b in drawn]
    pairs = [b.images.shape for b in batches(2, accumulate=2)]
    assert pairs[::2] == pairs[1::2] and len(set(pairs)) > 1
    scaled = {tuple(b.images.shape[2:]) for b in batches(10, Augmentation(multi_scale=(0.5, 1.5)))}
    assert (192, 192) in scaled and (32, 32) in scaled and (64, 96) in scaled  # around the size that was drawn


def test_mosaic_and_mixup_end_before_training_does(tmp_path: Path) -> None:
    data = images(tmp_path)
    augmentation = Augmentation(mosaic=1, mixup=1, close_mosaic=2)
    loader = Loader(data, LoaderConfig(4, 64, augmentation, shuffle=True, epochs=5))
    assert [any(b.partners for b in loader.epoch(e)) for e in range(5)] == [True, True, True, False, False]
    plain = Loader(data, LoaderConfig(4, 64, Augmentation(), shuffle=True))
    assert all(same(a, b) for a, b in zip(loader.epoch(4), plain.epoch(4), strict=True))
    assert not torch.equal(next(loader.epoch(1)).images, next(plain.epoch(1)).images)


def test_files_of_a_batch_name_partners_too(tmp_path: Path) -> None:
    loader = Loader(images(tmp_path), LoaderConfig(2, 64, Augmentation(mosaic=1), shuffle=True))
    batch = next(loader.epoch())
    names = loader.files(batch)
    assert names[:2] == [f"{id - 100}.png" for id in batch.sample_ids] and set(names[2:]) <= {
        f"{id - 100}.png" for id in batch.partners
    }


def test_a_broken_partner_is_replaced(tmp_path: Path) -> None:
    data = images(tmp_path)
    data.samples[3].path.write_bytes(b"broken")
    loader = Loader(data, LoaderConfig(4, 64, Augmentation(mosaic=1), shuffle=True))
    runs = [list(loader.epoch()) for _ in range(2)]
    assert all(same(a, b) for a, b in zip(*runs, strict=True)) and all(
        103 not in (*b.sample_ids, *b.partners) for b in runs[0]
    )
    assert data.problems.counts == {"image broken while loading": 1}
