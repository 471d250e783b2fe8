"""A comparison knows the trainings that an earlier one has finished, and no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.finished_trainings import FinishedTrainings
from nas.core.console_reporter import ConsoleReporter
from nas.core.references import reference_artifact, with_classes_of
from nas.training.data import open_training_data
from nas.training.job import TrainJob
from nas.training.recipe import Recipe


def test_only_an_equal_training_is_known(tmp_path: Path) -> None:
    data = open_training_data("digits@64:train=32,val=8", None, ConsoleReporter())
    artifact = with_classes_of(reference_artifact("yolov8n"), data)
    job = TrainJob(data, Recipe(epochs=1))
    weights = tmp_path / "yolov8n.safetensors"
    weights.write_bytes(b"weights")
    weights.with_suffix(".log.csv").write_text("epoch,val_map\n1,0.25\n2,\n3,0.5\n")
    path = tmp_path / "kept" / "finished.json"
    FinishedTrainings(path).add(artifact, job, "test", 0.4, weights)
    known = FinishedTrainings(path)
    entry = known.find(artifact, job, "test")
    assert entry is not None
    assert entry["map"] == 0.4 and entry["val"] == [0.25, 0.5]
    assert known.find(replace(artifact, name="S"), job, "test") is not None
    other = replace(artifact, architecture=artifact.architecture.replace(image_size=96))
    assert known.find(other, job, "test") is None
    assert known.find(artifact, replace(job, recipe=Recipe(epochs=1, seed=1)), "test") is None
    assert known.find(artifact, replace(job, init=weights), "test") is None
    assert known.find(artifact, replace(job, augment=False), "test") is None
    assert known.find(artifact, job, "val") is None
