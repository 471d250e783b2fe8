"""Files that version 0.1 wrote are read, resumed and extended.

``tests/previous_version`` holds a finished run of ``nas search`` with its supernet and a trained S, a run that was
killed, and the latency database of both (``digits@96:train=64,val=16``, the smallest networks of ``yolo-nano``).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import nas
from latency_db.core.profiler import Network
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.database.table_io import read_table
from latency_db.predictor.features import Features, network_features
from nas.cli import main
from nas.core.architecture_file import read_artifact
from nas.estimators import ESTIMATORS
from nas.search.report.front_files import read_front
from nas.search.settings import SearchSettings
from nas.search.study_reader import read_candidates
from nas.supernet.weights import load_detector, load_supernet
from search_spaces.architecture import Architecture
from search_spaces.image_size import ImageSize

TABLE = Path(__file__).parents[1] / "latency_db" / "tables" / "epyc-zen3-onnxruntime-fp32.csv"
FILES = Path(__file__).parent / "previous_version"
DATA = "digits@96:train=64,val=16"
DEVICE = "2dd106d9b236"
"""The fingerprint of the machine on which they were written."""


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the files, the working folder as it was then."""
    shutil.copytree(FILES, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "old"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latencies by hash, of the device that the files are of: what is tested here is files."""
    monkeypatch.setitem(ESTIMATORS._targets, "latency", "tests._fakes:HashLatency")
    monkeypatch.setattr("nas.search.study_identity.device_id", lambda plan: DEVICE)


def test_the_files_are_small() -> None:
    assert sum(path.stat().st_size for path in FILES.rglob("*")) < 3e6


# reading


@pytest.mark.parametrize("run, trials", [("run", 4), ("cut", 8)])
def test_settings(run: str, trials: int, old: Path) -> None:
    settings = SearchSettings.read(old / run)
    assert (settings.trials, settings.data, settings.name) == (trials, DATA, run)
    assert settings.fixed["image_size"] == (96,) and settings.budgets == "S=5ms,L=9ms"
    assert SearchSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_study_and_front(old: Path) -> None:
    candidates = list(read_candidates(old / "run" / "study.journal", "run"))
    assert len(candidates) == 4 and all({"latency_ms", "map"} <= {e.name for e in c.estimates} for c in candidates)
    front = read_front(old / "run" / "front.json")
    assert {c.id for c in front.candidates} <= {c.id for c in candidates}
    assert dict(front.chosen)["S"] == read_artifact(old / "run" / "S.json").architecture.id


def test_weights(old: Path) -> None:
    detector, artifact, record = load_detector(old / "run" / "S.safetensors")
    assert artifact.architecture == read_artifact(old / "run" / "S.json").architecture
    assert record["metrics"] == json.loads((old / "run" / "S.metrics.json").read_text())["metrics"]
    supernet, classes, _ = load_supernet(old / "run" / "supernet.safetensors")
    assert classes == artifact.classes == tuple("0123456789")
    assert sum(p.numel() for p in supernet.parameters()) > sum(p.numel() for p in detector.parameters())


def test_latency_database(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (old / "latency.sqlite").read_bytes()
    assert main(["db", "ls", "--latency-db", "latency.sqlite", "--each"]) == 0
    assert capsys.readouterr().out.count("onnxruntime:fp32") >= 8
    assert main(["db", "export", "out.csv", "--latency-db", "latency.sqlite"]) == 0
    assert len((old / "out.csv").read_text().splitlines()) >= 9
    assert (old / "latency.sqlite").read_bytes() == before
    with LatencyDB("latency.sqlite") as database:
        assert len(list(database.rows())) == 8


def test_a_run_in_python(old: Path) -> None:
    run = nas.open_run(old / "run")
    assert run.names == ("S",) and len(run.candidates) == 4
    assert run["S"].estimates["latency_ms"].value == pytest.approx(
        float(run.candidates.set_index("name").loc["S", "latency_ms"]), rel=0.5
    )
    assert run.plot().data
    model = nas.load(old / "run" / "S.safetensors")
    assert model.classes == tuple("0123456789") and model.metrics.map == 0


# resuming


def test_a_plot(old: Path) -> None:
    assert main(["plot", "run", "--out", "plots"]) == 0
    assert (old / "plots" / "frontier.html").is_file() and (old / "plots" / "frontier.png").is_file()


def test_a_finished_search_takes_more_trials(old: Path, measured: None) -> None:
    before = (old / "run" / "study.journal").read_bytes()
    assert main(["search", "--resume", "run", "--more", "5"]) == 0
    journal = (old / "run" / "study.journal").read_bytes()
    assert journal.startswith(before)
    assert len(list(read_candidates(old / "run" / "study.journal", "run"))) == 5
    assert read_artifact(old / "run" / "S.json").num_classes == 10


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_a_killed_search_resumes(share: float, old: Path, measured: None) -> None:
    """Killed before it chose S and L; and as if it had been killed earlier, in the middle of a line of the journal."""
    journal = old / "cut" / "study.journal"
    journal.write_bytes(journal.read_bytes()[: int(share * journal.stat().st_size)])
    known = {c.id for c in read_candidates(journal, "cut")}
    assert (len(known) == 8) if share == 1 else (0 < len(known) < 8)
    assert main(["search", "--resume", "cut"]) == 0
    candidates = [c.id for c in read_candidates(journal, "cut")]
    assert known <= set(candidates) and len(candidates) == len(set(candidates)) == 8
    assert (old / "cut" / "S.json").is_file() and (old / "cut" / "L.json").is_file()


def test_a_finished_training_is_never_replaced(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its augmentation was another: by default, half of the images are not moved any more."""
    before = (old / "run" / "S.safetensors").read_bytes()
    command = f"train run/S.json --data {DATA} --init supernet --epochs 1 --batch-size 16"
    assert main(command.split()) == 2
    assert "'affine': 1.0" in (message := capsys.readouterr().err) and message.count("\n") == 1
    assert (old / "run" / "S.safetensors").read_bytes() == before


def test_weights_are_evaluated_and_exported(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "run/S.safetensors", "--data", DATA, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["map"] == pytest.approx(0, abs=1e-3)
    assert main(["export", "run/S.safetensors", "--out", "S.onnx"]) == 0
    assert nas.load(old / "S.onnx").classes == tuple("0123456789")


# squares


def test_squares_are_written_as_they_were(old: Path) -> None:
    """Ids, settings, keys and records of every file are those that this version writes of the same values."""
    for run in ("run", "cut"):
        stored = json.loads((old / run / "run.json").read_text())
        settings = json.loads(json.dumps(SearchSettings.read(old / run).to_dict()))
        assert settings["fixed"] == stored["fixed"] and settings["target"] == stored["target"]
    stored = json.loads((old / "run" / "S.json").read_text())
    artifact = read_artifact(old / "run" / "S.json")
    assert artifact.architecture.to_dict() == stored["architecture"]
    assert artifact.architecture.image_size == artifact.architecture["image_size"] == 96
    for c in read_candidates(old / "run" / "study.journal", "run"):
        assert Architecture.from_dict(c.architecture.to_dict()).id == c.architecture.id
        assert c.architecture.replace(image_size=ImageSize.of("96x96").value) == c.architecture
    with LatencyDB("latency.sqlite") as database:
        rows = list(database.rows())
    for key, m in (*rows, *read_table(TABLE).rows):
        network = Network.from_dict(m.environment["network"])
        assert network.key == key.workload and network.to_dict() == m.environment["network"]
        assert str(Target.read(key.target)) == key.target == str(m.target)
    for _, m in rows[:2]:
        features = network_features(Network.from_dict(m.environment["network"])).to_dict()
        assert features["image_size"] == 96 and Features.from_dict(features).to_dict() == features
    assert len(rows) == 8
