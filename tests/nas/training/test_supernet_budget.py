"""The default budget of a supernet's training, and the verdict on what it has learnt."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nas.data.source import open_data
from nas.supernet.supernet import Supernet
from nas.training.supernet_budget import (
    EPOCHS,
    MIN_STEPS,
    RELIABLE_MAP,
    SupernetQuality,
    default_supernet_epochs,
    supernet_quality,
)
from search_spaces.image_size import ImageSize
from search_spaces.spaces import SPACES

SPACE = SPACES["yolo-nano"].restrict({"image_size": (96,), "width": (8,)})


@pytest.mark.parametrize(("images", "batch"), [(20, 32), (32, 32), (160, 16), (160, 32), (900, 32), (2000, 64)])
def test_small_data_sets_have_as_many_steps_as_larger_ones(images: int, batch: int) -> None:
    epochs, per_epoch = default_supernet_epochs(images, batch), max(1, images // batch)
    assert epochs * per_epoch >= MIN_STEPS
    assert epochs * per_epoch < MIN_STEPS + per_epoch or epochs == EPOCHS


def test_large_data_sets_are_passed_over_as_ever() -> None:
    assert default_supernet_epochs(118_287, 32) == EPOCHS


def test_several_image_sizes_have_as_many_pixels_as_the_largest_alone() -> None:
    sizes = [ImageSize(side, side) for side in (160, 320)]
    assert default_supernet_epochs(118_287, 32, sizes) == EPOCHS * 1.6  # the average area is 5/8 of the largest
    assert default_supernet_epochs(118_287, 32, sizes[1:]) == EPOCHS


def test_the_verdict() -> None:
    good, bad = (SupernetQuality(SPACE.largest, value, 2 * value) for value in (RELIABLE_MAP, RELIABLE_MAP - 0.05))
    assert good.reliable and "unreliable" not in good.text()
    assert not bad.reliable and "0.100" in bad.text() and "--epochs" in bad.text() and "\n" not in bad.text()


def test_it_is_measured_without_changing_the_supernet(tmp_path: Path) -> None:
    data = open_data("digits@96:train=8,val=6", cache=tmp_path)
    supernet = Supernet(SPACE, 10)
    before = {k: v.clone() for k, v in supernet.state_dict().items()}
    quality = supernet_quality(supernet, data, eval_images=3)
    assert quality.largest == SPACE.largest and 0 <= quality.map <= quality.map50 < 0.2 and not quality.reliable
    assert all(torch.equal(before[k], v) for k, v in supernet.state_dict().items())
