"""The training loop: steps, evaluations, checkpoints and exact resume."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from nas.core import distributed as processes
from nas.core.interrupts import interrupts_between_steps
from nas.core.training_progress import Watch
from nas.data.loader import Loader
from nas.training.recipe import Recipe
from nas.training.state import TrainingState
from nas.training.task import Task
from nas.training.validation import Validation
from search_spaces.errors import InputError

__all__ = ["Task", "fit", "steps_timed"]

REPORT_EVERY = 10
"""Steps between two reports, which loggers keep."""
SAVE_EVERY_S = 45.0
"""Seconds between two checkpoints. With the duration of a step and of a checkpoint, a kill loses about a minute."""
TICK_EVERY_S = 1.0
"""Seconds between two updates of a progress bar."""


def fit(
    task: Task,
    loader: Loader,
    recipe: Recipe,
    checkpoint: Path | None = None,
    watch: Watch = lambda progress: None,
    save_every: int | None = None,
    validation: Validation | None = None,
    ticks: bool = False,
) -> nn.Module:
    """Train ``task.model`` in place and return its exponential moving average (EMA).

    State is saved to ``checkpoint`` every :data:`SAVE_EVERY_S` seconds, before and after an evaluation, at the end,
    and on Ctrl-C or SIGTERM. An existing checkpoint of the same identity and recipe is resumed exactly: same batches,
    same learning rates, same random choices. The identity must therefore contain the fingerprint of the data.

    Args:
        task: the model and its losses.
        loader: training batches.
        recipe: hyperparameters.
        checkpoint: file of the training state; None saves nothing.
        watch: receives a report every :data:`REPORT_EVERY` steps, at every evaluation and at the end.
        save_every: save every so many steps as well.
        validation: evaluations during the training.
        ticks: also send ``watch`` an update without losses about once a second (``Progress.tick``).

    Returns:
        The EMA model.

    Raises:
        Diverged: the loss or the gradients are not finite, or the loss explodes. The checkpoint stays as it was.
        InputError: an epoch has fewer batches than one step, or the checkpoint is of another training.
    """
    if len(loader) < recipe.accumulate:
        raise InputError(
            f"{len(loader)} batches in an epoch",
            f"{recipe.accumulate}, which make a step",
            "lower accumulate or the batch size",
        )
    state = TrainingState(task, recipe, loader, checkpoint)
    if checkpoint is not None and checkpoint.exists():
        state.load(checkpoint)
    # ONNX Runtime leaves the thread that opened a session in a mode that rounds denormal numbers to zero. A training
    # must not depend on what ran in its process before.
    torch.set_flush_denormal(False)
    if recipe.compile:
        task.compile()
    try:
        with interrupts_between_steps() as check, _ignored_warnings():
            _Loop(state, watch, check, save_every, validation, ticks).run()
    except KeyboardInterrupt:
        if state.complete:
            state.save()
        raise
    ema: nn.Module = state.ema.module
    return ema


@contextmanager
def _ignored_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        # GradScaler skips first steps whose gradients overflow. The schedule advances, as it must, and torch takes
        # that for a mistake.
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        # torch.compile of the grid of anchor points, which depends on sizes alone
        warnings.filterwarnings("ignore", ".*`functools.lru_cache`-wrapped")
        yield


def steps_timed(task: Task, loader: Loader, recipe: Recipe, count: int) -> list[float]:
    """Train ``task.model`` for ``count`` steps, at most one epoch, and return the seconds of each, data included."""
    state = TrainingState(task, recipe, loader, None)
    batches = loader.epoch(0)
    seconds = []
    for _ in range(min(count, state.epoch_steps)):
        start = time.monotonic()
        state.train_step(list(islice(batches, recipe.accumulate)))
        if state.device.type == "cuda":
            torch.cuda.synchronize(state.device)
        seconds.append(time.monotonic() - start)
    return seconds


@dataclass
class _Loop:
    """The steps of one training from its state on. ``check`` raises KeyboardInterrupt after a Ctrl-C."""

    state: TrainingState
    watch: Watch
    check: Callable[[], None]
    save_every: int | None
    validation: Validation | None
    ticks: bool

    def __post_init__(self) -> None:
        self._saved_at = self._ticked_at = time.monotonic()

    def run(self) -> None:
        state = self.state
        self._tick(force=True)
        for epoch in range(state.step // state.epoch_steps, state.recipe.epochs):
            self._missed_evaluation(epoch - 1)
            batches = state.loader.epoch(epoch, state.step % state.epoch_steps * state.recipe.accumulate)
            state.meter.start()
            while state.step < (epoch + 1) * state.epoch_steps:
                images = state.train_step(list(islice(batches, state.recipe.accumulate)))
                state.meter.count(images * processes.world_size())
                self._after_step(epoch)
                self.check()
                state.meter.start()
        self._missed_evaluation(state.recipe.epochs - 1)

    def _after_step(self, epoch: int) -> None:
        """Evaluate, report and save, each where it is due."""
        state = self.state
        metrics: dict[str, float] = {}
        if self.validation is not None and state.step == (epoch + 1) * state.epoch_steps:
            metrics = self._evaluate(self.validation, epoch)
        if state.step % REPORT_EVERY == 0 or state.step == state.steps or metrics:
            self._ticked_at = time.monotonic()
            self.watch(state.progress(epoch, metrics))
        else:
            self._tick()
        due = self.save_every is not None and state.step % self.save_every == 0
        if due or metrics or state.step == state.steps or time.monotonic() - self._saved_at >= SAVE_EVERY_S:
            self._save()

    def _evaluate(self, validation: Validation, epoch: int) -> dict[str, float]:
        if self.state.evaluation_due(validation, epoch):
            self._save()  # an evaluation may take minutes
        return self.state.evaluate(validation, epoch)

    def _missed_evaluation(self, epoch: int) -> None:
        """Repeat the evaluation of an epoch that was interrupted while it ran."""
        state = self.state
        if self.validation is None or state.step != (epoch + 1) * state.epoch_steps:
            return
        if metrics := state.evaluate(self.validation, epoch):
            self.watch(state.progress(epoch, metrics))
            self._save()

    def _save(self) -> None:
        self.state.save()
        self._saved_at = time.monotonic()

    def _tick(self, force: bool = False) -> None:
        now = time.monotonic()
        if self.ticks and (force or now - self._ticked_at >= TICK_EVERY_S):
            self._ticked_at = now
            self.watch(self.state.tick())
