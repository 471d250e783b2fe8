"""The state of a training between two steps, all of which is in its checkpoints; and the step itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nas.core import distributed as processes
from nas.core.compute import autocast, peak_memory_mib, resolve
from nas.core.training_progress import Diverged, Meter, Progress
from nas.data.loader import Batch, Loader
from nas.supernet.batchnorm import convert_sync_batchnorm
from nas.training.checkpoint import read_checkpoint, write_checkpoint
from nas.training.divergence import MIN_SCALE, Guard, stop_if_anywhere
from nas.training.loss import Terms, Truth, at_least_one
from nas.training.optimizers import ema_update, learning_rate_factor, open_optimizer
from nas.training.recipe import Recipe
from nas.training.task import Task
from nas.training.validation import Validation


class TrainingState:
    """Model, EMA, optimizer, schedule and counters of a training. ``step`` counts the finished steps."""

    def __init__(self, task: Task, recipe: Recipe, loader: Loader, checkpoint: Path | None) -> None:
        self.task, self.recipe, self.loader, self.checkpoint = task, recipe, loader, checkpoint
        self.device = next(task.model.parameters()).device
        self.epoch_steps = len(loader) // recipe.accumulate
        self.steps = self.epoch_steps * recipe.epochs
        self.step = 0
        self.complete = True
        """False in the middle of a step, when there is no state worth saving."""
        self.saved: tuple[Path, int] | None = None
        self.precision = resolve(recipe.precision, self.device)
        self.optimizer = open_optimizer(task.model, recipe, task.groups)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, learning_rate_factor(recipe, self.steps, self.epoch_steps)
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.ema = AveragedModel(task.model, multi_avg_fn=ema_update(recipe))
        if processes.world_size() > 1 and (
            recipe.sync_bn == "on" or (recipe.sync_bn == "auto" and self.device.type == "cuda")
        ):
            convert_sync_batchnorm(task.model)
        self.terms: list[Terms] = []
        self.best, self.evaluated = -1.0, 0
        self.guard, self.meter = Guard(), Meter()

    def train_step(self, batches: list[Batch]) -> int:
        """Run forward, backward, clipping and update on the batches of one step; return the number of images. Raises
        Diverged if loss or gradients are not finite or the loss explodes."""
        self.complete = False
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
        self.complete = True
        return sum(len(batch) for batch in batches)

    def _backward(self, batch: Batch, scores: list[Tensor] | None, index: int, count: int) -> str:
        """Add the gradients of one of a step's ``count`` batches; return what is wrong with its losses, or nothing."""
        images = batch.images.float() / 255.0
        # On CPUs, torch 2.13's backward in channels_last crashes: in fp32 at once, in bf16 with AMX, where it is a
        # quarter faster, in some trainings ("free(): invalid next size").
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
                continue  # the other processes of this training wait for what this one shares with them
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
        # All processes have the same gradients by now: all of them stop here, or none does.
        if self.precision != "fp16" and not torch.isfinite(norm):
            self._stop_if(f"the gradients' norm is {norm.item()}", *batches)
        # One skipped step is normal in fp16, dozens in a row are not.
        if self.precision == "fp16" and self.scaler.get_scale() < MIN_SCALE:
            self._stop_if("the gradients overflow at every scale of fp16", *batches)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        self.ema.update_parameters(model)

    def _stop_if(self, flaw: str, *batches: Batch) -> None:
        files = [name for batch in batches for name in self.loader.files(batch)] if flaw else []
        stop_if_anywhere(flaw, self.step, files, self.saved, self.checkpoint)

    def evaluation_due(self, validation: Validation, epoch: int) -> bool:
        """Return whether an evaluation of the EMA weights is due after this epoch and has not been made yet."""
        return self.evaluated < self.step and validation.due(epoch)  # also false at step 0

    def evaluate(self, validation: Validation, epoch: int) -> dict[str, float]:
        """Return the metrics of the EMA weights after an epoch, where they are due, and keep the best weights."""
        if not self.evaluation_due(validation, epoch):
            return {}
        metrics = validation.measure(self.ema.module)
        self.evaluated = self.step
        if metrics["map"] > self.best:
            self.best = metrics["map"]
            validation.keep()
        return metrics

    def progress(self, epoch: int, metrics: dict[str, float]) -> Progress:
        """Return the report of the steps since the last call."""
        means = {k: float(torch.stack([t[k] for t in self.terms]).mean()) for k in self.terms[0]} if self.terms else {}
        self.terms.clear()
        return Progress(
            self.step, self.steps, epoch, means, self._rate, self.meter.rate(), peak_memory_mib(self.device), metrics
        )

    def tick(self) -> Progress:
        """Return the number of finished steps, for a progress bar."""
        return Progress(self.step, self.steps, self.step // self.epoch_steps, {}, self._rate, tick=True)

    @property
    def _rate(self) -> float:
        return float(self.schedule.get_last_lr()[0])

    def _settings(self) -> dict[str, Any]:
        return {
            "identity": self.task.identity,
            "recipe": self.recipe.to_dict(),
            "steps": self.steps,
            # BatchNorm sees the share of one process: another number of processes trains otherwise
            "processes": processes.world_size(),
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
            # unused by this package, but a user's block may draw from the global generator, as dropout does
            "random": {"cpu": torch.get_rng_state(), **on_gpu},
            "pending": self.terms,
            "best": self.best,
            "evaluated": self.evaluated,
        }

    def save(self) -> None:
        """Write the checkpoint, in process 0: the states of all processes are equal. Raises Diverged if a weight is
        not finite; the checkpoint then stays as it was."""
        if self.checkpoint is None or processes.rank():
            return
        weights = [*self.task.model.state_dict().values(), *self.ema.module.state_dict().values()]
        if not all(bool(torch.isfinite(t).all()) for t in weights if t.is_floating_point()):
            kept = self.saved[0] if self.saved else "no checkpoint"
            raise Diverged(f"the weights are no numbers at step {self.step}; {kept} is left as it was")
        write_checkpoint(self.checkpoint, self._state())
        self.saved = self.checkpoint, self.step

    def load(self, path: Path) -> None:
        """Resume from a checkpoint. Raises InputError if it cannot be read or is of another training."""
        state = read_checkpoint(path, self.device, self._settings(), self._state())
        self.task.model.load_state_dict(state["model"])
        for name in ("ema", "optimizer", "schedule", "scaler"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.saved = state["step"], (path, state["step"])
        self.terms = list(state.get("pending", []))
        self.best, self.evaluated = state.get("best", -1.0), state.get("evaluated", 0)
        if random := state.get("random"):
            torch.set_rng_state(random["cpu"].cpu())
            if "cuda" in random and self.device.type == "cuda":
                torch.cuda.set_rng_state(random["cuda"].cpu(), self.device)


def _weight(scores: list[Tensor] | None, index: int, count: int) -> Tensor | float:
    """Return the weight of one of a step's ``count`` batches.

    The loss of batch i is divided by its sum of assigned scores S_i. Its weight is S_i / (count * S_0); the update
    multiplies by count * S_0 / sum(S), so that the step has the gradients of one batch as large as all of them.
    Losses without scores have equal weights.
    """
    return at_least_one(scores[index]) / (count * at_least_one(scores[0])) if scores else 1.0 / count
