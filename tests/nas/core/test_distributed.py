"""Training in several processes: the same as one process with the whole batch; works side by side; failures and
Ctrl-C reach everybody."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.core import distributed as processes
from nas.core.distributed import Work, launch, run_each
from nas.core.training_progress import Diverged, Progress, Watch
from nas.data.dataset import DetectionDataset
from nas.data.loader import Loader, LoaderConfig
from nas.data.source import DataPair, open_data
from nas.inference.nms import Detections
from nas.supernet.supernet import Supernet
from nas.training.loop import fit
from nas.training.recipe import Recipe
from nas.training.tasks import DetectorTask, SandwichTask
from nas.training.validation import validate
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES
from tests._training import Toy, without_norms

SPACE = SPACES["yolo-nano"].restrict({"width": (8,)})
RECIPE = Recipe(epochs=2, batch_size=4, warmup_steps=1, precision="fp32", lr=1e-3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataPair:
    return open_data("digits@64:train=8,val=4", cache=tmp_path_factory.mktemp("cache"))


def loader(data: DataPair, share: tuple[int, int]) -> Loader:
    return Loader(
        data.train,
        LoaderConfig(
            RECIPE.batch_size,
            64,
            data.augmentation,
            seed=0,
            shuffle=True,
            drop_last=True,
            workers=0,
            share=share,
        ),
    )


def train(data: DataPair, out: Path, watch: Watch) -> None:
    """Two epochs without BatchNorm, whose statistics are those of a process's share."""
    torch.manual_seed(0)
    detector = without_norms(SPACE.build(SPACE.smallest, 10))
    batches = loader(data, (processes.rank(), processes.world_size()))
    fit(DetectorTask(detector, "toy"), batches, RECIPE, out.with_suffix(".ckpt"), watch)
    if not processes.rank():
        torch.save(detector.state_dict(), out)


def test_shares_make_up_the_batch(data: DataPair) -> None:
    whole = list(loader(data, (0, 1)).epoch(1))
    shares = [list(loader(data, (i, 2)).epoch(1)) for i in range(2)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert torch.equal(torch.cat([p.images for p in parts]), batch.images)
        assert torch.equal(torch.cat([p.boxes for p in parts]), batch.boxes)


def test_batch_that_cannot_be_shared(data: DataPair) -> None:
    with pytest.raises(InputError, match="3 equal shares"):
        loader(data, (0, 3))


def test_two_processes_train_as_one_with_the_whole_batch(data: DataPair, tmp_path: Path) -> None:
    seen: list[int] = []
    launch(partial(train, data, tmp_path / "two.pt"), 2, lambda p: seen.append(p.step))
    train(data, tmp_path / "one.pt", lambda p: None)
    one, two = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in ("one", "two"))
    start = SPACE.build(SPACE.smallest, 10).state_dict()
    moved = max(float((one[k] - start[k]).abs().max()) for k in one)
    assert max(float((one[k] - two[k]).abs().max()) for k in one) < 1e-4 < 1e-3 < moved
    assert seen == [4]
    with pytest.raises(InputError, match="processes"):  # the checkpoint says how many trained
        train(data, tmp_path / "two.pt", lambda p: None)


class Synced(Toy):
    """A convolution, BatchNorm over all processes, a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        first, *others = self.model.children()
        norm = nn.BatchNorm2d(4, momentum=0.1)
        self.model = nn.Sequential(first, norm, *others)


def synced_and_seen(data: DataPair, folder: Path, watch: Watch) -> None:
    """Trainings with BatchNorm over all processes and over each one's share, and what an evaluation sees: into files
    named by the number of processes."""
    for sync_bn in ("on", "auto"):
        task, recipe = Synced(), replace(RECIPE, sync_bn=sync_bn, epochs=4, optimizer="sgd", lr=0.5)
        fit(task, loader(data, (processes.rank(), processes.world_size())), recipe)
        if not processes.rank():
            torch.save(task.model.state_dict(), folder / f"{processes.world_size()}-{sync_bn}.pt")
    torch.manual_seed(0)
    detector, threads = SPACE.build(SPACE.largest, 10), torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.training.validation.BATCH", 1)
        patch.setattr("nas.training.validation.evaluate", seen)
        (folder / f"{processes.world_size()}-{processes.rank()}.json").write_text(
            json.dumps(validate(detector, data, 64))
        )
    torch.set_num_threads(threads)
    if processes.world_size() > 1:
        (folder / f"exchanged-{processes.rank()}.json").write_text(json.dumps(exchanged(data)))


def exchanged(data: DataPair) -> list[int]:
    """Sizes of the tensors that processes exchange in one step of a sandwich of four, without single numbers."""
    sizes, reduce = list[int](), torch.distributed.all_reduce

    def counted(tensor: Tensor) -> None:
        sizes.append(tensor.numel())
        reduce(tensor)

    torch.manual_seed(0)
    supernet, recipe = Supernet(SPACE, 10), replace(RECIPE, batch_size=8, epochs=1)
    batches = Loader(
        data.train,
        LoaderConfig(
            8,
            64,
            data.augmentation,
            shuffle=True,
            drop_last=True,
            workers=0,
            share=(processes.rank(), processes.world_size()),
        ),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.distributed, "all_reduce", counted)
        fit(SandwichTask(supernet, "toy", seed=0), batches, recipe)
    return [size for size in sizes if size > 1]


def seen(dataset: DetectionDataset, detections: dict[int, Detections]) -> dict[str, list[list[float]]]:
    """All that metrics are made of, in the place of metrics."""
    return {str(id): np.column_stack([d.boxes, d.scores, d.labels]).tolist() for id, d in sorted(detections.items())}


@pytest.fixture(scope="module")
def folder(data: DataPair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process and two wrote."""
    path = tmp_path_factory.mktemp("together")
    for count in (1, 2):
        launch(partial(synced_and_seen, data, path), count)
    return path


def test_batchnorm_over_processes_is_that_of_the_whole_batch(folder: Path) -> None:
    """Weights and running statistics; with each process's own statistics they differ."""
    one, synced, own = (torch.load(folder / f"{name}.pt", weights_only=True) for name in ("1-on", "2-on", "2-auto"))

    def difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
        return max(float((a[k].float() - b[k].float()).abs().max()) for k in a)

    assert one.keys() == synced.keys() and difference(one, Synced().model.state_dict()) > 1e-2
    assert difference(synced, one) < 1e-5 and difference(own, one) > 1e-4


def test_evaluation_over_processes_is_that_of_one(folder: Path) -> None:
    """The detections of which process 0 makes the metrics are those of one process, number for number; all get the
    outcome."""
    one, *two = (json.loads((folder / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))
    assert two == [one, one] and len(one) == 4 and all(len(found) > 0 for found in one.values())


def test_a_sandwich_shares_its_gradients_once_a_step(folder: Path) -> None:
    weights = sum(p.numel() for p in Supernet(SPACE, 10).parameters())
    for rank in (0, 1):
        (size,) = json.loads((folder / f"exchanged-{rank}.json").read_text())
        assert 0.8 * weights < size <= weights  # block types that were not drawn have no gradients


def note(path: Path, watch: Watch) -> None:
    path.write_text(f"{os.getpid()} {torch.get_num_threads()} {processes.world_size()}")
    watch(Progress(1, 1, 0, {}, 0.1))


def test_each_runs_all_and_tells_them_apart(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def watcher(i: int) -> Watch:
        return lambda p: seen.append((i, p.step))

    run_each([partial(note, tmp_path / str(i)) for i in range(3)], 2, [watcher(i) for i in range(3)])
    said = [(tmp_path / str(i)).read_text().split() for i in range(3)]
    assert sorted(seen) == [(0, 1), (1, 1), (2, 1)]
    assert len({pid for pid, _, _ in said} | {str(os.getpid())}) == 4
    assert {(int(threads), count) for _, threads, count in said} == {(max(1, processes.cores() // 2), "1")}


def refuse(watch: Watch) -> None:
    raise InputError("a broken thing", "a whole one")


def diverge(watch: Watch) -> None:
    raise Diverged("the loss is nan")


def stumble(watch: Watch) -> None:
    raise ZeroDivisionError("of all things")


def die(watch: Watch) -> None:
    os._exit(9)


@pytest.mark.parametrize(
    ("together", "work", "error", "words"),
    [
        (True, refuse, InputError, "broken thing; expected a whole one"),
        (True, die, RuntimeError, "died"),
        (False, stumble, RuntimeError, "ZeroDivisionError: of all things"),
        (False, diverge, Diverged, "loss is nan"),
    ],
)
def test_failure_is_raised_here_and_ends_the_others(
    together: bool, work: Work, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        if together:
            launch(work, 2)
        else:
            run_each([work, wait_for_stop], 2, [lambda p: None] * 2)


def wait_for_stop(watch: Watch, path: Path | None = None) -> None:
    for step in range(600):
        try:
            watch(Progress(step, 600, 0, {}, 0.1))
        except KeyboardInterrupt:
            if path:
                path.write_text(str(step))
            raise
        time.sleep(0.1)


def test_ctrl_c_stops_all_after_a_step(tmp_path: Path) -> None:
    """Ctrl-C comes when both processes are under way, however long either took to start."""
    reached = [0, 0]

    def watch(index: int, progress: Progress) -> None:
        before, reached[index] = min(reached), progress.step
        if before < 3 <= min(reached):  # once: a second Ctrl-C would not wait for the step
            raise KeyboardInterrupt

    paths = [tmp_path / str(i) for i in range(2)]
    with pytest.raises(KeyboardInterrupt):
        run_each([partial(wait_for_stop, path=path) for path in paths], 2, [partial(watch, i) for i in range(2)])
    assert all(0 < int(path.read_text()) < 599 for path in paths)


STOPPED = """
import os, sys, time
from pathlib import Path
from nas.cli.border import guarded
from nas.core.distributed import run_each
from nas.core.training_progress import Progress

def work(watch) -> None:
    Path(f"{os.getpid()}.begun").touch()
    try:
        for step in range(600):
            watch(Progress(step, 600, 0, {}, 0.1))
            time.sleep(0.05)
    except KeyboardInterrupt:
        Path(f"{os.getpid()}.saved").touch()
        raise

def command() -> int:
    run_each([work] * 2, 2, [lambda p: print("step", p.step, flush=True)] * 2)
    return 0

if __name__ == "__main__":
    sys.exit(guarded(command, "nas train", lambda: "run it again"))
"""


def children(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def starts_with_torch(process: str) -> bool:
    """Whether the process was spawned to train and has begun to import torch.

    `import torch` itself runs a shell command, whose process is a copy of its parent for a moment."""
    try:
        command, maps = (Path(f"/proc/{process}/{name}").read_text() for name in ("cmdline", "maps"))
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "spawn_main" in command and "torch" in maps


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the child processes in /proc")
@pytest.mark.parametrize(("number", "starting"), [(signal.SIGINT, True), (signal.SIGHUP, False)])
def test_a_signal_to_all_processes_of_a_terminal_is_one_line(
    number: signal.Signals, starting: bool, tmp_path: Path
) -> None:
    """A terminal sends Ctrl-C and its hang-up to every process: one that has only begun to start and one that is
    under way."""
    (tmp_path / "run.py").write_text(STOPPED)
    process = subprocess.Popen(
        [sys.executable, "run.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        start_new_session=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    if starting:
        while not any(starts_with_torch(child) for child in children(process.pid)):
            time.sleep(0.01)
    else:
        process.stdout.readline()
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=120)
    lines = [line for line in errors.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("nas train: ") and lines[0].endswith("run it again"), errors
    assert process.returncode == 128 + number
    begun, saved = (len(list(tmp_path.glob(f"*.{kind}"))) for kind in ("begun", "saved"))
    assert begun == saved


def test_ctrl_c_between_the_starts_of_processes_that_train_together_waits_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first would wait for the second, which is not started any more, for a minute."""
    started: list[str] = []

    class Process:
        pid = None

        def __init__(self, **options: object) -> None:
            started.append("process")

        def start(self) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(multiprocessing.get_context("spawn"), "Process", Process)
    monkeypatch.setattr(processes._Supervisor, "_follow", lambda self: pytest.fail("waits"))
    with pytest.raises(KeyboardInterrupt):
        launch(refuse, 2)
    assert started == ["process"]
