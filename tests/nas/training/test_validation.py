"""Evaluation while training: when it is done, what is told, which weights are the best, and that an interrupt in it
loses none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from nas.core.training_progress import Progress
from nas.data.source import DataPair, open_data
from nas.inference.coco_metrics import Metrics
from nas.training.loop import fit
from nas.training.recipe import Recipe
from nas.training.validation import Validation, validate
from search_spaces.detector import Detector
from tests._training import SPACE, Toy, batches

RECIPE = Recipe(epochs=5, batch_size=4, precision="fp32")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataPair:
    return open_data("digits@64:train=16,val=4", cache=tmp_path_factory.mktemp("cache"))


class Scripted(Validation):
    """Metrics from a list, None for Ctrl-C; what was kept by its number."""

    def __init__(self, data: DataPair, every: int, values: Sequence[float | None]) -> None:
        super().__init__(every, data, 64)
        self.values, self.measured, self.kept = list(values), 0, list[int]()

    def measure(self, averaged: nn.Module) -> dict[str, float]:
        value = self.values[self.measured]
        self.measured += 1
        if value is None:
            raise KeyboardInterrupt
        return {"map": value, "map50": value}

    def keep(self) -> None:
        self.kept.append(self.measured)


def test_every_so_many_epochs_and_the_best_is_kept(data: DataPair) -> None:
    validation, seen = Scripted(data, 1, [0.1, 0.3, 0.2, 0.3, 0.4]), list[Progress]()
    fit(Toy(), batches(data, RECIPE), RECIPE, watch=seen.append, validation=validation)
    assert [(p.step, p.metrics.get("map")) for p in seen] == [
        (4, 0.1),
        (8, 0.3),
        (10, None),
        (12, 0.2),
        (16, 0.3),
        (20, 0.4),
    ]
    assert all(p.images_per_s > 0 and p.memory_mib > 0 for p in seen) and validation.kept == [1, 2, 5]
    seldom = Scripted(data, 2, [0.2, 0.1])
    fit(Toy(), batches(data, RECIPE), RECIPE, validation=seldom)
    assert seldom.measured == 2 and seldom.kept == [1]


@pytest.mark.parametrize("at", [3, 5])
def test_an_interrupted_evaluation_is_made_up_for(at: int, data: DataPair, tmp_path: Path) -> None:
    values: list[float | None] = [0.1, 0.3, 0.2, 0.3, 0.4]
    path, seen = tmp_path / "S.ckpt", list[Progress]()
    with pytest.raises(KeyboardInterrupt):
        fit(Toy(), batches(data, RECIPE), RECIPE, path, validation=Scripted(data, 1, [*values[: at - 1], None]))
    assert torch.load(path, weights_only=True)["step"] == 4 * at
    rest = Scripted(data, 1, values[at - 1 :])
    average = fit(Toy(), batches(data, RECIPE), RECIPE, path, seen.append, validation=rest)
    assert [p.step for p in seen if p.metrics] == list(range(4 * at, 24, 4))
    assert rest.kept == [len(rest.values)]  # 0.3 was known before
    again = fit(Toy(), batches(data, RECIPE), RECIPE, path, validation=Scripted(data, 1, []))  # all is done
    assert all(torch.equal(a, b) for a, b in zip(average.parameters(), again.parameters(), strict=True))


def test_measuring_changes_nothing_and_keeps_what_it_measured(data: DataPair) -> None:
    torch.manual_seed(0)
    averaged = SPACE.build(SPACE.smallest, 10).train()
    before, state = {k: v.clone() for k, v in averaged.state_dict().items()}, torch.get_rng_state()
    kept: list[tuple[Detector, Metrics]] = []
    validation = Validation(1, data, 64, keep_best=lambda *found: kept.append(found))
    measured = validation.measure(averaged)
    validation.keep()
    ((detector, metrics),) = kept
    assert measured == {"map": metrics.map, "map50": metrics.map50} and validate(detector, data, 64) == metrics
    assert averaged.training and all(torch.equal(before[k], v) for k, v in averaged.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
