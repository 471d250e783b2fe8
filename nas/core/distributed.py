"""Training in several processes: one network, each process on its share of every batch, or one network per process.

This is the only module that uses ``torch.distributed``.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from nas.core.compute import device_of
from nas.core.training_progress import Diverged, Progress, Watch
from search_spaces.errors import InputError

STOP_WITHIN_S = 60.0
"""Seconds that the other processes have to end a step and save, after Ctrl-C or a failure."""

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that stop a training after its step."""

Work = Callable[[Watch], None]
T = TypeVar("T")


def world_size() -> int:
    """Return the number of processes that train one network together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process. Only rank 0 writes files."""
    return distributed.get_rank() if world_size() > 1 else 0


def mean(value: Tensor) -> Tensor:
    """Return the mean of a tensor (any shape, the same in all processes) over the processes, without gradients."""
    if world_size() == 1:
        return value
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total / world_size()


def any_process(flag: bool) -> bool:
    """Return whether ``flag`` is true in any process. All processes must call it."""
    if world_size() == 1:
        return flag
    found = torch.tensor(float(flag), device=_exchanged())
    distributed.all_reduce(found)
    return found.item() > 0


class _Mean(torch.autograd.Function):
    """Mean over processes, forward and backward: the loss of every process depends on the values of all."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return mean(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return mean(grads[0].contiguous())


def mean_with_gradient(value: Tensor) -> Tensor:
    """Return the mean of a tensor (any shape, the same in all processes) over the processes, differentiable.

    The gradient is that of the mean of all losses, as in :func:`mean_gradients`.
    """
    mixed: Tensor = _Mean.apply(value)
    return mixed


def gather(value: T) -> list[T]:
    """Return the values of all processes in the order of their ranks. All processes must call it; values must be
    picklable."""
    if world_size() == 1:
        return [value]
    found: list[Any] = [None] * world_size()
    distributed.all_gather_object(found, value)
    return found


def broadcast_from_first(value: Callable[[], T]) -> T:
    """Return ``value()`` of rank 0, which alone calls it, in all processes."""
    return gather(None if rank() else value())[0]  # type: ignore[return-value]  # of process 0


def _exchanged() -> torch.device:
    """Return the device of tensors that are exchanged."""
    return (
        torch.device("cuda", torch.cuda.current_device())
        if distributed.get_backend() == "nccl"
        else torch.device("cpu")
    )


@contextmanager
def join_torchrun(device: str = "auto") -> Iterator[None]:
    """Join the processes that ``torchrun`` started, with a GPU per process where ``device`` is one; does nothing in
    a process that torchrun did not start.

    Only this function reads torchrun's environment variables. Raises InputError if there are fewer GPUs than
    processes.
    """
    together = (
        int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ and "MASTER_ADDR" in os.environ else 1
    )
    if together == 1:
        yield
        return
    cuda = device_of(device).type == "cuda"
    if cuda:
        place = int(os.environ["LOCAL_RANK"])
        if device_of(device).index is not None or place >= torch.cuda.device_count():
            raise InputError(
                f"process {place} on {device}",
                "a GPU for each process",
                "--device cuda, and --nproc-per-node at most the number of GPUs",
            )
        torch.cuda.set_device(place)
    elif os.environ["MASTER_ADDR"] in ("localhost", "127.0.0.1"):
        _use_loopback()
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _use_loopback() -> None:
    if Path("/sys/class/net/lo").exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the machine's name need not resolve to an address


@torch.no_grad()
def mean_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes, in one exchange. All processes must have gradients of
    the same parameters."""
    grads = [p.grad for p in parameters if p.grad is not None]
    if world_size() == 1 or not grads:
        return
    flat = torch.cat([g.reshape(-1) for g in grads])
    distributed.all_reduce(flat)
    flat /= world_size()
    torch._foreach_copy_(
        grads, [part.view_as(g) for part, g in zip(flat.split([g.numel() for g in grads]), grads, strict=True)]
    )


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def launch(work: Work, processes: int, watch: Watch = lambda progress: None) -> None:
    """Run ``work(watch)`` here, or in ``processes`` new processes on this machine's CPUs that train together.

    ``watch`` is called here. Under torchrun (:func:`join_torchrun`), ``work`` runs in each process and rank 0 is
    watched. Ctrl-C lets all processes stop after the same step.

    ``work`` must be picklable: a function of a module, or a ``partial`` of one. Raises InputError for fewer than one
    process, and the first error of any process, which ends the others.
    """
    if processes < 1:
        raise InputError(f"{processes} processes", "1 or more")
    if processes == 1:
        work(watch if not rank() else lambda progress: None)
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        places = [_Place(work, i, processes, meeting, _threads(processes)) for i in range(processes)]
        _Supervisor(places, processes, [watch] * processes).run()


def run_each(works: Sequence[Work], max_parallel: int, watches: Sequence[Watch]) -> None:
    """Run every ``works[i](watches[i])`` in a process of its own, ``max_parallel`` of them concurrently.

    The processes share the cores. Errors and Ctrl-C act as in :func:`launch`.
    """
    if max_parallel == 1:
        for work, watch in zip(works, watches, strict=True):
            work(watch)
        return
    threads = _threads(min(max_parallel, cores()))
    _Supervisor([_Place(work, 0, 1, None, threads) for work in works], max_parallel, watches).run()


_stop: Event | None = None
"""In a process that :func:`launch` or :func:`run_each` started: set when it shall stop."""


def stop_requested() -> bool:
    """Return whether the process that started this one has requested a stop."""
    return _stop is not None and _stop.is_set()


def _threads(processes: int) -> int:
    return max(1, cores() // processes)


@dataclass(frozen=True)
class _Place:
    """One process: its work, its rank, the number of processes that train together, the file of their rendezvous, and
    its threads."""

    work: Work
    rank: int
    together: int
    meeting: str | None
    threads: int


class _Supervisor:
    """Starts processes, passes on their progress, and ends when all have ended. The first failure ends the others and
    is raised."""

    def __init__(self, places: Sequence[_Place], max_parallel: int, watches: Sequence[Watch]) -> None:
        self._context = multiprocessing.get_context("spawn")
        with _stop_signals_blocked():  # the event starts multiprocessing's tracker, which a hang-up must not end
            self._stop = self._context.Event()
        self._waiting = list(enumerate(places))
        self._max_parallel = max_parallel
        self._watches = watches
        self._running: dict[Connection, tuple[int, Any]] = {}
        self._failure: BaseException | None = None

    def run(self) -> None:
        try:
            while self._running or (self._waiting and not self._failure):
                try:
                    self._start()
                    if self._is_incomplete() or not self._follow():
                        break
                except KeyboardInterrupt as pressed:
                    if isinstance(self._failure, KeyboardInterrupt):  # pressed twice: does not wait for the step
                        raise
                    self._fail(pressed)
        finally:
            for _, process in self._running.values():
                if process.pid is not None:  # it may be the one that failed to start
                    process.kill()
                    process.join()
        if self._failure:
            raise self._failure

    def _start(self) -> None:
        while self._waiting and not self._failure and len(self._running) < self._max_parallel:
            index, place = self._waiting.pop(0)
            reader, sender = self._context.Pipe(duplex=False)
            process = self._context.Process(target=_child, args=(place, sender, self._stop), daemon=True)
            self._running[reader] = index, process
            with _stop_signals_blocked():  # until the child ignores them: a terminal sends them to all its processes
                process.start()
            sender.close()

    def _is_incomplete(self) -> bool:
        """Whether a failure came before all processes that train together were started: the others wait for these."""
        return self._failure is not None and any(place.together > 1 for _, place in self._waiting)

    def _follow(self) -> bool:
        """Receive messages; False if no process answers any more after a failure."""
        ready = wait(list(self._running), STOP_WITHIN_S if self._failure else None)
        for reader in ready:
            assert isinstance(reader, Connection)
            index, process = self._running[reader]
            message = _receive(reader)
            if isinstance(message, Progress):
                self._watches[index](message)
                continue
            del self._running[reader]
            process.join()
            if message is not None:
                self._fail(message)
        return bool(ready)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._stop.set()


class ProcessDied(InputError, RuntimeError):
    """A training process that ended without an error of its own; the command line prints one line."""


def _receive(reader: Connection) -> Any:
    try:
        return reader.recv()
    except EOFError:
        return ProcessDied(
            "a training process died (killed, or out of memory)",
            hint="fewer processes or smaller batches take less memory; the same command resumes",
        )


@contextmanager
def _stop_signals_blocked() -> Iterator[None]:
    """Delay Ctrl-C, SIGTERM and SIGHUP to the end of the context; a process that is started in it inherits the block."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _child(place: _Place, sender: Connection, stop: Event) -> None:
    global _stop
    _stop = stop
    for number in STOP_SIGNALS:  # the parent stops all processes after the same step
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(place.threads)

    def watch(progress: Progress) -> None:
        # ticks come by the clock, at other times in each process: nothing may be exchanged in them
        if (stop.is_set() and world_size() == 1) if progress.tick else any_process(stop.is_set()):
            raise KeyboardInterrupt
        if not place.rank:
            sender.send(progress)

    ended: object = None
    try:
        if place.meeting:
            _use_loopback()
            distributed.init_process_group(
                "gloo", init_method=f"file://{place.meeting}", rank=place.rank, world_size=place.together
            )
        place.work(watch)
    except (InputError, Diverged, KeyboardInterrupt) as error:
        ended = error
    except BaseException:  # noqa: BLE001 - whatever it is, the parent must hear of it
        ended = RuntimeError(f"in training process {place.rank}:\n{traceback.format_exc()}")
    sender.send(ended)
    sender.close()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
