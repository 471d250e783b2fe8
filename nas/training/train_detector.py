"""Training of detectors: one, in one process or several, or several side by side."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nas.core import distributed as processes
from nas.core.architecture_file import Artifact
from nas.core.atomic import atomic_write
from nas.core.compute import device_of
from nas.core.estimate import Candidate, Estimate
from nas.core.references import with_classes_of
from nas.core.reporter import Reporter
from nas.core.training_progress import Progress, Watch
from nas.inference.coco_metrics import Metrics
from nas.supernet.weights import load_detector, save_detector
from nas.training.checkpoint import remove_checkpoint
from nas.training.data import reporting_new_problems
from nas.training.initialization import build_task, detector_of, initialize
from nas.training.job import TrainJob
from nas.training.loggers import Logged
from nas.training.loop import fit
from nas.training.output import exclusive_output, finished_record
from nas.training.validation import Validation, calibrate, detect_and_score
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.spaces import space_of
from search_spaces.trace import trace


def train_detector(artifact: Artifact, job: TrainJob, path: Path, reporter: Reporter) -> Metrics:
    """Train one architecture and return the metrics of its EMA weights on the whole val split.

    The classes are those of the data set. Weights are written to ``path`` (safetensors), the metrics beside it. An
    interrupted training resumes from the checkpoint beside ``path``; a finished one is not repeated. Raises
    InputError for settings that do not go together, or if ``path`` holds other weights or another process writes it,
    and Diverged if the loss diverges.
    """
    artifact = with_classes_of(artifact, job.data)
    job.check(artifact)
    with exclusive_output(path):
        if _is_finished(artifact, path, job):
            reporter.note(f"{path} holds the finished weights of this training")
        else:
            _train(artifact, job, path, reporter)
        return _finish(path)


def _train(artifact: Artifact, job: TrainJob, path: Path, reporter: Reporter) -> None:
    if job.init is not None:
        for line in initialize(artifact, job.init)[1].lines():
            reporter.note(f"{job.init.name}: {line}")
    with (
        reporting_new_problems(job.data, reporter),
        reporter.training(f"train {artifact.name}") as watch,
        Logged(watch, job.logging.loggers, path, _log_settings(artifact, job)) as logged,
    ):
        processes.launch(partial(_fit_detector, artifact, job, path), job.compute.processes, logged)


def _log_settings(artifact: Artifact, job: TrainJob) -> dict[str, Any]:
    return {"architecture": artifact.architecture.id, **job.provenance()}


def train_detectors(
    artifacts: Sequence[Artifact],
    job: TrainJob | Sequence[TrainJob],
    folder: Path,
    reporter: Reporter,
    max_parallel: int | None = None,
) -> list[Metrics]:
    """Train several architectures side by side, one process each, and return the metrics of each.

    What an earlier call has finished is not repeated. A network that occurs twice is trained once. On a CPU, small
    networks train faster side by side, each on few cores, than one after the other on all cores: their operators are
    too short to be divided.

    Args:
        artifacts: architectures; the weights of each are written to ``<folder>/<name>.safetensors``.
        job: how they are trained: one job for all, or one for each.
        folder: output folder.
        reporter: receives notes and one progress bar per training.
        max_parallel: trainings that run concurrently (default: one per core, on a GPU one).

    Raises:
        InputError: settings that do not go together, several processes for one training, or an output file that
            holds other weights or that another process writes.
        Diverged: the loss of one training diverges.
    """
    jobs = [job] * len(artifacts) if isinstance(job, TrainJob) else list(job)
    plans = [
        _Plan(with_classes_of(artifact, one.data), one, folder / f"{artifact.name}.safetensors")
        for artifact, one in zip(artifacts, jobs, strict=True)
    ]
    for plan in plans:
        plan.job.check(plan.artifact)
        if plan.job.compute.processes > 1:
            raise InputError(f"{plan.job.compute.processes} processes for each of several trainings", "1 process each")
    with ExitStack() as stack:
        for plan in plans:
            stack.enter_context(exclusive_output(plan.path))
        remaining = [plan for plan in plans if not _is_finished(plan.artifact, plan.path, plan.job)]
        # S and M of a short front may be one network. The same training of it gives the same weights.
        firsts: dict[str, _Plan] = {}
        for plan in plans:
            firsts.setdefault(plan.key, plan)
        if ours := [plan for plan in remaining if firsts[plan.key] is plan]:
            _train_remaining(ours, reporter, max_parallel)
        for plan in remaining:
            if (first := firsts[plan.key]) is not plan:
                reporter.note(f"{plan.artifact.name} is the network of {first.artifact.name}: its weights are copied")
                detector, _, record = load_detector(first.path)
                save_detector(plan.path, detector, plan.artifact, record)
                log, own = (one.path.with_suffix(".log.csv") for one in (first, plan))
                if log.exists():  # loggers may be off
                    atomic_write(own, log.read_bytes())
        return [_finish(plan.path) for plan in plans]


@dataclass(frozen=True)
class _Plan:
    """One of several trainings and its output file."""

    artifact: Artifact
    job: TrainJob
    path: Path

    def fit(self, watch: Watch) -> None:
        _fit_detector(self.artifact, self.job, self.path, watch)

    @property
    def key(self) -> str:
        return training_key(self.artifact, self.job)

    @property
    def macs(self) -> int:
        architecture = self.artifact.architecture
        return trace(space_of(architecture).graph(architecture), self.artifact.num_classes).macs


def training_key(artifact: Artifact, job: TrainJob) -> str:
    """Return a text that is equal for two trainings of equal weights."""
    own = artifact.name if job.logging.keep_best else ""  # such a training writes a second file
    choices = artifact.architecture.id
    return json.dumps([own, choices, job.provenance(), job.augmentation.to_dict(), str(job.init)])


def _train_remaining(plans: list[_Plan], reporter: Reporter, max_parallel: int | None) -> None:
    plans = sorted(plans, key=lambda plan: -plan.macs)  # the longest first: the others fill the time that it leaves
    on_cpu = device_of(plans[0].job.compute.device).type == "cpu"
    max_parallel = max_parallel or (processes.cores() if on_cpu else 1)
    with reporter.trainings([f"train {plan.artifact.name}" for plan in plans]) as watches, ExitStack() as stack:
        logged = []
        for plan, watch in zip(plans, watches, strict=True):
            settings = _log_settings(plan.artifact, plan.job)
            logged.append(stack.enter_context(Logged(watch, plan.job.logging.loggers, plan.path, settings)))
        processes.run_each([plan.fit for plan in plans], min(max_parallel, len(plans)), logged)


def _is_finished(artifact: Artifact, path: Path, job: TrainJob) -> bool:
    record = finished_record(artifact, path, job)
    return record is not None and "metrics" in record


def _finish(path: Path) -> Metrics:
    """Write the metrics of finished weights beside them, remove the checkpoint, and return the metrics."""
    _, _, record = load_detector(path)
    if not processes.rank():
        atomic_write(path.with_suffix(".metrics.json"), json.dumps(record, indent=2) + "\n")
    remove_checkpoint(path.with_suffix(".ckpt"))
    return Metrics.from_dict(record["metrics"], f"{path}: metrics")


def _fit_detector(artifact: Artifact, job: TrainJob, path: Path, watch: Watch) -> None:
    """Train, write the weights, evaluate them, and write them again with their metrics.

    Weights that an earlier call wrote but did not evaluate are evaluated only.
    """
    data, recipe = job.images, job.recipe
    torch.manual_seed(recipe.seed)
    detector, transfer = initialize(artifact, job.init)
    detector.to(device_of(job.compute.device))
    size = artifact.architecture.image_size
    loader = job.batches(size)
    steps = len(loader) // recipe.accumulate * recipe.epochs
    record = {**job.provenance(), **job.ancestors(), "augmentation": job.augmentation.to_dict()}
    if job.init is not None:
        record["transfer"] = transfer.to_dict()

    def phase(name: str) -> Callable[[int, int], None]:
        return partial(_report_phase, watch, name, steps, recipe.epochs)

    def write(file: Path, trained: Detector, metrics: Metrics | None) -> None:
        measured = {} if metrics is None else {"metrics": metrics.to_dict()}
        save_detector(file, trained, artifact, {**measured, **record})

    if path.exists():
        trained = load_detector(path)[0].to(device_of(job.compute.device))
    else:
        best = partial(write, path.with_suffix(".best.safetensors")) if job.logging.keep_best else None
        every = job.logging.eval_every
        validation = Validation(every, data, size, _copy, best, job.frozen_cells) if every else None
        task = build_task(detector, artifact, job, steps)
        checkpoint = path.with_suffix(".ckpt")
        trained = detector_of(fit(task, loader, recipe, checkpoint, watch, validation=validation, ticks=True))
        calibrate(trained, data, size, job.frozen_cells(trained))
        if not processes.rank():
            write(path, trained, None)
    metrics = detect_and_score(trained, data, size, phase("evaluating"), interval=True)
    if not processes.rank():
        write(path, trained, metrics)
    processes.gather(None)  # no process continues before the file is written


def _report_phase(watch: Watch, name: str, steps: int, epochs: int, done: int, total: int) -> None:
    watch(Progress(steps, steps, epochs - 1, {}, 0.0, tick=True, phase=f"{name} {done}/{total} images"))


def _copy(ema: torch.nn.Module) -> Detector:
    return copy.deepcopy(detector_of(ema))


def final_candidate(artifact: Artifact, metrics: Metrics) -> Candidate:
    """Return the architecture as a candidate whose mAP is that of its trained weights instead of the estimate."""
    candidate = Candidate(artifact.architecture, artifact.estimates, artifact.study.trial)
    low, high = metrics.map_interval or (None, None)
    return candidate.with_estimate(Estimate("map", metrics.map, low=low, high=high, source="trained"))
