"""The executor of a search, by its settings and the hardware of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from latency_db.runtimes import RUNTIMES
from nas.core.compute import device_of
from nas.core.reporter import Reporter
from nas.estimators.base import Estimator
from nas.search.estimation import open_compute_estimators
from nas.search.executors.base import Executor
from nas.search.executors.inline import InlineExecutor
from nas.search.executors.local import LocalExecutor, threads_of
from nas.search.plan import SearchPlan
from nas.search.settings import SearchSettings
from nas.search.tasks import COMPUTE, DEVICE
from nas.supernet.weights import load_supernet
from nas.training.data import open_training_data


@contextmanager
def open_executor(
    plan: SearchPlan, num_classes: int, weights: Path | None, estimators: Sequence[Estimator], reporter: Reporter
) -> Iterator[Executor]:
    """Open the executor of a search.

    With one worker, latencies and accuracies overlap only if they are on different hardware.

    Args:
        plan: The plan.
        num_classes: Number of classes of the detectors.
        weights: File of the supernet; None without.
        estimators: All estimators of a candidate, open in this process.
        reporter: Receives a note about the workers.
    """
    device = [e for e in estimators if e.role == DEVICE]
    devices = worker_devices(plan)
    executor: Executor
    if not any(e.role == COMPUTE for e in estimators) or (len(devices) == 1 and not apart(plan, devices[0])):
        executor = InlineExecutor(estimators)
    else:
        reporter.note(f"accuracies: {len(devices)} worker{'s' if len(devices) > 1 else ''} ({', '.join(devices)})")
        if device and any(not apart(plan, name) for name in devices):
            reporter.warning("latency is measured on hardware that workers compute on, which may disturb it")
        opening = partial(open_compute, plan.settings, num_classes, weights, devices)
        executor = LocalExecutor(device, opening, len(devices))
    try:
        yield executor
    finally:
        executor.close()


def worker_devices(plan: SearchPlan) -> tuple[str, ...]:
    """Return the device of each worker: GPUs in turn, the target's own left to latency where there is another."""
    settings = plan.settings
    devices = [str(device_of(settings.device))]
    if devices == ["cuda"]:
        everything = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        devices = [name for name in everything if apart(plan, name)] or everything
    count = {None: 1, "auto": len(devices)}.get(settings.workers) or int(settings.workers or 1)
    return tuple(devices[i % len(devices)] for i in range(count))


def apart(plan: SearchPlan, device: str) -> bool:
    """Return whether latencies are measured on other hardware than a compute device of this machine."""
    settings, target = plan.settings, plan.target
    if settings.on is not None or settings.latency != "measured" or not RUNTIMES[target.runtime].measures:
        return True
    return target.device.lower() != device and f"{target.device}:0" != device


@contextmanager
def open_compute(
    settings: SearchSettings, num_classes: int, weights: Path | None, devices: Sequence[str], number: int
) -> Iterator[list[Estimator]]:
    """Open the estimators of one worker, which has its own process.

    Args:
        settings: Settings of the search.
        num_classes: Number of classes of the detectors.
        weights: File of the supernet; None without.
        devices: Device of each worker.
        number: Number of this worker.
    """
    settings = replace(settings, device=devices[number % len(devices)])
    plan, device = SearchPlan.parse(settings), device_of(settings.device)
    if device.type == "cpu":
        torch.set_num_threads(threads_of(len(devices)))
    data = open_training_data(settings.data, settings.limit, Reporter()) if settings.data else None
    supernet = load_supernet(weights)[0].to(device) if weights is not None else None
    with open_compute_estimators(plan, num_classes, data, supernet) as estimators:
        yield estimators
