"""The executor of a search, by its settings and the hardware of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from nas.search.run_supernet import search_data
from nas.search.settings import SearchSettings
from nas.search.tasks import COMPUTE, DRIVER
from nas.supernet.weights import load_supernet
from search_spaces.errors import InputError

MAX_WORKERS = 64
"""Workers that any machine may be asked for; more where it has more cores or GPUs."""


@dataclass(frozen=True)
class WorkerSetting:
    """What a worker needs to open its estimators in another process.

    Args:
        settings: Settings of the search.
        num_classes: Number of classes of the detectors.
        weights: File of the supernet; None without.
        data: Fingerprint of the data set; None without.
    """

    settings: SearchSettings
    num_classes: int
    weights: Path | None
    data: str | None

    @contextmanager
    def open(self, device: str, weights: Path | None, check: bool = False) -> Iterator[list[Estimator]]:
        """Open the estimators of the role ``compute``.

        Args:
            device: Device of accuracies.
            weights: File of the supernet here.
            check: Whether to compare the data set with the driver's.

        Raises InputError if the data set is missing or differs.
        """
        plan = SearchPlan.parse(replace(self.settings, device=device))
        spec, data = self.settings.data, search_data(self.settings, Reporter(), weights)
        if check and data is not None and data.fingerprint != self.data:
            raise InputError(f"data set {spec} differs from the driver's", "the same images and boxes at the same path")
        supernet = load_supernet(weights)[0].to(device_of(device)) if weights is not None else None
        with open_compute_estimators(plan, self.num_classes, data, supernet) as estimators:
            yield estimators


@contextmanager
def open_executor(
    plan: SearchPlan, setting: WorkerSetting, estimators: Sequence[Estimator], reporter: Reporter
) -> Iterator[Executor]:
    """Open the executor of a search.

    Args:
        plan: The plan.
        setting: What workers need besides.
        estimators: All estimators of a candidate, open in this process.
        reporter: Receives a note about the workers.
    """
    device, devices = [e for e in estimators if e.role not in (DRIVER, COMPUTE)], worker_devices(plan)
    executor: Executor
    if not any(e.role == COMPUTE for e in estimators):
        executor = InlineExecutor(estimators)
    elif plan.settings.ray is not None:
        from nas.search.executors.ray import RayExecutor

        asked = plan.settings.workers or "auto"
        most = None if asked == "auto" else int(asked)
        executor = RayExecutor(plan.settings.ray, device, partial(_open_on_node, setting), setting.weights, most)
        reporter.note(f"accuracies: {executor.workers} workers on the Ray cluster {plan.settings.ray}")
    elif not concurrent(plan, devices):
        executor = InlineExecutor(estimators)
    else:
        reporter.note(f"accuracies: {len(devices)} worker{'s' if len(devices) > 1 else ''} ({', '.join(devices)})")
        if device and any(not apart(plan, name) for name in devices):
            reporter.warning("latency is measured on hardware that workers compute on, which may disturb it")
        executor = LocalExecutor(device, partial(_open_here, setting, devices), len(devices))
    try:
        yield executor
    finally:
        executor.close()


def worker_devices(plan: SearchPlan) -> tuple[str, ...]:
    """Return the device of each worker: GPUs in turn, the target's own left to latency where there is another.

    Raises InputError for more workers than this machine has room for.
    """
    settings = plan.settings
    devices = [str(device_of(settings.device))]
    if devices == ["cuda"]:
        everything = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        devices = [name for name in everything if apart(plan, name)] or everything
    asked = settings.workers or "1"
    count = len(devices) if asked == "auto" else int(asked)
    if count > (most := max(MAX_WORKERS, 4 * len(devices), 2 * (os.cpu_count() or 1))):
        raise InputError(f"{count} workers on this machine", f"at most {most}: each is a process with its own network")
    return tuple(devices[i % len(devices)] for i in range(count))


def concurrent(plan: SearchPlan, devices: Sequence[str]) -> bool:
    """Return whether tasks run concurrently on this machine.

    They do with several workers, and with one whose hardware no latency is measured on, if the settings name workers or
    a board.
    """
    asked = plan.settings.workers is not None or any(device.on is not None for device in plan.devices)
    return len(devices) > 1 or (asked and apart(plan, devices[0]))


def apart(plan: SearchPlan, device: str) -> bool:
    """Return whether latencies are measured on other hardware than a compute device of this machine."""
    if plan.settings.latency != "measured":
        return True
    here = [d.target for d in plan.devices if d.on is None and RUNTIMES[d.target.runtime].measures]
    return all(target.device.lower() != device and f"{target.device}:0" != device for target in here)


@contextmanager
def _open_here(setting: WorkerSetting, devices: Sequence[str], number: int) -> Iterator[list[Estimator]]:
    """Open the estimators of one worker of this machine, which has its own process."""
    device = devices[number % len(devices)]
    if device == "cpu":
        torch.set_num_threads(threads_of(len(devices)))
    with setting.open(device, setting.weights) as estimators:
        yield estimators


@contextmanager
def _open_on_node(setting: WorkerSetting, weights: Path | None, check: bool) -> Iterator[list[Estimator]]:
    """Open the estimators of a worker on a node of a Ray cluster, on the GPU that Ray gave it.

    Raises InputError if the data is to be checked and differs from the driver's.
    """
    device = str(device_of("auto"))
    if device == "cpu":
        torch.set_num_threads(1)
    with setting.open(device, weights, check) as estimators:
        yield estimators
