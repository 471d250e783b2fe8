"""How long a supernet is trained by default, and whether its ranking can be relied on."""

from __future__ import annotations

import random
from typing import Any

import pytest

from nas.core.estimate import Estimate
from nas.core.reporter import Reporter
from nas.estimators.base import Context, Estimator
from nas.search.ranking_check import check_ranking, split_half_reliability
from nas.search.supernet_budget import supernet_budget
from nas.training.recipe import Recipe
from nas.training.supernet_budget import EPOCHS, MIN_STEPS
from search_spaces.architecture import Architecture
from search_spaces.image_size import ImageSize
from tests._fakes import numbers_of, tiny_space
from tests._progress import Recording

SPACE = tiny_space()


@pytest.mark.parametrize("images", [4, 40, 160, 999, 1000, 5000, 118_287])
def test_small_data_sets_get_as_many_steps_as_large_ones(images: int) -> None:
    budget = supernet_budget(Recipe(), {}, images)
    assert budget.steps >= MIN_STEPS and budget.recipe.epochs >= EPOCHS and budget.by_default
    assert budget.recipe.batch_size <= images
    if images > 40_000:
        assert budget.recipe.epochs == EPOCHS
    assert f"{budget.steps:,} steps" in str(budget) and "--epochs N" in str(budget)


def test_several_image_sizes_have_more_epochs() -> None:
    sizes = [ImageSize(side, side) for side in (160, 320)]
    budget = supernet_budget(Recipe(), {}, 5000, sizes)
    assert budget.recipe.epochs == 1.6 * EPOCHS and budget.by_default
    assert supernet_budget(Recipe(epochs=3), {"epochs": 3}, 5000, sizes).recipe.epochs == 3


def test_what_is_given_stays() -> None:
    given: dict[str, Any] = {"epochs": 3, "batch_size": 64}
    budget = supernet_budget(Recipe(**given), given, 160)
    assert (budget.recipe.epochs, budget.recipe.batch_size) == (3, 64) and "--epochs" not in str(budget)
    assert supernet_budget(Recipe(batch_size=64), {"batch_size": 64}, 160).recipe.batch_size == 64


class Half(Estimator):
    """An accuracy that is ``signal`` of the architecture and the rest noise of the half."""

    name, direction, rank = "map", "max", 2

    def __init__(self, signal: float) -> None:
        super().__init__(Context(SPACE, 3))
        self.signal = signal

    def __call__(self, architecture: Architecture) -> Estimate:
        a, b = self.split_half(architecture)
        return Estimate(self.name, (a + b) / 2, low=(a + b) / 2 - 0.1, high=(a + b) / 2 + 0.1)

    def split_half(self, architecture: Architecture) -> tuple[float, float]:
        rng = random.Random(architecture.id)
        value = numbers_of(architecture)[1]
        return tuple(self.signal * value + (1 - self.signal) * rng.random() for _ in range(2))  # type: ignore[return-value]


def test_a_supernet_that_has_not_learnt_is_reported() -> None:
    reporter = Recording()
    learnt, noise = (check_ranking(Half(signal), SPACE, 0, reporter) for signal in (0.99, 0.0))
    reporter.check("checking the ranking of the supernet")
    assert learnt is not None and learnt.reliable and "unreliable" not in str(learnt)
    assert noise is not None and not noise.reliable
    assert "--epochs N" in str(noise) and "--accuracy nwot" in str(noise) and "accuracy of the largest" in str(noise)
    assert learnt.spread > 0 and learnt.half_width == pytest.approx(0.1)


def test_an_estimator_without_images_is_not_checked() -> None:
    class Plain(Half):
        def split_half(self, architecture: Architecture) -> None:  # type: ignore[override]
            return None

    assert check_ranking(Plain(1.0), SPACE, 0, Reporter()) is None


def test_reliability_is_that_of_the_whole_set() -> None:
    same = [(float(i), float(i)) for i in range(8)]
    assert split_half_reliability(same) == pytest.approx(1.0)
    assert split_half_reliability([(float(i), float(-i)) for i in range(8)]) == 0.0
    assert split_half_reliability([(0.1, 0.1)] * 8) == 0.0  # nothing is distinguished
    halves = [(0.0, 0.0), (1.0, 2.0), (2.0, 1.0), (3.0, 3.0)]  # rho 0.8
    assert split_half_reliability(halves) == pytest.approx(2 * 0.8 / 1.8)
