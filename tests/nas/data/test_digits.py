"""The embedded data set: real digits, disjoint splits, deterministic, complete or absent."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from nas.data import digits
from nas.data.digits import DigitsOptions, compose, digits_folder, split_digits, warp_digit
from nas.data.source import cache_folder, open_data
from search_spaces.errors import InputError

SPEC = "digits:train=40,val=15,seed=3"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    open_data(SPEC, cache=folder)
    return folder


def test_it_is_a_normal_coco_data_set(cache: Path) -> None:
    (folder,) = cache.iterdir()
    assert sorted(p.name for p in folder.iterdir()) == ["images", "train.json", "val.json"]
    pair, again = open_data(SPEC, cache=cache), open_data(folder)
    assert pair.fingerprint == again.fingerprint and pair.classes == tuple("0123456789")
    assert (len(pair.train), len(pair.val)) == (40, 15) and not pair.problems()
    assert pair.augmentation.flip == 0  # a mirrored 2 is no 2
    for data in (pair.train, pair.val):
        assert all(2 <= len(s) <= 8 and (s.width, s.height) == (128, 128) for s in data.samples)


def test_train_and_val_show_disjoint_digits(cache: Path) -> None:
    (folder,) = cache.iterdir()
    shown = [
        {a["digit"] for a in json.loads((folder / f"{split}.json").read_text())["annotations"]}
        for split in ("train", "val")
    ]
    assert all(len(s) > 40 for s in shown) and not shown[0] & shown[1]
    labels = load_digits().target
    parts = split_digits(labels, 3)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(1797))
    assert shown[0] <= set(parts["train"].tolist()) and shown[1] <= set(parts["val"].tolist())
    counts = np.bincount(labels[parts["val"]], minlength=10)
    assert counts.min() >= 40 and counts.max() <= 50


def test_same_seed_same_files_other_seed_others(tmp_path: Path, cache: Path) -> None:
    open_data(SPEC, cache=tmp_path / "again")
    (one,), (two,) = cache.iterdir(), (tmp_path / "again").iterdir()
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert len(files) == 57 and all((one / f).read_bytes() == (two / f).read_bytes() for f in files)
    other = open_data("digits:train=4,val=4,seed=4", cache=tmp_path)
    same = open_data("digits:train=4,val=4,seed=3", cache=tmp_path)
    assert other.fingerprint != same.fingerprint
    np.testing.assert_array_equal(
        same.train.load(0)[0], open_data(SPEC, cache=cache).train.load(0)[0]
    )  # more images do not change the first


def test_labels_belong_to_the_digits_drawn(cache: Path) -> None:
    (folder,) = cache.iterdir()
    labels = load_digits().target
    content = json.loads((folder / "train.json").read_text())
    assert all(labels[a["digit"]] == a["category_id"] - 1 for a in content["annotations"])


@pytest.mark.parametrize("size", [64, 128, 200])
def test_sizes_overlap_and_place(size: int) -> None:
    table = load_digits()
    sources = np.arange(1797)
    heights = []
    for i in range(25):
        rgb, drawn = compose(
            (table.images / 16).astype(np.float32), table.target, sources, size, np.random.default_rng(i)
        )
        assert rgb.shape == (size, size, 3) and rgb.dtype == np.uint8 and 2 <= len(drawn) <= 8
        boxes = np.array([d.box for d in drawn])
        assert boxes.min() >= 0 and boxes.max() <= size
        heights += (boxes[:, 3] - boxes[:, 1]).tolist()
        for a in range(len(boxes)):
            for b in range(a):
                both = np.prod(
                    np.clip(np.minimum(boxes[a, 2:], boxes[b, 2:]) - np.maximum(boxes[a, :2], boxes[b, :2]), 0, None)
                )
                areas = [np.prod(boxes[k, 2:] - boxes[k, :2]) for k in (a, b)]
                assert both <= digits.MOST_COVERED * min(areas) and both <= digits.MOST_IOU * (sum(areas) - both)
    low, high = (share * size for share in digits.HEIGHTS)  # turning and slanting change a height by some tenths
    assert min(heights) < 1.2 * low and 0.75 * high < max(heights) < 1.3 * high


def test_boxes_are_tight_around_the_ink() -> None:
    table = (load_digits().images / 16).astype(np.float32)
    for i in range(60):
        ink = warp_digit(table[i * 29], 14 + i % 51, np.random.default_rng(i))
        visible = ink >= digits.INK
        assert visible[0].any() and visible[-1].any() and visible[:, 0].any() and visible[:, -1].any()
        assert ink.min() >= 0 and ink.max() <= 1


def test_digits_stand_out_from_their_ground() -> None:
    """Ink laid on a plain ground must be seen: the least contrast of colours, times the least opacity, less a margin
    for rounding."""
    ink = np.ones((8, 8), np.float32)
    for i in range(50):
        rng = np.random.default_rng(i)
        canvas = np.full((20, 20, 3), rng.uniform(*digits.GROUND, 3), np.float32)
        before = canvas[0, 0].copy()
        digits._blend(canvas, ink, (5, 5, 13, 13), rng)
        luma = np.array([0.299, 0.587, 0.114])
        assert abs((canvas[8, 8] - before) @ luma) >= 0.79 * digits.LEAST_CONTRAST
        np.testing.assert_array_equal(canvas[0, 0], before)


def test_processes_at_once_leave_one_complete_folder(tmp_path: Path) -> None:
    """Threads stand for processes: nothing is shared but the file system."""
    options, found, start = DigitsOptions(train=5, val=5), [], threading.Barrier(4)

    def generate() -> None:
        start.wait()
        found.append(digits_folder(options, tmp_path))

    threads = [threading.Thread(target=generate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / options.folder] * 4
    assert [p.name for p in tmp_path.iterdir()] == [options.folder]  # no remains
    assert len(list((found[0] / "images").iterdir())) == 10


def test_interrupted_generation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(options: DigitsOptions, folder: Path) -> None:
        (folder / "train.json").write_text("{")
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(digits, "write_digits", full_disk)
        with pytest.raises(InputError, match=r"cannot write the digits data set .*No space left on device"):
            digits_folder(DigitsOptions(train=2, val=2), tmp_path)
    assert not list(tmp_path.iterdir())
    assert digits_folder(DigitsOptions(train=2, val=2), tmp_path).is_dir()


def test_cache_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write the digits data set"):
        open_data("digits:train=2,val=2", cache=tmp_path / "file")


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CACHE", "/a/b")
    assert cache_folder() == Path("/a/b")
    monkeypatch.delenv("NAS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert cache_folder() == Path("/c/nas")


def test_spec_grammar(tmp_path: Path) -> None:
    pair = open_data("digits@64:val=3,train=2", cache=tmp_path)
    assert (len(pair.train), len(pair.val), pair.train.samples[0].width) == (2, 3, 64)
