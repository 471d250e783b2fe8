"""A comparison knows the trainings that an earlier one has finished, and no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.finished_trainings import FinishedTrainings
from nas.core.console_reporter import ConsoleReporter
from nas.core.references import reference_artifact, with_classes_of
from nas.supernet.weights import load_detector
from nas.training.data import open_training_data
from nas.training.job import TrainJob
from nas.training.logging_config import LoggingConfig
from nas.training.recipe import Recipe


def test_only_an_equal_training_is_known(tmp_path: Path) -> None:
    data = open_training_data("digits@96:train=32,val=8", None, ConsoleReporter())
    plain = with_classes_of(reference_artifact("yolov8n"), data)
    artifact = replace(plain, architecture=plain.architecture.replace(image_size=96))
    job = TrainJob(data, Recipe(epochs=1, batch_size=16), logging=LoggingConfig(eval_every=1))
    path, folder = tmp_path / "kept" / "finished.json", tmp_path / "weights"
    folder.mkdir()
    (entry,) = FinishedTrainings(path).train(
        [(artifact, job)], "test", lambda artifact, job, weights: 0.4, folder, ConsoleReporter()
    )
    weights = folder / "yolov8n.safetensors"
    assert entry["map"] == 0.4 and entry["val_map"] == load_detector(weights)[2]["metrics"]["map"]
    assert entry["evaluations"] == [pytest.approx(entry["val_map"])]

    known = FinishedTrainings(path)
    same = replace(artifact, name="S")  # the name decides nothing
    assert known.train([(same, job)], "test", lambda *_: pytest.fail("trained again"), folder, ConsoleReporter()) == [
        entry
    ]
    assert known.find(plain, job, "test") is None
    assert known.find(artifact, replace(job, recipe=replace(job.recipe, seed=1)), "test") is None
    assert known.find(artifact, replace(job, init=weights), "test") is None
    assert known.find(artifact, replace(job, augment=False), "test") is None
    assert known.find(artifact, job, "val") is None
