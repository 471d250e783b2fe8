"""Training in several processes: the same as one process with the whole batch; works side by side; failures and Ctrl-C reach everybody."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from nas.data.loader import Loader
from nas.data.source import DataPair, open_data
from nas.training import processes
from nas.training.loop import fit
from nas.training.processes import Work, each, launch
from nas.training.progress import Diverged, Progress, Watch
from nas.training.recipe import Recipe
from nas.training.tasks import DetectorTask
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES

SPACE = SPACES["yolo-nano"].restrict({"width": (8,)})
RECIPE = Recipe(epochs=2, batch_size=4, warmup_steps=1, precision="fp32", lr=1e-3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataPair:
    return open_data("digits@64:train=8,val=4", cache=tmp_path_factory.mktemp("cache"))


def loader(data: DataPair, share: tuple[int, int]) -> Loader:
    return Loader(data.train, RECIPE.batch_size, 64, data.augmentation, seed=0, shuffle=True, drop_last=True, workers=0, share=share)


def train(data: DataPair, out: Path, watch: Watch) -> None:
    """Two epochs without BatchNorm, whose statistics are those of a process's share."""
    torch.manual_seed(0)
    detector = SPACE.build(SPACE.smallest, 10)
    for module in list(detector.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    batches = loader(data, (processes.rank(), processes.count()))
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


def note(path: Path, watch: Watch) -> None:
    path.write_text(f"{os.getpid()} {torch.get_num_threads()} {processes.count()}")
    watch(Progress(1, 1, 0, {}, 0.1))


def test_each_runs_all_and_tells_them_apart(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def watcher(i: int) -> Watch:
        return lambda p: seen.append((i, p.step))

    each([partial(note, tmp_path / str(i)) for i in range(3)], 2, [watcher(i) for i in range(3)])
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
def test_failure_is_raised_here_and_ends_the_others(together: bool, work: Work, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        if together:
            launch(work, 2)
        else:
            each([work, wait_for_stop], 2, [lambda p: None] * 2)


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
    def press(progress: Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    paths = [tmp_path / str(i) for i in range(2)]
    with pytest.raises(KeyboardInterrupt):
        each([partial(wait_for_stop, path=path) for path in paths], 2, [press, lambda p: None])
    assert all(0 < int(path.read_text()) < 599 for path in paths)
