"""The one training loop: optimizer, schedule, EMA, checkpoints, exact resume. What a step's losses are is the task's business."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nas.data.loader import Batch, Loader
from nas.training import processes
from nas.training.loss import Terms, Truth
from nas.training.precision import autocast, resolve
from nas.training.progress import Diverged, Progress, Watch
from nas.training.recipe import Recipe
from search_spaces.errors import InputError


class Task(ABC):
    """A model and the losses of one step. ``identity`` names what is trained: a checkpoint of another one is refused."""

    model: nn.Module
    identity: str

    @abstractmethod
    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        """One or more losses; each is back-propagated before the next is asked for. Anything random must derive from ``step``."""

    def groups(self, groups: list[dict[str, Any]], lr: float) -> list[dict[str, Any]]:
        """The optimizer's parameter groups, divided further where parts of the model have rates of their own (``lr``: that of the others)."""
        return groups


def fit(
    task: Task,
    loader: Loader,
    recipe: Recipe,
    checkpoint: Path | None = None,
    watch: Watch = lambda progress: None,
    save_every: int = 200,
) -> nn.Module:
    """Train ``task.model`` in place and return the EMA of it.

    With ``checkpoint``, state is saved there every ``save_every`` steps, at the end and on Ctrl-C, and an existing file of the same identity and recipe is
    continued exactly: same batches, same learning rates, same random choices (the data's fingerprint belongs into the identity). Weights are read with
    ``weights_only``.
    """
    device = next(task.model.parameters()).device
    run = _Run(task, recipe, len(loader) * recipe.epochs, device)
    if checkpoint is not None and checkpoint.exists():
        run.load(checkpoint)
    try:
        with _interrupts_between_steps() as check:
            _steps(run, loader, checkpoint, watch, save_every, check)
    except KeyboardInterrupt:
        if checkpoint is not None and run.whole:
            run.save(checkpoint)
        raise
    ema: nn.Module = run.ema.module
    return ema


def _steps(run: _Run, loader: Loader, checkpoint: Path | None, watch: Watch, save_every: int, check: Callable[[], None]) -> None:
    for epoch in range(run.step // len(loader), run.recipe.epochs):
        for batch in loader.epoch(epoch, run.step % len(loader)):
            run.train_step(batch.to(run.device))
            check()
            if run.step % 10 == 0 or run.step == run.steps:
                watch(Progress(run.step, run.steps, epoch, run.mean_terms(), float(run.schedule.get_last_lr()[0])))
            if checkpoint is not None and (run.step % save_every == 0 or run.step == run.steps):
                run.save(checkpoint)


@contextlib.contextmanager
def _interrupts_between_steps() -> Iterator[Callable[[], None]]:
    """Ctrl-C waits for ``check()``, called between steps: from the middle of one nothing can be continued exactly. Pressed twice, it does not wait.

    A program that handles the signal itself keeps its handler.
    """
    pressed = False

    def note(number: int, frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield check
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _Run:
    """The state of a training between two steps: all of it is in a checkpoint."""

    def __init__(self, task: Task, recipe: Recipe, steps: int, device: torch.device) -> None:
        self.task, self.recipe, self.steps, self.device = task, recipe, steps, device
        self.step = 0
        self.whole = True  # false in the middle of a step, when there is no state worth saving
        self.precision = resolve(recipe.precision, device)
        self.optimizer = torch.optim.AdamW(task.groups(_groups(task.model, recipe.weight_decay), recipe.lr), lr=recipe.lr, fused=True)
        warmup = min(recipe.warmup_steps, max(1, steps // 5))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: _factor(step, steps, warmup, recipe.final_lr))
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "fp16")
        self.ema = AveragedModel(task.model, multi_avg_fn=_ramped(recipe.ema_decay))
        self.terms: list[Terms] = []

    def train_step(self, batch: Batch) -> None:
        """Forward, backward, clip, update."""
        self.whole = False
        self.task.model.train()
        images = batch.images.float() / 255.0
        if self.device.type == "cuda":  # on CPUs the layout gains nothing, and torch 2.13's backward in it crashed on AVX2 machines
            images = images.contiguous(memory_format=torch.channels_last)
        truth = Truth(batch.boxes, batch.labels, batch.image_index)
        losses = self.task.losses(images, truth, self.step)
        bad: float | None = None
        first = True
        while True:
            with autocast(self.precision, self.device):
                item = next(losses, None)
            if item is None:
                break
            loss, terms = item
            if not torch.isfinite(loss):
                bad = loss.item()
                continue  # the other processes of this training must not be left waiting for what this one shares with them
            self.scaler.scale(loss).backward()
            if first:
                self.terms.append(terms)
                first = False
        if processes.anywhere(bad is not None):
            raise Diverged(f"the loss is {bad} at step {self.step} (pictures {batch.sample_ids[:4]}…); lower the learning rate or check the data")
        processes.mean_gradients(self.task.model.parameters())
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.task.model.parameters(), self.recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        self.ema.update_parameters(self.task.model)
        self.step += 1
        self.whole = True

    def mean_terms(self) -> dict[str, float]:
        """Mean of the terms since the last call."""
        means = {k: float(torch.stack([t[k] for t in self.terms]).mean()) for k in self.terms[0]} if self.terms else {}
        self.terms.clear()
        return means

    def _state(self) -> dict[str, Any]:
        return {
            "identity": self.task.identity,
            "recipe": self.recipe.to_dict(),
            "steps": self.steps,
            "processes": processes.count(),  # BatchNorm sees the share of one: other numbers of them train otherwise
            "step": self.step,
            "model": self.task.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def save(self, path: Path) -> None:
        """Write beside, then replace: a kill leaves the old file or the new one. Of several processes one writes: their states are equal."""
        if processes.rank():
            return
        part = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(self._state(), part)
            os.replace(part, path)
        except (OSError, RuntimeError) as error:  # torch wraps a full disk in a RuntimeError
            with contextlib.suppress(OSError):
                part.unlink()
            raise InputError(f"checkpoint {path} cannot be written ({error})", "a writable folder with free space") from None

    def load(self, path: Path) -> None:
        """Continue a checkpoint of the same training."""
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as error:  # noqa: BLE001 - what a damaged file raises depends on where it is damaged
            raise InputError(
                f"checkpoint {path} cannot be read ({type(error).__name__})", "a file this program wrote", "delete it to start anew"
            ) from None
        if not isinstance(state, dict) or not self._state().keys() <= state.keys():
            raise InputError(f"{path} is not a checkpoint of a training", "a file this program wrote", "delete it to start anew")
        for name in ("identity", "recipe", "steps", "processes"):
            mine = self._state()[name]
            if state.get(name) != mine:
                raise InputError(
                    f"checkpoint {path} is of {name} {state.get(name)!r}", repr(mine), "use another folder, or the settings it began with"
                )
        self.task.model.load_state_dict(state["model"])
        for name in ("ema", "optimizer", "schedule", "scaler"):
            getattr(self, name).load_state_dict(state[name])
        self.step = state["step"]


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]


def _factor(step: int, steps: int, warmup: int, final: float) -> float:
    """Learning-rate factor: linear from 1/warmup to 1, then a cosine to ``final``."""
    if step < warmup:
        return (step + 1) / warmup
    share = min(1.0, (step - warmup) / max(1, steps - warmup))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * share))


def _ramped(decay: float) -> Callable[..., None]:
    """EMA with the ramp min(decay, (1 + t) / (10 + t)), so that the first steps do not linger."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        t = int(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + t) / (10 + t)))

    return update
