"""Named recipes, values set by text, the course of the learning rate, and gradient accumulation."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nas.cli.options import add_recipe, recipe
from nas.data.source import DataPair, open_data
from nas.supernet.supernet import Supernet
from nas.training import state
from nas.training.loop import fit
from nas.training.loss import DetectionLoss, Terms, Truth, at_least_one
from nas.training.optimizers import learning_rate_factor, open_optimizer
from nas.training.recipe import OPTIMIZERS, Recipe, parse_values
from nas.training.recipes import RECIPES
from nas.training.tasks import SandwichTask
from search_spaces.errors import InputError
from tests._training import SPACE, Toy, batches


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataPair:
    return open_data("digits@64:train=16,val=4", cache=tmp_path_factory.mktemp("cache"))


def asked(*words: str) -> Recipe:
    parser = argparse.ArgumentParser()
    add_recipe(parser, epochs=20)
    return recipe(parser.parse_args(list(words)))


@pytest.mark.parametrize("name", list(RECIPES))
def test_named_recipes_say_their_command_and_what_was_not_run(name: str) -> None:
    named = RECIPES[name]
    assert named.about.split(".")[0].startswith(("nas train", "torchrun")) and "not run" in named.about
    assert Recipe.from_dict(named.recipe.to_dict()) == named.recipe


def test_defaults_are_the_default_recipe_and_new_augmentation_is_off() -> None:
    assert RECIPES["default"].recipe == Recipe() and Recipe().augmentation == {}
    assert (Recipe().accumulate, Recipe().optimizer, Recipe().warmup_lr, Recipe().compile, Recipe().ema_ramp) == (
        1,
        "adamw",
        0.0,
        False,
        10.0,
    )
    assert asked() == Recipe(epochs=20)  # the verb's own number


def test_an_option_goes_before_set_goes_before_the_recipe() -> None:
    published = asked("--recipe", "yolo-nas")
    assert (published.epochs, published.lr, published.ema_decay, published.augmentation["mixup"]) == (
        300,
        2e-4,
        0.9997,
        0.5,
    )
    changed = asked(
        "--recipe",
        "yolo-nas",
        "--set",
        "mosaic=1",
        "--set",
        "lr=1e-3",
        "--set",
        "weight_decay=0",
        "--lr",
        "5e-3",
        "--epochs",
        "7",
    )
    assert (changed.lr, changed.weight_decay, changed.epochs) == (5e-3, 0.0, 7)
    assert changed.augmentation == {**published.augmentation, "mosaic": 1.0}
    assert asked("--compile", "--accumulate", "4", "--optimizer", "sgd").changed({}) == Recipe(
        epochs=20, compile=True, accumulate=4, optimizer="sgd"
    )


def test_values_are_typed_as_their_defaults() -> None:
    values = parse_values(
        ["epochs=3", "lr=1e-3", "compile=true", "optimizer=sgd", "multi_scale=0.5, 1.5", "close_mosaic=10"]
    )
    assert values == {
        "epochs": 3,
        "lr": 1e-3,
        "compile": True,
        "optimizer": "sgd",
        "augmentation": {"multi_scale": (0.5, 1.5), "close_mosaic": 10},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr", "--set 'lr'; expected NAME=VALUE"),
        ("epochs=1.5", "epochs = '1.5'; expected a whole number"),
        ("compile=perhaps", "true or false"),
        ("scale=1", "LOW,HIGH"),
        ("momentun=1", "did you mean 'momentum'"),
        ("optimizer=adam", "unknown optimizer 'adam'.*adamw"),
        ("mosaic=2", "augmentation mosaic = 2.0"),
        ("sync_bn=maybe", "one of auto, on, off"),
        ("ema_ramp=0", "ema_ramp"),
    ],
)
def test_impossible_values(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        asked("--set", text)
    assert "\n" not in str(error.value)


def test_warm_up_and_cosine() -> None:
    factor = learning_rate_factor(Recipe(lr=1e-3, warmup_steps=10, warmup_lr=1e-4, final_lr=0.1), 100, 20)
    rates = [factor(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1 + 0.9 * 0.1) and rates[9] == 1.0 and rates[100] == pytest.approx(0.1)
    assert rates[55] == pytest.approx(0.55) and rates[9:] == sorted(rates[9:], reverse=True)
    assert learning_rate_factor(Recipe(warmup_steps=0, warmup_epochs=1.0), 1000, 50)(24) == pytest.approx(0.5)
    assert learning_rate_factor(Recipe(warmup_steps=1000), 100, 20)(19) == 1.0  # at most a fifth


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_no_decay_on_biases_norms_and_scalars(name: str) -> None:
    model = SPACE.build(SPACE.smallest, 2)
    optimizer = open_optimizer(model, Recipe(optimizer=name, weight_decay=0.1))
    decayed, free = ({id(p) for p in group["params"]} for group in optimizer.param_groups)
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.1, 0.0]
    assert all((id(p) in decayed) == (p.dim() > 1) for p in model.parameters()) and len(decayed) + len(free) == len(
        list(model.parameters())
    )


class Weighed(Toy):
    """A loss that is divided by the sum of scores, as the detection loss is: here a score per image, by its number
    of boxes."""

    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        scores = truth.image_index.bincount(minlength=len(images)).float() ** 2 / 8
        missed = (self.model(images).mean((2, 3)) - images.mean((2, 3))).square().sum(1)
        if truth.scores is not None:
            truth.scores.append(scores.sum())
        loss = (missed * scores).sum() / at_least_one(scores.sum())
        yield loss, {"colour": loss.detach()}


@pytest.mark.parametrize("task", [Weighed, Toy])
def test_accumulated_batches_equal_one_large_batch(
    task: type[Toy], data: DataPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(batch_size: int, accumulate: int) -> list[Tensor]:
        own = Recipe(
            epochs=4,
            batch_size=batch_size,
            accumulate=accumulate,
            optimizer="sgd",
            lr=0.2,
            precision="fp32",
            warmup_steps=0,
        )
        one = task()
        fit(one, batches(data, own), own)
        return [p.detach().clone() for p in one.model.parameters()]

    def difference(a: list[Tensor], b: list[Tensor]) -> float:
        return max(float((x - y).abs().max()) for x, y in zip(a, b, strict=True))

    whole, start = trained(8, 1), [p.detach() for p in task().model.parameters()]
    assert difference(trained(1, 8), whole) < 1e-5 and difference(whole, start) > 1e-2
    if task is Weighed:
        monkeypatch.setattr(
            state, "_weight", lambda scores, index, count: 1 / count
        )  # as if all batches had as much to say
        assert difference(trained(1, 8), whole) > 1e-4


def test_the_detection_loss_tells_what_it_is_divided_by(data: DataPair) -> None:
    batch = next(batches(data, Recipe(batch_size=4)).epoch())
    scores: list[Tensor] = []
    predictions = SPACE.build(SPACE.smallest, 10)(batch.images.float() / 255)
    *_, matched = DetectionLoss()(predictions, Truth(batch.boxes, batch.labels, batch.image_index, scores=scores))
    assert len(scores) == 1 and scores[0] == matched.score.sum() > 0


def test_an_epoch_has_as_many_steps_as_it_fills(data: DataPair) -> None:
    settings, seen = Recipe(epochs=2, batch_size=4, accumulate=3, precision="fp32"), list[int]()
    fit(Toy(), batches(data, settings), settings, watch=lambda p: seen.append(p.steps))
    assert seen == [2]  # 4 batches an epoch
    with pytest.raises(InputError, match="4 batches in an epoch; expected 5"):
        fit(Toy(), batches(data, settings), replace(settings, accumulate=5))


def test_compiled_training_is_the_same_training(data: DataPair) -> None:
    """With dynamo's eager backend: what is compiled is asked for after the average was made, which stays an ordinary
    module."""

    class Compiled(Toy):
        compiled = 0

        def compile(self) -> None:
            self.compiled += 1
            self.model.compile(backend="eager")

    one, other, settings = Compiled(), Toy(), Recipe(epochs=1, batch_size=4, precision="fp32")
    average, plain = (
        fit(one, batches(data, settings), settings.changed({"compile": True})),
        fit(other, batches(data, settings), settings),
    )
    assert one.compiled == 1 and getattr(one.model, "_compiled_call_impl", None) is not None
    assert getattr(average, "_compiled_call_impl", None) is None
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(average.parameters(), plain.parameters(), strict=True))


def test_a_supernet_is_not_compiled(data: DataPair) -> None:
    settings = Recipe(epochs=1, batch_size=4, compile=True)
    with pytest.raises(InputError, match="compile of a supernet"):
        fit(SandwichTask(Supernet(SPACE, 10), "toy", seed=0), batches(data, settings), settings)


def test_the_average_ramps_as_the_recipe_says(data: DataPair, tmp_path: Path) -> None:
    settings = Recipe(epochs=1, batch_size=4, precision="fp32", ema_ramp=1.0, ema_decay=0.5)
    values: list[Tensor] = []

    class Spy(Toy):
        def loss(self, images: Tensor) -> Tensor:
            values.append(next(self.model.parameters()).detach().clone())
            return super().loss(images)

    spy = Spy()
    average = next(fit(spy, batches(data, settings), settings).parameters())
    expected = values[1]
    for value in [*values[2:], next(spy.model.parameters()).detach()]:
        expected = 0.5 * expected + 0.5 * value  # (1 + t) / (1 + t) is over the decay from the first step on
    assert torch.allclose(average, expected, rtol=1e-5)
