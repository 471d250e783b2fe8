"""Training of detectors into files: one writer, finished weights stay, the classes of the data, weights before metrics."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import nas
from nas.bench.models import resolve_models
from nas.core.architecture_file import Artifact, DataRecord
from nas.core.console_reporter import ConsoleReporter
from nas.core.output_lock import output_lock
from nas.core.references import NO_STUDY
from nas.data.source import DataPair, open_data
from nas.evaluation.evaluate import EvaluationConfig, evaluate_file
from nas.inference.coco_metrics import Metrics
from nas.supernet.weights import load_detector
from nas.training import train_detector as module
from nas.training.job import ComputeConfig, TrainJob
from nas.training.recipe import Recipe
from nas.training.train_detector import final_candidate, train_detector, train_detectors
from nas.training.train_supernet import train_supernet
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES

SPACE = SPACES["yolo-nano"].restrict({"image_size": (96,), "width": (8,)})
RECIPE = Recipe(epochs=1, batch_size=4, warmup_steps=1, precision="fp32")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataPair:
    return open_data("digits@96:train=8,val=4", cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def job(data: DataPair) -> TrainJob:
    return TrainJob(data, RECIPE, augment=False, compute=ComputeConfig("cpu"))


def artifact(name: str = "S", classes: tuple[str, ...] = ("cat", "dog")) -> Artifact:
    """An architecture that was searched on another data set, with other classes."""
    return Artifact(name, SPACE.smallest, (), NO_STUDY, classes, DataRecord("pets", "0" * 16))


def console() -> tuple[ConsoleReporter, io.StringIO]:
    text = io.StringIO()
    return ConsoleReporter(Console(file=text, width=200)), text


@pytest.fixture(scope="module")
def trained(job: TrainJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "S.safetensors"
    train_detector(artifact(), job, path, console()[0])
    return path


def test_an_architecture_is_trained_on_any_data(trained: Path, data: DataPair) -> None:
    detector, found, record = load_detector(trained)
    assert found.classes == data.classes and found.data == DataRecord(data.name, data.fingerprint)
    assert detector.head.num_classes == len(data.classes) == len(record["metrics"]["per_class"])
    assert {p.name for p in trained.parent.iterdir()} == {"S.safetensors", "S.metrics.json", "S.log.csv"}


def test_weights_keep_the_interval_of_their_map(trained: Path, data: DataPair) -> None:
    """Written by the training, the same as by ``nas evaluate``, so that a bench and a plot of weights files show it."""
    metrics = load_detector(trained)[2]["metrics"]
    config = EvaluationConfig("cpu")
    evaluated = evaluate_file(trained, data, config, ConsoleReporter(Console(quiet=True)))
    assert metrics["map_interval"] == pytest.approx([evaluated.interval.low, evaluated.interval.high], abs=1e-6)
    (model,) = resolve_models([str(trained)])
    assert model.accuracy is not None and model.accuracy.share_interval == pytest.approx(metrics["map_interval"])
    found = final_candidate(artifact(), Metrics.from_dict(metrics))["map"]
    assert [found.low, found.high] == metrics["map_interval"]
    assert nas.load(trained).metrics == Metrics.from_dict(metrics)


def test_a_finished_training_is_not_repeated(trained: Path, job: TrainJob) -> None:
    reporter, text = console()
    before = trained.stat().st_mtime_ns
    metrics = train_detector(artifact(), job, trained, reporter)
    assert metrics.to_dict() == json.loads(trained.with_suffix(".metrics.json").read_text())["metrics"]
    assert trained.stat().st_mtime_ns == before and "finished weights of this training" in text.getvalue()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"recipe": replace(RECIPE, lr=1e-4)}, "lr = 0.002 and not 0.0001"),
        ({"augment": True}, "augmentation"),
    ],
)
def test_finished_weights_are_never_replaced(
    change: dict[str, object], word: str, trained: Path, job: TrainJob
) -> None:
    before = trained.read_bytes()
    for train in (
        lambda other: train_detector(artifact(), other, trained, console()[0]),
        lambda other: train_detectors([artifact()], other, trained.parent, console()[0]),
    ):
        with pytest.raises(InputError, match=word) as error:
            train(replace(job, **change))  # type: ignore[arg-type]
        assert "\n" not in str(error.value) and str(trained) in str(error.value)
    assert trained.read_bytes() == before


def test_weights_of_something_else_are_never_replaced(trained: Path, job: TrainJob) -> None:
    other = replace(artifact(), architecture=SPACE.largest)
    with pytest.raises(InputError, match="never replaced"):
        train_detector(other, job, trained, console()[0])
    with pytest.raises(InputError, match="never replaced"):
        train_supernet(SPACE, job, trained, console()[0])
    trained.with_name("text.safetensors").write_text("notes")
    with pytest.raises(InputError, match="text.safetensors"):
        train_detector(artifact(), job, trained.with_name("text.safetensors"), console()[0])
    assert trained.with_name("text.safetensors").read_text() == "notes"
    trained.with_name("text.safetensors").unlink()


def test_two_at_once(job: TrainJob, tmp_path: Path) -> None:
    path = tmp_path / "S.safetensors"
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with output_lock(path):
            entered.set()
            leave.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    entered.wait(60)
    try:
        with pytest.raises(InputError, match="another process is writing .*S.safetensors"):
            train_detector(artifact(), job, path, console()[0])
        with pytest.raises(InputError, match="another process is writing .*S.safetensors"):
            train_detectors([artifact("M"), artifact("S")], job, tmp_path, console()[0])
        with pytest.raises(InputError, match="another process is writing .*S.safetensors"):
            train_supernet(SPACE, job, path, console()[0])
    finally:
        leave.set()
        other.join()
    assert list(tmp_path.iterdir()) == []
    with output_lock(path):
        pass


def test_a_network_that_occurs_twice_is_trained_once(job: TrainJob, trained: Path, tmp_path: Path) -> None:
    for suffix in (".safetensors", ".log.csv"):
        (tmp_path / f"S{suffix}").write_bytes(trained.with_suffix(suffix).read_bytes())
    shown, text = console()
    metrics = train_detectors([artifact("S"), artifact("M")], job, tmp_path, shown)
    assert "M is the network of S" in text.getvalue() and metrics[0] == metrics[1]
    (small, _, record), (middle, named, same) = (load_detector(tmp_path / f"{n}.safetensors") for n in "SM")
    assert named.name == "M" and record == same
    assert all(a.equal(b) for a, b in zip(small.parameters(), middle.parameters(), strict=True))
    assert (tmp_path / "M.metrics.json").exists()
    assert (tmp_path / "M.log.csv").read_bytes() == (tmp_path / "S.log.csv").read_bytes()


def test_weights_are_there_before_their_evaluation(
    job: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Path
) -> None:
    path = tmp_path / "S.safetensors"

    def fail(*args: object, **more: object) -> None:
        raise RuntimeError("metrics of these ids")

    with monkeypatch.context() as patch:
        patch.setattr(module, "detect_and_score", fail)
        with pytest.raises(RuntimeError, match="metrics of these ids"):
            train_detector(artifact(), job, path, console()[0])
    assert "metrics" not in load_detector(path)[2]
    with monkeypatch.context() as patch:
        patch.setattr(module, "fit", fail)  # the weights are evaluated, not trained again
        metrics = train_detector(artifact(), job, path, console()[0])
    assert metrics.to_dict() == load_detector(path)[2]["metrics"] == load_detector(trained)[2]["metrics"]
