"""When a training stops by itself: what it says, what stays on the disk, and what is no failure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nas.core.training_progress import Diverged
from nas.data.source import DataPair, open_data
from nas.training.divergence import ENOUGH
from nas.training.loop import fit
from nas.training.loss import Terms, Truth
from nas.training.recipe import Recipe
from search_spaces.errors import InputError
from tests._training import Toy, batches

RECIPE = Recipe(epochs=20, batch_size=4, precision="fp32", lr=1e-3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataPair:
    return open_data("digits@64:train=16,val=4", cache=tmp_path_factory.mktemp("cache"))


class Flawed(Toy):
    """At step ``at`` the loss is multiplied, the gradients become infinite, or the weights do."""

    def __init__(
        self, at: int, factor: float = 1.0, gradient: float = 1.0, weight: float = 0.0, last: int | None = None
    ) -> None:
        super().__init__()
        self.at, self.last, self.factor, self.gradient, self.weight = (
            at,
            at if last is None else last,
            factor,
            gradient,
            weight,
        )
        self.spare = torch.nn.Parameter(torch.zeros(1))
        self.model.register_parameter("spare", self.spare)

    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        for loss, terms in super().losses(images, truth, step):
            if self.at <= step <= self.last:
                loss = loss * self.factor
                loss.register_hook(lambda grad: grad * self.gradient)
                self.spare.data.fill_(self.weight)
            yield loss, terms


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (Flawed(25, factor=math.nan), "the loss is nan at step 25"),
        (Flawed(25, factor=1e5), "over 1000 times its median at step 25"),
        (Flawed(25, gradient=math.inf), "gradients' norm is .* at step 25"),
        (Flawed(25, weight=math.nan), "the weights are no numbers at step 26"),
    ],
    ids=["nan", "explosion", "gradients", "weights"],
)
def test_a_bad_state_never_replaces_a_good_one(task: Flawed, words: str, data: DataPair, tmp_path: Path) -> None:
    path = tmp_path / "S.ckpt"
    with pytest.raises(Diverged, match=words) as error:
        fit(task, batches(data, RECIPE), RECIPE, path, save_every=2)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    state = torch.load(path, weights_only=True)
    assert state["step"] == 24 and all(t.isfinite().all() for t in state["model"].values())


def test_the_message_names_the_images_of_the_batch(data: DataPair, tmp_path: Path) -> None:
    recipe = RECIPE.changed({"accumulate": 2, "augmentation": {"mosaic": 1.0}})
    with pytest.raises(Diverged) as error:
        fit(Flawed(3, factor=math.inf), batches(data, recipe), recipe, tmp_path / "S.ckpt")
    first, *_ = list(batches(data, recipe).epoch(1, 2))  # step 3 is of the third and fourth batch of epoch 1
    names = batches(data, recipe).files(first)
    assert f"images {', '.join(names[:8])}" in str(error.value) and "no checkpoint was written yet" in str(error.value)
    assert len(names) > 8 and (tmp_path / "S.diverged.txt").read_text().split() == names


def test_it_is_told_in_one_line_and_is_no_defect() -> None:
    assert issubclass(Diverged, InputError)


def test_a_young_loss_may_do_what_it_wants(data: DataPair) -> None:
    fit(Flawed(ENOUGH - 1, factor=1e5), batches(data, RECIPE), RECIPE.changed({"epochs": 6}))


def test_a_step_that_fp16_leaves_out_is_no_failure(data: DataPair) -> None:
    recipe, seen = RECIPE.changed({"precision": "fp16", "epochs": 2}), list[Tensor]()

    class Spy(Flawed):
        def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
            seen.append(list(self.model.parameters())[-1].detach().clone())
            yield from super().losses(images, truth, step)

    fit(Spy(3, gradient=math.inf), batches(data, recipe), recipe)
    assert (
        len(seen) == 8
        and torch.equal(seen[3], seen[4])
        and not torch.equal(seen[4], seen[5])
        and not torch.equal(seen[2], seen[3])
    )


def test_fp16_that_leaves_out_every_step_is_one(data: DataPair) -> None:
    recipe = RECIPE.changed({"precision": "fp16"})
    with pytest.raises(Diverged, match="overflow at every scale of fp16 at step 3[0-9]"):
        fit(Flawed(3, gradient=math.inf, last=99), batches(data, recipe), recipe)
