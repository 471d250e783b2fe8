"""The training loop: exact resume, refusals, divergence, schedule, average, recalibration, devices."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nas.core.compute import autocast, device_of, resolve
from nas.core.training_progress import Diverged, Progress
from nas.data.loader import Loader, LoaderConfig
from nas.data.source import open_data
from nas.supernet.batchnorm import recalibrate
from nas.supernet.supernet import Supernet
from nas.training.loop import fit
from nas.training.loss import Terms, Truth
from nas.training.recipe import Recipe
from nas.training.task import Task
from nas.training.tasks import DetectorTask, SandwichTask
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES

NANO = SPACES["yolo-nano"]
DEEP = ("stage2_depth", "stage3_depth")
MOST = {
    c.name: 1 if c.name.endswith("_depth") and c.name not in DEEP else 2
    for c in NANO.choices
    if c.ordered and c.weights
}
SPACE = NANO.restrict({name: NANO[name].values[:most] for name, most in MOST.items()})  # small, with all alternatives
RECIPE = Recipe(epochs=4, batch_size=4, warmup_steps=3, precision="fp32", lr=1e-3)
IDENTITY = "toy"


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Loader:
    """16 images in batches of 4: 16 steps in 4 epochs."""
    data = open_data("digits@64:train=16,val=4", cache=tmp_path_factory.mktemp("cache"))
    return Loader(
        data.train,
        LoaderConfig(RECIPE.batch_size, 64, data.augmentation, seed=0, shuffle=True, drop_last=True, workers=0),
    )


def detector_task() -> Task:
    torch.manual_seed(0)
    return DetectorTask(SPACE.build(SPACE.smallest, 10), IDENTITY)


def sandwich_task() -> Task:
    torch.manual_seed(0)
    return SandwichTask(Supernet(SPACE, 10), IDENTITY, seed=1, between=1, ramp_steps=5)


@pytest.fixture(scope="module")
def whole(loader: Loader) -> tuple[nn.Module, nn.Module]:
    """A detector after an uninterrupted training, and the average of it."""
    task = detector_task()
    return task.model, fit(task, loader, RECIPE)


@pytest.fixture(scope="module")
def stopped(loader: Loader, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The checkpoint of the same training, stopped after 10 of its 16 steps."""
    path = tmp_path_factory.mktemp("stopped") / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(detector_task(), loader, RECIPE, path, stop_at(10))
    return path.read_bytes()


def equal(a: nn.Module, b: nn.Module) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)


def stop_at(step: int) -> Callable[[Progress], None]:
    def watch(progress: Progress) -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    return watch


@pytest.mark.parametrize("make", [detector_task, sandwich_task])
def test_resumed_equals_uninterrupted_bit_for_bit(make: Callable[[], Task], loader: Loader, tmp_path: Path) -> None:
    whole, broken, resumed = make(), make(), make()
    start = {k: v.clone() for k, v in whole.model.state_dict().items()}
    average = fit(whole, loader, RECIPE)
    assert any(not torch.equal(start[k], v) for k, v in whole.model.state_dict().items()) and not equal(
        average, whole.model
    )
    path = tmp_path / "run" / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(broken, loader, RECIPE, path, stop_at(10))
    torch.manual_seed(99)  # nothing may come from the global state
    seen: list[int] = []
    again = fit(resumed, loader, RECIPE, path, lambda p: seen.append(p.step))
    assert seen == [16] and equal(resumed.model, whole.model) and equal(again, average)
    # a finished training is read, not repeated
    assert equal(fit(make(), loader, RECIPE, path, lambda p: seen.append(p.step)), average) and seen == [16]


def test_the_largest_learns_alone_first(loader: Loader) -> None:
    task = SandwichTask(Supernet(SPACE, 10), IDENTITY, seed=1, between=2, largest_only_steps=2)
    batch = next(iter(loader.epoch(0)))
    truth = Truth(batch.boxes, batch.labels, batch.image_index)
    assert [len(list(task.losses(batch.images.float() / 255, truth, step))) for step in range(4)] == [1, 1, 4, 4]


def test_the_smaller_networks_have_a_weight(loader: Loader) -> None:
    batch = next(iter(loader.epoch(0)))
    truth = Truth(batch.boxes, batch.labels, batch.image_index)
    supernet = Supernet(SPACE, 10)

    def losses(weight: float) -> list[float]:
        task = SandwichTask(supernet, IDENTITY, seed=1, between=1, weight=weight)
        return [float(loss.detach()) for loss, _ in task.losses(batch.images.float() / 255, truth, 0)]

    (whole, *others), (same, *lighter) = losses(1.0), losses(0.25)
    assert whole == same and lighter == pytest.approx([0.25 * loss for loss in others])


class Interrupted(DetectorTask):
    """Ctrl-C in the middle of step ``at``, as a terminal sends it, or raised on the spot."""

    def __init__(self, at: int, how: Callable[[], object]) -> None:
        torch.manual_seed(0)
        super().__init__(SPACE.build(SPACE.smallest, 10), IDENTITY)
        self.at, self.how = at, how

    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        for loss in super().losses(images, truth, step):
            if step == self.at:
                self.how()
            yield loss


def test_ctrl_c_in_the_middle_of_a_step(whole: tuple[nn.Module, nn.Module], loader: Loader, tmp_path: Path) -> None:
    """The step is finished first: batch statistics and half of an update must not end up in the file."""
    (model, average), resumed = whole, detector_task()
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(Interrupted(6, lambda: os.kill(os.getpid(), signal.SIGINT)), loader, RECIPE, path)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert torch.load(path, weights_only=True)["step"] == 7
    assert equal(fit(resumed, loader, RECIPE, path), average) and equal(resumed.model, model)


def test_a_torn_state_is_not_saved(whole: tuple[nn.Module, nn.Module], loader: Loader, tmp_path: Path) -> None:
    """An interrupt that cannot wait leaves the last whole state."""

    def at_once() -> None:
        raise KeyboardInterrupt

    path = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(Interrupted(6, at_once), loader, RECIPE, path, save_every=5)
    assert torch.load(path, weights_only=True)["step"] == 5
    assert equal(fit(detector_task(), loader, RECIPE, path), whole[1])


def test_checkpoints_of_something_else_are_refused(stopped: bytes, loader: Loader, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(stopped)
    other = detector_task()
    other.identity = "another"
    for task, recipe, what in (
        (other, RECIPE, "of identity 'toy'; expected 'another'"),
        (detector_task(), replace(RECIPE, lr=2e-3), "of recipe .*0.001.*expected .*0.002"),
        (detector_task(), replace(RECIPE, epochs=5), "of recipe"),
    ):
        before = {k: v.clone() for k, v in task.model.state_dict().items()}
        with pytest.raises(InputError, match=what) as error:
            fit(task, loader, recipe, path)
        assert "\n" not in str(error.value) and str(path) in str(error.value)
        assert all(torch.equal(before[k], v) for k, v in task.model.state_dict().items())
    shorter = Loader(loader.dataset, LoaderConfig(8, 64, loader.config.augmentation, shuffle=True, workers=0))
    with pytest.raises(InputError, match="of steps 16; expected 8"):
        fit(detector_task(), shorter, RECIPE, path)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "list", "dict", "pickle"])
def test_damaged_checkpoints_are_refused(damage: str, stopped: bytes, loader: Loader, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    if damage == "cut":
        path.write_bytes(stopped[:-2000])
    elif damage in ("list", "dict"):
        torch.save(
            [1, 2] if damage == "list" else {"identity": IDENTITY, "recipe": RECIPE.to_dict(), "steps": 16}, path
        )
    elif damage == "pickle":  # would run code, were it unpickled
        torch.save({"identity": print}, path)
    else:
        path.write_bytes(b"" if damage == "empty" else b"not a checkpoint")
    with pytest.raises(InputError, match="checkpoint") as error:
        fit(detector_task(), loader, RECIPE, path)
    assert "\n" not in str(error.value) and "delete it" in str(error.value)


def test_a_checkpoint_that_cannot_be_written(loader: Loader, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        fit(detector_task(), loader, replace(RECIPE, epochs=1), tmp_path / "file" / "checkpoint.pt")
    folder = tmp_path / "checkpoint.pt.part"
    folder.mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        fit(detector_task(), loader, replace(RECIPE, epochs=1), tmp_path / "checkpoint.pt")


class Broken(DetectorTask):
    """A loss that is not a number from step 3 on."""

    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        for loss, terms in super().losses(images, truth, step):
            yield (loss * math.nan if step == 3 else loss), terms


def test_divergence_names_the_step(loader: Loader, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Diverged, match="loss is nan at step 3"):
        fit(Broken(SPACE.build(SPACE.smallest, 10), IDENTITY), loader, RECIPE, path, save_every=2)
    assert torch.load(path, weights_only=True)["step"] == 2


def test_progress_and_learning_rates(loader: Loader) -> None:
    """Warm-up to the full rate, then down to its final share."""
    task, seen = detector_task(), list[Progress]()
    fit(task, loader, replace(RECIPE, epochs=7), watch=seen.append)
    assert [p.step for p in seen] == [10, 20, 28] and seen[-1].steps == 28 and [p.epoch for p in seen] == [2, 4, 6]
    assert all(set(p.terms) == {"cls", "iou", "dfl"} and all(math.isfinite(v) for v in p.terms.values()) for p in seen)
    rates = [p.lr for p in seen]
    assert (
        rates == sorted(rates, reverse=True)
        and rates[0] < RECIPE.lr
        and rates[-1] == pytest.approx(RECIPE.lr * RECIPE.final_lr)
    )


def test_the_average_follows_the_weights(loader: Loader) -> None:
    """One step: the average is the weights. Later it lags by min(decay, (1 + t) / (10 + t))."""
    task = detector_task()
    one = Loader(loader.dataset, LoaderConfig(16, 64, loader.config.augmentation, shuffle=True, workers=0))
    assert equal(fit(task, one, replace(RECIPE, epochs=1, batch_size=16)), task.model)
    task = detector_task()
    values: list[Tensor] = []

    class Spy(DetectorTask):
        def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
            values.append(next(self.model.parameters()).detach().clone())
            yield from super().losses(images, truth, step)

    spy = Spy(task.model, IDENTITY)  # type: ignore[arg-type]
    average = next(fit(spy, one, replace(RECIPE, epochs=3, batch_size=16)).parameters())
    values.append(next(spy.model.parameters()).detach())
    expected = values[1]
    for t, value in enumerate(values[2:], 1):
        decay = min(RECIPE.ema_decay, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * value
    assert torch.allclose(average, expected, rtol=1e-5, atol=1e-7)


def test_sandwich_trains_both_ends() -> None:
    task = SandwichTask(Supernet(SPACE, 2), IDENTITY, seed=3, between=2)
    assert [len(task.architectures(step)) for step in (0, 5)] == [4, 4]
    ordered = [c for c in SPACE.choices if c.ordered and c.weights]
    blocks = set()
    for step in range(5, 40):
        first, *_, last = task.architectures(step)
        assert task.architectures(step)[0] == first  # from the step alone
        assert all(first[c.name] == c.values[-1] and last[c.name] == c.values[0] for c in ordered)
        blocks |= {(end, a["stage1_block"]) for end, a in (("large", first), ("small", last))}
    assert len(blocks) == 2 * len(SPACE["stage1_block"].values)
    assert SandwichTask(task.supernet, IDENTITY, seed=4).architectures(9) != SandwichTask(
        task.supernet, IDENTITY, seed=3
    ).architectures(9)


# BatchNorm


def test_recalibration_is_the_cumulative_average() -> None:
    """Mean of the batches' means and of their unbiased variances, whatever was there before."""
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.03)
    model = nn.Sequential(conv, norm, nn.ReLU())
    batches = [torch.rand(4, 3, 8, 8) * (i + 1) for i in range(5)]
    weights = [p.clone() for p in model.parameters()]
    model(torch.rand(2, 3, 8, 8) * 100)
    for _ in range(2):  # the second time starts anew
        recalibrate(model, iter(batches))
        with torch.no_grad():
            outputs = [conv(b) for b in batches]
        mean = torch.stack([o.mean((0, 2, 3)) for o in outputs]).mean(0)
        variance = torch.stack([o.var((0, 2, 3), unbiased=True) for o in outputs]).mean(0)
        assert norm.running_mean is not None and torch.allclose(norm.running_mean, mean, rtol=1e-5, atol=1e-6)
        assert norm.running_var is not None and torch.allclose(norm.running_var, variance, rtol=1e-5, atol=1e-6)
    assert (
        norm.momentum == 0.03
        and not model.training
        and all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    )


def test_recalibration_of_an_extracted_network() -> None:
    """With one batch it computes what the supernet computes on that batch, once the variances are made biased as a
    batch's own are."""
    supernet = Supernet(SPACE, 2)
    detector = supernet.extract(SPACE.largest)
    batch = torch.rand(8, 3, 64, 64)
    counts: dict[nn.Module, int] = {}
    norms = [m for m in detector.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.register_forward_pre_hook(lambda m, args: counts.update({m: args[0].numel() // args[0].shape[1]}))
    recalibrate(detector, [batch])
    assert all(m.momentum == 0.03 and m.num_batches_tracked == 1 for m in norms)
    with torch.no_grad():
        for norm in norms:
            assert norm.running_var is not None
            norm.running_var.mul_((counts[norm] - 1) / counts[norm])
        ours, theirs = detector(batch).logits, supernet(batch, SPACE.largest).logits
    assert (ours - theirs).abs().max() < 1e-3 * theirs.abs().max()


# recipe, devices, precision


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs = 0"),
        ({"batch_size": -1}, "batch_size = -1"),
        ({"lr": 0.0}, "lr = 0.0"),
        ({"precision": "fp8"}, "one of auto, fp32, bf16, fp16"),
        ({"distill_weight": -1.0}, "distill_weight = -1.0"),
        ({"distill_temperature": 0.0}, "distill_temperature = 0.0"),
        ({"distill_features": math.inf}, "distill_features = inf"),
    ],
)
def test_recipes_that_make_no_sense(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe(**changes)  # type: ignore[arg-type]


def test_recipe_round_trip() -> None:
    assert Recipe.from_dict(RECIPE.to_dict()) == RECIPE
    with pytest.raises(InputError, match="patience"):
        Recipe.from_dict({**RECIPE.to_dict(), "patience": 9})


def test_devices_and_precisions() -> None:
    cpu = torch.device("cpu")
    assert device_of("cpu") == cpu and device_of().type in ("cpu", "cuda")
    with pytest.raises(InputError, match="device 'gpu'"):
        device_of("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="--device cpu"):
            device_of("cuda")
    assert resolve("auto", cpu) in ("fp32", "bf16") and resolve("fp16", cpu) == "fp16"
    x = torch.rand(4, 4)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(precision, cpu):
            assert (x @ x).dtype == dtype


def test_training_in_bf16_is_close(loader: Loader) -> None:
    recipe, terms = replace(RECIPE, epochs=1), []
    for precision in ("fp32", "bf16"):
        fit(
            detector_task(),
            loader,
            replace(recipe, precision=precision),
            watch=lambda p: terms.append(sum(p.terms.values())),
        )
    assert terms[1] == pytest.approx(terms[0], rel=0.1)
