"""Batches: their form, that they do not depend on workers or on where one starts, and images that break on the
way."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console

from nas.data.dataset import Annotation, DetectionDataset, make_sample
from nas.data.loader import Batch, Loader, LoaderConfig
from nas.data.problems import Problems
from nas.data.transforms import PAD, Augmentation, letterbox
from search_spaces.errors import InputError


def images(folder: Path, count: int = 11) -> DetectionDataset:
    """Images of 60 x 40; image i has i % 3 boxes and one crowd."""
    problems = Problems()
    samples = []
    for i in range(count):
        path = folder / f"{i}.png"
        cv2.imwrite(str(path), np.random.default_rng(i).integers(0, 255, (40, 60, 3), np.uint8))
        objects = [Annotation((5 + i, 6, 25 + i, 26 + k), k) for k in range(i % 3)] + [
            Annotation((0, 0, 60, 40), 0, crowd=True)
        ]
        samples.append(make_sample(100 + i, path, (60, 40), objects, problems))
    return DetectionDataset("images", "train", ("a", "b"), samples, problems)


def same(a: Batch, b: Batch) -> bool:
    tensors = all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("images", "boxes", "labels", "image_index"))
    return tensors and a.sample_ids == b.sample_ids and a.placements == b.placements


def test_batches_in_order(tmp_path: Path) -> None:
    loader = Loader(images(tmp_path), LoaderConfig(4, 64))
    batches = list(loader.epoch())
    assert len(loader) == 3 and [len(b) for b in batches] == [4, 4, 3]
    assert [i for b in batches for i in b.sample_ids] == list(range(100, 111))
    first = batches[0]
    assert first.images.shape == (4, 3, 64, 64) and first.images.dtype == torch.uint8 and first.images.is_contiguous()
    assert first.image_index.tolist() == [1, 2, 2] and first.labels.tolist() == [0, 0, 1]  # crowds are left out
    assert first.boxes.dtype == torch.float32 and first.labels.dtype == first.image_index.dtype == torch.int64
    sample = loader.dataset.samples[2]
    np.testing.assert_allclose(first.placements[2].inverse(first.boxes[1:].numpy()), sample.boxes[:2], atol=1e-3)
    expected = letterbox(60, 40, 64).paste(loader.dataset.load(2)[0])
    np.testing.assert_array_equal(first.images[2].permute(1, 2, 0).numpy(), expected)


def test_a_batch_without_boxes(tmp_path: Path) -> None:
    (batch,) = Loader(images(tmp_path, 1), LoaderConfig(4, 64)).epoch()
    assert batch.boxes.shape == (0, 4) and batch.labels.shape == batch.image_index.shape == (0,)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(tmp_path: Path, workers: int) -> None:
    data = images(tmp_path)
    alone, helped = (
        Loader(data, LoaderConfig(3, 64, Augmentation.DEFAULT, seed=5, shuffle=True, workers=w)) for w in (0, workers)
    )
    for epoch in range(2):
        pairs = list(zip(alone.epoch(epoch), helped.epoch(epoch), strict=True))
        assert len(pairs) == 4 and all(same(a, b) for a, b in pairs)


@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_an_epoch_is_resumed_in_its_middle(tmp_path: Path, start: int) -> None:
    data = images(tmp_path)
    whole = list(Loader(data, LoaderConfig(3, 64, Augmentation.DEFAULT, seed=5, shuffle=True)).epoch(7))
    rest = list(
        Loader(data, LoaderConfig(3, 64, Augmentation.DEFAULT, seed=5, shuffle=True)).epoch(7, start_step=start)
    )
    assert len(rest) == 4 - start and all(same(a, b) for a, b in zip(whole[start:], rest, strict=True))


def test_epochs_and_seeds_differ_and_each_shows_everything(tmp_path: Path) -> None:
    data = images(tmp_path)
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        orders.append(
            [i for b in Loader(data, LoaderConfig(3, 64, seed=seed, shuffle=True)).epoch(epoch) for i in b.sample_ids]
        )
        assert sorted(orders[-1]) == list(range(100, 111))
    assert orders[0] != orders[1] != orders[2] != orders[0]
    loader = Loader(data, LoaderConfig(11, 64, Augmentation.DEFAULT))
    assert not torch.equal(next(loader.epoch(0)).images, next(loader.epoch(1)).images)


def test_drop_last(tmp_path: Path) -> None:
    data = images(tmp_path)
    assert [len(b) for b in Loader(data, LoaderConfig(4, 64, drop_last=True)).epoch()] == [4, 4]
    with pytest.raises(
        InputError, match=r"11 images in images/train; expected a full batch of 12; lower the batch size"
    ):
        Loader(data, LoaderConfig(12, 64, drop_last=True))


def test_leaving_an_epoch_early_stops_its_threads(tmp_path: Path) -> None:
    before = threading.active_count()
    epoch = Loader(images(tmp_path), LoaderConfig(1, 64, workers=2)).epoch()
    next(epoch)
    assert threading.active_count() > before
    epoch.close()  # type: ignore[attr-defined]  # a generator
    assert threading.active_count() == before


def test_to_device_keeps_everything(tmp_path: Path) -> None:
    batch = next(Loader(images(tmp_path), LoaderConfig(4, 64)).epoch())
    assert same(batch, batch.to("cpu")) and batch.to("meta").images.device.type == "meta"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_image_that_breaks_is_replaced_and_named_once(tmp_path: Path, workers: int) -> None:
    data = images(tmp_path)
    data.samples[3].path.write_bytes(b"broken")
    loader = Loader(data, LoaderConfig(4, 64, Augmentation.DEFAULT, shuffle=True, workers=workers))
    runs = [list(loader.epoch(e)) for e in (0, 0, 1)]
    assert all(len(b) == len(b.placements) for run in runs for b in run) and sum(len(b) for b in runs[0]) == 11
    assert all(103 not in b.sample_ids for run in runs for b in run)
    assert all(same(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert data.problems.counts == {"image broken while loading": 1}
    assert "3.png: is no image of a known kind, replaced by another" in data.problems.lines()[0]


def test_a_image_that_breaks_in_evaluation_keeps_its_place(tmp_path: Path) -> None:
    data = images(tmp_path)
    data.samples[2].path.unlink()
    first = next(Loader(data, LoaderConfig(4, 64)).epoch())
    assert (
        first.sample_ids == (100, 101, 102, 103)
        and (first.images[2] == PAD).all()
        and first.image_index.tolist() == [1]
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("count, broken", [(11, 4), (2, 2), (1, 1)])
def test_too_many_broken_images_end_it(tmp_path: Path, count: int, broken: int, workers: int) -> None:
    data = images(tmp_path, count)
    for sample in data.samples[:broken]:
        sample.path.unlink()
    loader = Loader(data, LoaderConfig(2, 64, shuffle=True, workers=workers))
    for _ in range(2):  # again, too: it does not go on in silence the second time
        with pytest.raises(InputError, match=rf"{broken} of {count} images of images/train cannot be read"):
            list(loader.epoch())


@pytest.mark.parametrize("batch, size, workers, seed", [(0, 64, 0, 0), (1, 0, 0, 0), (1, 64, -1, 0), (1, 64, 0, -1)])
def test_impossible_settings(tmp_path: Path, batch: int, size: int, workers: int, seed: int) -> None:
    with pytest.raises(InputError, match="batch size"):
        Loader(images(tmp_path, 1), LoaderConfig(batch, size, workers=workers, seed=seed))


def test_what_only_decoding_shows_is_told_when_a_training_ends(tmp_path: Path) -> None:
    from nas.core.console_reporter import ConsoleReporter
    from nas.data.source import open_data
    from nas.training.data import reporting_new_problems

    data = open_data("digits@64:train=4,val=2", cache=tmp_path)
    console = Console(record=True, width=300, file=io.StringIO())
    data.train.problems.add("broken image", "early.png", "known before")
    with reporting_new_problems(data, ConsoleReporter(console)):
        broken = data.train.samples[0].path
        broken.write_bytes(broken.read_bytes()[:200])  # its header is whole
        list(Loader(data.train.cached(1 << 20), LoaderConfig(2, 64, shuffle=True)).epoch())
    said = console.export_text()
    assert broken.name in said and "train" in said and len(said.splitlines()) == 1
