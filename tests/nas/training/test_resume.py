"""``kill -9`` in the middle of a step: what is resumed equals what was never interrupted, bit for bit, with every
option that draws something."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nas.data.loader import Loader
from nas.data.source import open_data
from nas.training.checkpoint import ADDED
from nas.training.loop import fit
from nas.training.recipe import Recipe
from search_spaces.errors import InputError
from tests._training import EVERYTHING, SANDWICH, Toy, batches, train

ROOT = Path(__file__).resolve().parents[3]
DATA = "digits@64:train=16,val=4"
STEPS = {"detector": EVERYTHING.epochs * 2, "sandwich": SANDWICH.epochs * 4}


def unequal(a: Any, b: Any, where: str = "") -> list[str]:
    """The places at which two states differ."""
    if isinstance(a, Tensor):
        return [] if isinstance(b, Tensor) and torch.equal(a, b) else [where]
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [place for key in a for place in unequal(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [place for i, (x, y) in enumerate(zip(a, b, strict=True)) for place in unequal(x, y, f"{where}/{i}")]
    return [] if a == b else [where]


@pytest.mark.parametrize("case", ["detector", "sandwich"])
def test_killed_and_resumed_equals_uninterrupted(case: str, tmp_path: Path) -> None:
    data = open_data(DATA, cache=tmp_path / "cache")
    whole = train(case, data, tmp_path / "whole.ckpt")
    at = random.Random(case).randrange(3, STEPS[case])
    checkpoint = tmp_path / "killed.ckpt"
    words = [
        sys.executable,
        "-m",
        "tests._training",
        case,
        DATA,
        str(tmp_path / "cache"),
        str(checkpoint),
        str(at),
        str(torch.get_num_threads()),
    ]
    assert subprocess.run(words, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert torch.load(checkpoint, weights_only=True)["step"] == at // 2 * 2
    torch.manual_seed(99)
    resumed = train(case, data, checkpoint)
    assert whole["step"] == STEPS[case] and whole.keys() >= {"model", "ema", "optimizer", "schedule", "random"}
    assert unequal(whole, resumed) == []


def test_what_differs_is_found() -> None:
    a = {"x": [torch.zeros(2), 1.0], "y": {"z": torch.ones(1)}}
    b = {"x": [torch.zeros(2), 2.0], "y": {"z": torch.full((1,), 1.0000001)}}
    assert unequal(a, b) == ["/x/1", "/y/z"] and unequal(a, a) == []


def test_a_training_rounds_nothing_to_zero_whatever_ran_before(tmp_path: Path) -> None:
    data, recipe = open_data(DATA, cache=tmp_path / "cache"), Recipe(epochs=1, batch_size=4, precision="fp32")
    torch.set_flush_denormal(True)  # as ONNX Runtime does
    try:
        fit(Toy(), batches(data, recipe), recipe)
        assert (torch.tensor([1e-40] * 4) * 1.0).min() > 0
    finally:
        torch.set_flush_denormal(False)


def test_older_checkpoints_are_continued(tmp_path: Path) -> None:
    """They lack the recipe's newer values and what was added since."""
    data = open_data(DATA, cache=tmp_path / "cache")
    path, recipe = tmp_path / "a.ckpt", Recipe(epochs=2, batch_size=4, precision="fp32")
    whole = fit(Toy(), batches(data, recipe), recipe, path)
    state = torch.load(path, weights_only=True)
    newer = {
        "accumulate",
        "optimizer",
        "momentum",
        "warmup_epochs",
        "warmup_lr",
        "ema_ramp",
        "channels_last",
        "compile",
        "sync_bn",
        "augmentation",
    }
    old = {k: v for k, v in state.items() if k not in ADDED}
    old["recipe"] = {k: v for k, v in state["recipe"].items() if k not in newer}
    torch.save(old, path)
    assert unequal(fit(Toy(), batches(data, recipe), recipe, path).state_dict(), whole.state_dict()) == []


def test_other_augmentation_is_another_training(tmp_path: Path) -> None:
    data = open_data(DATA, cache=tmp_path / "cache")
    path, recipe = tmp_path / "a.ckpt", Recipe(epochs=1, batch_size=4, precision="fp32")
    fit(Toy(), batches(data, recipe), recipe, path)
    config = batches(data, recipe).config
    other = Loader(data.train, replace(config, augmentation=config.augmentation.changed({"flip": 0.5})))
    with pytest.raises(InputError, match="of augmentation"):
        fit(Toy(), other, recipe, path)


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        ("detector ab 0123456789abcdef from scratch", "another state of the data set"),
        ("detector ab 00000000deadbeef from weights 0123456789abcdef", "began from 'scratch'"),
        ("detector cd 00000000deadbeef from scratch", "is of identity"),
    ],
)
def test_a_checkpoint_of_something_else_says_what_differs(identity: str, words: str, tmp_path: Path) -> None:
    """Two hashes side by side explain nothing: labels that were edited are named."""
    data = open_data(DATA, cache=tmp_path / "cache")
    path, recipe, task = tmp_path / "a.ckpt", Recipe(epochs=1, batch_size=4, precision="fp32"), Toy()
    task.identity = "detector ab 00000000deadbeef from scratch"
    fit(task, batches(data, recipe), recipe, path)
    task.identity = identity
    with pytest.raises(InputError, match=words):
        fit(task, batches(data, recipe), recipe, path)
