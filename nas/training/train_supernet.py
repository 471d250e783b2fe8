"""Training of the shared weights of a search space, in one process or several."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from nas.core import distributed as processes
from nas.core.compute import device_of
from nas.core.reporter import Reporter
from nas.core.training_progress import Progress, Watch
from nas.supernet.supernet import Supernet
from nas.supernet.weights import load_supernet, save_supernet
from nas.training.checkpoint import remove_checkpoint
from nas.training.data import reporting_new_problems
from nas.training.job import TrainJob, initial_weights
from nas.training.loggers import Logged
from nas.training.loop import fit
from nas.training.output import exclusive_output, finished_supernet
from nas.training.supernet_initialization import initial_supernet
from nas.training.tasks import SandwichTask
from nas.training.validation import Validation
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace

MIN_RAMP_STEPS = 500
"""Steps in which the weight of in-place distillation rises, where the largest network has no steps of its own."""
RAMP_STEPS_TRAINED = 50
"""The same where the supernet begins with trained weights."""
WEIGHT_TRAINED = 1 / 3
"""Weight of the loss of each smaller network where the supernet begins with trained weights, so that all three together
count as much as the largest."""


def train_supernet(space: SearchSpace, job: TrainJob, path: Path, reporter: Reporter) -> Supernet:
    """Train a supernet by the sandwich rule, write its EMA weights to ``path``, and return it.

    Each step draws one of the image sizes of the space, since weights that have seen images of one size only detect
    poorly at another (Once-for-all trains elastic resolutions in this way, arXiv:1908.09791).

    An interrupted training resumes from the checkpoint beside ``path``; a finished one is not repeated. Raises
    InputError for settings that do not go together, or if ``path`` holds other weights or another process writes it,
    and Diverged if the loss diverges.
    """
    job.check()
    if job.logging.keep_best:
        raise InputError(
            "the best of a supernet", "--keep last", "its mAP while training is its largest architecture's alone"
        )
    with exclusive_output(path):
        if (finished := finished_supernet(space, path, job)) is not None:
            reporter.note(f"{path} holds the finished weights of this training")
        else:
            _train(space, job, path, reporter)
            finished = load_supernet(path)[0]
        remove_checkpoint(path.with_suffix(".ckpt"))
    return finished.to(device_of(job.compute.device))


def _train(space: SearchSpace, job: TrainJob, path: Path, reporter: Reporter) -> None:
    settings = {"space": space.name, **job.provenance()}
    with (
        reporting_new_problems(job.data, reporter),
        reporter.training("supernet") as watch,
        Logged(watch, job.logging.loggers, path, settings) as logged,
    ):
        processes.launch(partial(_fit_supernet, space, job, path), job.compute.processes, logged)


def _fit_supernet(space: SearchSpace, job: TrainJob, path: Path, watch: Watch) -> None:
    data, recipe = job.images, job.recipe
    torch.manual_seed(recipe.seed)
    if job.init is not None:
        watch(Progress(0, 1, 0, {}, 0.0, tick=True, phase=f"copying the weights of {job.init.name}"))
    supernet = initial_supernet(space, data.classes, job.init).to(device_of(job.compute.device))
    values = {c.name: c.values for c in space.choices}
    loader = job.batches(*space.image_sizes)
    largest_only = round(recipe.largest_first * recipe.epochs * (len(loader) // recipe.accumulate))
    ramp = RAMP_STEPS_TRAINED if job.init is not None else largest_only or MIN_RAMP_STEPS
    task = SandwichTask(
        supernet,
        f"supernet {space.name}@{space.version} {values} {data.fingerprint}"
        + (" at all image sizes" if len(space.image_sizes) > 1 else "")
        + (f" from {initial_weights(job.init)} weight {WEIGHT_TRAINED:.3g}" if job.init is not None else ""),
        recipe.seed,
        ramp_steps=ramp,
        largest_only_steps=largest_only,
        loss=recipe.loss(),
        weight=1.0 if job.init is None else WEIGHT_TRAINED,
    )
    every = job.logging.eval_every
    validation = Validation(every, data, space.largest.image_size, partial(_largest, space)) if every else None
    ema = fit(task, loader, recipe, path.with_suffix(".ckpt"), watch, validation=validation, ticks=True)
    assert isinstance(ema, Supernet)
    if not processes.rank():
        sizes = [size.value for size in space.image_sizes]
        record = {
            "recipe": recipe.to_dict(),
            "data": data.fingerprint,
            "augmentation": job.augmentation.to_dict(),
            "image_sizes": sizes,
        }
        if job.init is not None:
            record |= {"from": initial_weights(job.init), **job.ancestors()}
        save_supernet(path, ema, data.classes, record)
    processes.gather(None)  # no process continues before the file is written


def _largest(space: SearchSpace, ema: torch.nn.Module) -> Detector:
    assert isinstance(ema, Supernet)
    return ema.extract(space.largest)
