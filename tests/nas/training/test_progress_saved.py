"""Progress is saved by time, whatever a step takes, and before an evaluation; SIGTERM acts as Ctrl-C."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from nas.cli.border import stop_signals
from nas.core.training_progress import Progress
from nas.data.source import DataPair, open_data
from nas.supernet.supernet import Supernet
from nas.training import loop, state
from nas.training.checkpoint import write_checkpoint
from nas.training.loop import fit
from nas.training.loss import Terms, Truth
from nas.training.recipe import Recipe
from nas.training.task import Task
from nas.training.tasks import SandwichTask
from nas.training.validation import Validation
from tests._training import SPACE, Toy, batches

RECIPE = Recipe(epochs=3, batch_size=4, precision="fp32")  # 12 steps


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataPair:
    return open_data("digits@64:train=16,val=4", cache=tmp_path_factory.mktemp("cache"))


class Clock:
    """A clock that advances with every step of a task."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
        self.now, self.step_s, self.saved = 0.0, step_s, list[tuple[float, int]]()
        monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: self.now))
        write = write_checkpoint

        def noted(path: Path, content: dict[str, object]) -> None:
            self.saved.append((self.now, int(content["step"])))  # type: ignore[call-overload]
            write(path, content)

        monkeypatch.setattr(state, "write_checkpoint", noted)

    def slow(self, task: Task) -> Task:
        losses = task.losses

        def timed(images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
            self.now += self.step_s
            return losses(images, truth, step)

        task.losses = timed  # type: ignore[method-assign]
        return task


@pytest.mark.parametrize("step_s", [1.0, 7.0, 20.0, 100.0])
@pytest.mark.parametrize("kind", ["detector", "supernet"])
def test_no_more_than_a_minute_or_a_step_is_lost(
    kind: str, step_s: float, data: DataPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, step_s)
    task = Toy() if kind == "detector" else SandwichTask(Supernet(SPACE, 10), "s", seed=0, between=0)
    recipe = RECIPE if kind == "detector" else RECIPE.changed({"epochs": 1})
    fit(clock.slow(task), batches(data, recipe), recipe, tmp_path / "S.ckpt")
    times = [0.0, *(at for at, _ in clock.saved)]
    assert all(b - a <= max(60.0, step_s) for a, b in pairwise(times))
    assert times[-1] == clock.now and len(clock.saved) <= clock.now / min(45.0, clock.now) + 1


class Interrupted(Validation):
    """Ctrl-C in an evaluation."""

    def measure(self, ema: nn.Module) -> dict[str, float]:
        raise KeyboardInterrupt


def test_steps_are_saved_before_an_evaluation(data: DataPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 1.0)
    with pytest.raises(KeyboardInterrupt):
        fit(clock.slow(Toy()), batches(data, RECIPE), RECIPE, tmp_path / "S.ckpt", validation=Interrupted(2, data, 64))
    assert clock.saved[0] == (8.0, 8)


class Stopped(Toy):
    """SIGTERM, or another signal, in the middle of step 6."""

    number = signal.SIGTERM

    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        if step == 6:
            os.kill(os.getpid(), self.number)
        yield from super().losses(images, truth, step)


def test_sigterm_acts_as_ctrl_c(data: DataPair, tmp_path: Path) -> None:
    path = tmp_path / "S.ckpt"
    with pytest.raises(KeyboardInterrupt):
        fit(Stopped(), batches(data, RECIPE), RECIPE, path)
    assert torch.load(path, weights_only=True)["step"] == 7 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    whole, resumed = (fit(Toy(), batches(data, RECIPE), RECIPE, p) for p in (tmp_path / "whole.ckpt", path))
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_progress_bars_move_between_reports(data: DataPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """An update at the start and one a second; loggers ignore them."""
    clock, seen = Clock(monkeypatch, 0.5), list[Progress]()
    fit(clock.slow(Toy()), batches(data, RECIPE), RECIPE, watch=seen.append, ticks=True)
    assert [(p.step, p.tick) for p in seen[:4]] == [(0, True), (2, True), (4, True), (6, True)]
    assert [p.step for p in seen if not p.tick] == [10, 12] and all(p.steps == 12 for p in seen)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_step_ends_in_a_command_in_the_background_too(
    number: signal.Signals, data: DataPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell ignores Ctrl-C for a command in the background."""
    monkeypatch.setattr(Stopped, "number", number)
    path, before = tmp_path / "S.ckpt", signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_signals() as received, pytest.raises(KeyboardInterrupt):
            fit(Stopped(), batches(data, RECIPE), RECIPE, path)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN and received == [number]
    finally:
        signal.signal(signal.SIGINT, before)
    assert torch.load(path, weights_only=True)["step"] == 7
