"""Training in several processes: together, each on its share of every batch, or each its own network. The one file
that knows ``torch.distributed``."""

from __future__ import annotations

import multiprocessing
import os
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
"""After Ctrl-C or a failure: time for the others to end a step and save."""

Work = Callable[[Watch], None]
T = TypeVar("T")


def count() -> int:
    """Of the processes that train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Which one of them this is; only 0 writes files."""
    return distributed.get_rank() if count() > 1 else 0


def mean(value: Tensor) -> Tensor:
    """The mean over processes of a tensor of statistics (no gradient flows through it)."""
    if count() == 1:
        return value
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total / count()


def anywhere(flag: bool) -> bool:
    """Whether it is true in any of them. All must ask."""
    if count() == 1:
        return flag
    found = torch.tensor(float(flag), device=_exchanged())
    distributed.all_reduce(found)
    return found.item() > 0


class _Mean(torch.autograd.Function):
    """The mean over processes; as every process's loss depends on every process's value, so does its gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return mean(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return mean(grads[0].contiguous())


def mean_with_gradient(value: Tensor) -> Tensor:
    """The mean over processes, differentiable: the gradient is that of the mean of all processes' losses, as
    :func:`mean_gradients` takes it."""
    mixed: Tensor = _Mean.apply(value)
    return mixed


def gather(value: T) -> list[T]:
    """Every process's value, in the order of their ranks, in every process. All must call it; values must be
    picklable."""
    if count() == 1:
        return [value]
    found: list[Any] = [None] * count()
    distributed.all_gather_object(found, value)
    return found


def of_first(value: Callable[[], T]) -> T:
    """What ``value()`` is in process 0, which alone calls it; the others wait."""
    return gather(None if rank() else value())[0]  # type: ignore[return-value]  # of process 0


def _exchanged() -> torch.device:
    """Where tensors must lie that are exchanged."""
    return (
        torch.device("cuda", torch.cuda.current_device())
        if distributed.get_backend() == "nccl"
        else torch.device("cpu")
    )


@contextmanager
def joined(device: str = "auto") -> Iterator[None]:
    """What ``torchrun`` started is one of the processes that train together, on a GPU of its own where ``device`` is
    one; elsewhere nothing happens.

    torchrun's environment variables are read here and nowhere else.
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
    """Replace every gradient by its mean over the processes, in one exchange. All must have gradients of the same
    parameters."""
    grads = [p.grad for p in parameters if p.grad is not None]
    if count() == 1 or not grads:
        return
    flat = torch.cat([g.reshape(-1) for g in grads])
    distributed.all_reduce(flat)
    flat /= count()
    torch._foreach_copy_(
        grads, [part.view_as(g) for part, g in zip(flat.split([g.numel() for g in grads]), grads, strict=True)]
    )


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def launch(work: Work, processes: int, watch: Watch = lambda progress: None) -> None:
    """Run ``work(watch)`` here, or in ``processes`` new ones on this machine's CPUs that train together; ``watch`` is
    called here.

    In what torchrun started (:func:`joined`) ``work`` runs in each, and process 0 is watched.

    ``work`` must be picklable (a function of a module, or a ``partial`` of one). An error in one process ends all and
    is raised here. Ctrl-C lets all of them stop after the same step: ``work`` sees a KeyboardInterrupt from its
    ``watch``.
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


def each(works: Sequence[Work], at_once: int, watches: Sequence[Watch]) -> None:
    """Run every ``works[i](watches[i])`` for itself, ``at_once`` of them at a time, in processes that share the
    cores; the rest as :func:`launch`."""
    if at_once == 1:
        for work, watch in zip(works, watches, strict=True):
            work(watch)
        return
    threads = _threads(min(at_once, cores()))
    _Supervisor([_Place(work, 0, 1, None, threads) for work in works], at_once, watches).run()


def _threads(processes: int) -> int:
    return max(1, cores() // processes)


@dataclass(frozen=True)
class _Place:
    """One process: what it does, which of how many that train together it is, the file where they meet, its threads."""

    work: Work
    rank: int
    together: int
    meeting: str | None
    threads: int


class _Supervisor:
    """Starts processes, passes their progress on, and ends when all have; the first failure ends the others and is
    raised."""

    def __init__(self, places: Sequence[_Place], at_once: int, watches: Sequence[Watch]) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._stop = self._context.Event()
        self._waiting = list(enumerate(places))
        self._at_once = at_once
        self._watches = watches
        self._running: dict[Connection, tuple[int, Any]] = {}
        self._failure: BaseException | None = None

    def run(self) -> None:
        try:
            while self._running or (self._waiting and not self._failure):
                try:
                    self._start()
                    if not self._follow():
                        break
                except KeyboardInterrupt as pressed:
                    if isinstance(
                        self._failure, KeyboardInterrupt
                    ):  # pressed twice: not even the step's end is waited for
                        raise
                    self._fail(pressed)
        finally:
            for _, process in self._running.values():
                if process.pid is not None:  # it may be what failed to start
                    process.kill()
                    process.join()
        if self._failure:
            raise self._failure

    def _start(self) -> None:
        while self._waiting and not self._failure and len(self._running) < self._at_once:
            index, place = self._waiting.pop(0)
            reader, sender = self._context.Pipe(duplex=False)
            process = self._context.Process(target=_child, args=(place, sender, self._stop), daemon=True)
            self._running[reader] = index, process
            process.start()
            sender.close()

    def _follow(self) -> bool:
        """Takes what has been said; False when nobody answers any more after a failure."""
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


def _receive(reader: Connection) -> Any:
    try:
        return reader.recv()
    except EOFError:
        return RuntimeError("a training process died (killed, or out of memory)")


def _child(place: _Place, sender: Connection, stop: Event) -> None:
    import signal

    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # the parent tells all of them at once, so that they stop after the same step
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(place.threads)

    def watch(progress: Progress) -> None:
        if anywhere(stop.is_set()):
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
