"""The one training loop: optimizer, schedule, EMA, checkpoints, exact resume. What a step's losses are is the task's
business."""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nas.core import distributed as processes
from nas.core.compute import autocast, peak_memory_mib, resolve
from nas.core.interrupts import interrupts_between_steps
from nas.core.training_progress import Diverged, Meter, Progress, Watch
from nas.data.loader import Batch, Loader
from nas.supernet.batchnorm import synchronise
from nas.training.checkpoint import read_checkpoint, write_checkpoint
from nas.training.divergence import MIN_SCALE, Guard, stop_if_anywhere
from nas.training.loss import Terms, Truth, at_least_one
from nas.training.optimizers import open_optimizer, ramped_average, rate_factor
from nas.training.recipe import Recipe
from nas.training.validation import Validation
from search_spaces.errors import InputError

REPORT_EVERY = 10
"""Steps."""


class Task(ABC):
    """A model and the losses of one step. ``identity`` names what is trained: a checkpoint of another one is
    refused."""

    model: nn.Module
    identity: str

    @abstractmethod
    def losses(self, images: Tensor, truth: Truth, step: int) -> Iterator[tuple[Tensor, Terms]]:
        """One or more losses; each is back-propagated before the next is asked for. Anything random must derive from
        ``step``."""

    def groups(self, groups: list[dict[str, Any]], lr: float) -> list[dict[str, Any]]:
        """The optimizer's parameter groups, divided further where parts of the model have rates of their own (``lr``:
        that of the others)."""
        return groups

    def compile(self) -> None:
        """Compile the model's forward in place (``torch.compile``)."""
        on_gpu = next(self.model.parameters()).device.type == "cuda"
        # left alone, the compiler chooses channels_last, in which torch 2.13's backward of these networks crashes on
        # CPUs
        self.model.compile(options=None if on_gpu else {"layout_optimization": False})


def fit(
    task: Task,
    loader: Loader,
    recipe: Recipe,
    checkpoint: Path | None = None,
    watch: Watch = lambda progress: None,
    save_every: int = 200,
    validation: Validation | None = None,
) -> nn.Module:
    """Train ``task.model`` in place and return the EMA of it.

    With ``checkpoint``, state is saved there every ``save_every`` steps, at the end and on Ctrl-C, and an existing
    file of the same identity and recipe is continued exactly: same batches, same learning rates, same random choices
    (the data's fingerprint belongs into the identity). Weights are read with ``weights_only``. ``Diverged`` where the
    loss or the gradients are no numbers, or the loss explodes: the checkpoint stays as it was.
    """
    if len(loader) < recipe.accumulate:
        raise InputError(
            f"{len(loader)} batches in an epoch",
            f"{recipe.accumulate}, which make a step",
            "lower accumulate or the batch size",
        )
    run = _Run(task, recipe, loader, checkpoint)
    if checkpoint is not None and checkpoint.exists():
        run.load(checkpoint)
    # ONNX Runtime leaves the thread that opened a session rounding tiny numbers to zero; a training is the same
    # whatever ran in its process before.
    torch.set_flush_denormal(False)
    if recipe.compile:
        task.compile()
    try:
        with interrupts_between_steps() as check, warnings.catch_warnings():
            # GradScaler leaves out first steps whose gradients overflow; the schedule goes on, as it must, and torch
            # takes that for a mistake
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            warnings.filterwarnings(
                "ignore", ".*`functools.lru_cache`-wrapped"
            )  # torch.compile on the grid of anchors, which depends on sizes alone
            _steps(run, watch, save_every, validation, check)
    except KeyboardInterrupt:
        if run.whole:
            run.save()
        raise
    ema: nn.Module = run.ema.module
    return ema


def steps_timed(task: Task, loader: Loader, recipe: Recipe, count: int) -> list[float]:
    """Seconds of each of the first ``count`` steps (fewer where an epoch is shorter), data included; ``task.model``
    is trained by them."""
    run = _Run(task, recipe, loader, None)
    batches = loader.epoch(0)
    seconds = []
    for _ in range(min(count, run.epoch_steps)):
        start = time.monotonic()
        run.train_step(list(islice(batches, recipe.accumulate)))
        if run.device.type == "cuda":
            torch.cuda.synchronize(run.device)
        seconds.append(time.monotonic() - start)
    return seconds


def _steps(run: _Run, watch: Watch, save_every: int, validation: Validation | None, check: Callable[[], None]) -> None:
    for epoch in range(run.step // run.epoch_steps, run.recipe.epochs):
        _missed(run, watch, validation, epoch - 1)
        batches = run.loader.epoch(epoch, run.step % run.epoch_steps * run.recipe.accumulate)
        run.meter.start()
        while run.step < (epoch + 1) * run.epoch_steps:
            images = run.train_step(list(islice(batches, run.recipe.accumulate)))
            run.meter.count(images * processes.count())
            metrics = (
                run.evaluate(validation, epoch)
                if validation is not None and run.step == (epoch + 1) * run.epoch_steps
                else {}
            )
            if run.step % REPORT_EVERY == 0 or run.step == run.steps or metrics:
                watch(run.progress(epoch, metrics))
            if run.step % save_every == 0 or run.step == run.steps:
                run.save()
            check()
            run.meter.start()
    _missed(run, watch, validation, run.recipe.epochs - 1)


def _missed(run: _Run, watch: Watch, validation: Validation | None, epoch: int) -> None:
    """The evaluation of an epoch that was stopped in it."""
    if (
        validation is not None
        and run.step == (epoch + 1) * run.epoch_steps
        and (metrics := run.evaluate(validation, epoch))
    ):
        watch(run.progress(epoch, metrics))
        run.save()


class _Run:
    """The state of a training between two steps: all of it is in a checkpoint."""

    def __init__(self, task: Task, recipe: Recipe, loader: Loader, checkpoint: Path | None) -> None:
        self.task, self.recipe, self.loader, self.checkpoint = task, recipe, loader, checkpoint
        self.device = next(task.model.parameters()).device
        self.epoch_steps = len(loader) // recipe.accumulate
        self.steps = self.epoch_steps * recipe.epochs
        self.step = 0
        self.whole = True  # false in the middle of a step, when there is no state worth saving
        self.saved: tuple[Path, int] | None = None
        self.precision = resolve(recipe.precision, self.device)
        self.optimizer = open_optimizer(task.model, recipe, task.groups)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, rate_factor(recipe, self.steps, self.epoch_steps)
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.ema = AveragedModel(task.model, multi_avg_fn=ramped_average(recipe))
        if processes.count() > 1 and (
            recipe.sync_bn == "on" or (recipe.sync_bn == "auto" and self.device.type == "cuda")
        ):
            synchronise(task.model)
        self.terms: list[Terms] = []
        self.best, self.evaluated = -1.0, 0
        self.guard, self.meter = Guard(), Meter()

    def train_step(self, batches: list[Batch]) -> int:
        """Forward, backward, clip, update; the number of images."""
        self.whole = False
        self.task.model.train()
        scores: list[Tensor] | None = [] if len(batches) > 1 else None
        flaw, culprit = "", batches[0]
        for i, batch in enumerate(batches):
            if (found := self._backward(batch.to(self.device), scores, i, len(batches))) and not flaw:
                flaw, culprit = found, batch
        self._stop_if(flaw, culprit)
        processes.mean_gradients(self.task.model.parameters())
        self._update(scores, batches)
        self.step += 1
        self.whole = True
        return sum(len(batch) for batch in batches)

    def _backward(self, batch: Batch, scores: list[Tensor] | None, index: int, count: int) -> str:
        """Add the gradients of one of a step's ``count`` batches; what is wrong with its losses."""
        images = batch.images.float() / 255.0
        # On CPUs torch 2.13's backward in this layout crashes: in fp32 at once, in bf16 with AMX, where it is a
        # quarter faster, in one training of some ("free(): invalid next size").
        if self.device.type == "cuda" and self.recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        truth = Truth(batch.boxes, batch.labels, batch.image_index, scores=scores)
        losses = self.task.losses(images, truth, self.step)
        flaw, first = "", True
        while True:
            with autocast(self.precision, self.device):
                item = next(losses, None)
            if item is None:
                return flaw
            loss, terms = item
            if found := self.guard.flaw(loss.item(), first and not index):
                flaw = flaw or found
                first = False
                continue  # the other processes of this training must not be left waiting for what this one shares with them
            self.scaler.scale(loss if count == 1 else loss * _weight(scores, index, count)).backward()
            if first:
                self.terms.append(terms)
                first = False

    def _update(self, scores: list[Tensor] | None, batches: list[Batch]) -> None:
        model = self.task.model
        self.scaler.unscale_(self.optimizer)
        if scores:
            factor = len(batches) * at_least_one(scores[0]) / at_least_one(torch.stack(scores).sum())
            torch._foreach_mul_([p.grad for p in model.parameters() if p.grad is not None], factor)
        norm = nn.utils.clip_grad_norm_(model.parameters(), self.recipe.clip_norm)
        # all processes have the same gradients by now, so all of them stop here or none does
        if self.precision != "fp16" and not torch.isfinite(norm):
            self._stop_if(f"the gradients' norm is {norm.item()}", *batches)
        if (
            self.precision == "fp16" and self.scaler.get_scale() < MIN_SCALE
        ):  # one step left out is no failure, dozens in a row are
            self._stop_if("the gradients overflow at every scale of fp16", *batches)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        self.ema.update_parameters(model)

    def _stop_if(self, flaw: str, *batches: Batch) -> None:
        files = [name for batch in batches for name in self.loader.files(batch)] if flaw else []
        stop_if_anywhere(flaw, self.step, files, self.saved, self.checkpoint)

    def evaluate(self, validation: Validation, epoch: int) -> dict[str, float]:
        """Metrics of the averaged weights after an epoch, where they are due and not known yet; the best so far are
        kept."""
        if self.evaluated >= self.step or not validation.due(epoch):  # at step 0, too
            return {}
        metrics = validation.measure(self.ema.module)
        self.evaluated = self.step
        if metrics["map"] > self.best:
            self.best = metrics["map"]
            validation.keep()
        return metrics

    def progress(self, epoch: int, metrics: dict[str, float]) -> Progress:
        """What has happened since the last call."""
        means = {k: float(torch.stack([t[k] for t in self.terms]).mean()) for k in self.terms[0]} if self.terms else {}
        self.terms.clear()
        rate = float(self.schedule.get_last_lr()[0])
        return Progress(
            self.step, self.steps, epoch, means, rate, self.meter.rate(), peak_memory_mib(self.device), metrics
        )

    def _settings(self) -> dict[str, Any]:
        return {
            "identity": self.task.identity,
            "recipe": self.recipe.to_dict(),
            "steps": self.steps,
            "processes": processes.count(),  # BatchNorm sees the share of one: other numbers of them train otherwise
            "augmentation": self.loader.config.augmentation.to_dict(),
        }

    def _state(self) -> dict[str, Any]:
        on_gpu = {"cuda": torch.cuda.get_rng_state(self.device)} if self.device.type == "cuda" else {}
        return {
            **self._settings(),
            "step": self.step,
            "model": self.task.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": {
                "cpu": torch.get_rng_state(),
                **on_gpu,
            },  # nothing here draws from it, but a block of somebody else's may
            "pending": self.terms,
            "best": self.best,
            "evaluated": self.evaluated,
        }

    def save(self) -> None:
        """Write the state, if it is one to go on from. Of several processes one writes: their states are equal."""
        if self.checkpoint is None or processes.rank():
            return
        weights = [*self.task.model.state_dict().values(), *self.ema.module.state_dict().values()]
        if not all(bool(torch.isfinite(t).all()) for t in weights if t.is_floating_point()):
            raise Diverged(
                f"the weights are no numbers at step {self.step}; {self.saved[0] if self.saved else 'no checkpoint'} is left as it was"
            )
        write_checkpoint(self.checkpoint, self._state())
        self.saved = self.checkpoint, self.step

    def load(self, path: Path) -> None:
        """Continue a checkpoint of the same training."""
        state = read_checkpoint(path, self.device, self._settings(), self._state())
        self.task.model.load_state_dict(state["model"])
        for name in ("ema", "optimizer", "schedule", "scaler"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.saved = state["step"], (path, state["step"])
        self.terms, self.best, self.evaluated = (
            list(state.get("pending", [])),
            state.get("best", -1.0),
            state.get("evaluated", 0),
        )
        if random := state.get("random"):
            torch.set_rng_state(random["cpu"].cpu())
            if "cuda" in random and self.device.type == "cuda":
                torch.cuda.set_rng_state(random["cuda"].cpu(), self.device)


def _weight(scores: list[Tensor] | None, index: int, count: int) -> Tensor | float:
    """A batch's share in its step: by the assigned scores its loss was divided by, relative to the first batch's; the
    last of it is done in the update.

    So ``count`` batches have the gradients of one as large as all of them. Losses that tell no scores count alike.
    """
    return at_least_one(scores[index]) / (count * at_least_one(scores[0])) if scores else 1.0 / count
