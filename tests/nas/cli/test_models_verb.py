"""References on the command line: listed, written as architecture files, and taken by their names where files are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from latency_db.core.measurement import LatencyKey
from latency_db.core.profiler import Network
from latency_db.database.table_io import write_table
from nas.cli import main
from nas.core.architecture_file import SCHEMA_FILE, DataRecord, read_artifact
from nas.core.estimate import Estimate
from nas.core.references import NO_DATA, artifact_of, matching, reference_artifact, reference_of, with_classes_of
from nas.supernet.weights import load_detector
from search_spaces.references import FAMILIES, references
from tests._measured import DEVICE, measurement

SMALLEST = next(iter(references()))
FAMILY = references()[SMALLEST].family
DATA = "digits@96:train=8,val=4"


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NAS_CACHE": str(tmp_path / "cache"), "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


def test_one_of_each_family_is_listed_with_what_is_published(capsys: pytest.CaptureFixture[str]) -> None:
    names = [next(iter(FAMILIES[family])) for family in FAMILIES]
    assert main(["models", *names]) == 0
    shown = capsys.readouterr().out
    for name in names:
        said = references()[name].published
        line = next(line for line in shown.splitlines() if name in line.split())
        assert said is None or f"{said.map50_95 / 100:.3f}" in line.split()
        assert said is None or said.source in shown


def test_json_has_counts_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", FAMILY.lower(), SMALLEST, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(FAMILIES[FAMILY])
    first, published = rows[0], references()[SMALLEST].published
    assert (
        published is not None
        and first["published"]["map50_95"] == published.map50_95
        and first["published"]["source"] == published.source
    )
    assert first["params"] / 1e6 == pytest.approx(published.params_m, abs=0.1) and 2 * first[
        "macs"
    ] / 1e9 == pytest.approx(published.gflops, rel=0.1)


def test_every_reference_is_an_architecture_file() -> None:
    schema = json.loads(SCHEMA_FILE.read_text())
    for name, reference in references().items():
        artifact = reference_artifact(name)
        jsonschema.validate(artifact.to_dict(), schema)
        assert artifact.architecture == reference.architecture and artifact.num_classes == 80
        assert reference_of(artifact.architecture.replace(image_size=320)) == reference and matching(name) == [
            reference
        ]


def test_a_file_is_written_and_taken_by_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", SMALLEST, "--image-size", "96", "--out", "mine.json"]) == 0
    kept = Path("mine.json").read_bytes()
    assert main(["models", SMALLEST, "--image-size", "128", "--out", "mine.json"]) == 2
    assert "holds another architecture" in capsys.readouterr().err and Path("mine.json").read_bytes() == kept
    assert main(["models", SMALLEST, "--image-size", "96", "--out", "mine.json"]) == 0
    artifact = read_artifact("mine.json")
    assert artifact.architecture == references()[SMALLEST].architecture.replace(image_size=96)
    assert (artifact.name, artifact.data, artifact.estimates) == (SMALLEST, NO_DATA, ())
    assert main(["train", "mine.json", "--data", DATA, "--epochs", "1", "--batch-size", "4", "--no-augment"]) == 0
    _, trained, record = load_detector(Path("mine.safetensors"))
    assert trained.data.name == DATA and trained.data.fingerprint == record["data"] and len(trained.classes) == 10
    assert "mAP50-95" in capsys.readouterr().out


def test_names_stand_for_files_unless_there_is_one(tmp_path: Path) -> None:
    assert artifact_of(Path(SMALLEST)) == reference_artifact(SMALLEST)
    Path(SMALLEST).write_text(json.dumps(reference_artifact(SMALLEST, 3).to_dict()))
    assert artifact_of(Path(SMALLEST)).num_classes == 3


def test_classes_are_those_of_the_data_set() -> None:
    from nas.data.source import open_data

    data = open_data(DATA)
    plain = reference_artifact(SMALLEST)
    assert with_classes_of(plain, data).classes == data.classes
    searched = replace(plain, estimates=(Estimate("params", 1e6),), data=DataRecord("other", "0" * 16))
    taken = with_classes_of(searched, data)
    assert (taken.architecture, taken.classes, taken.estimates) == (searched.architecture, data.classes, ())
    assert taken.data == DataRecord(data.name, data.fingerprint)
    same = replace(searched, classes=data.classes)  # the estimates are of a network with these classes
    assert with_classes_of(same, data) == same


def test_measure_takes_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = Network(references()[SMALLEST].architecture, 80, 640)
    m = measurement(network, 12.5)
    write_table(tmp_path / "desk.csv", [(LatencyKey(m.workload, str(m.target), "1.0", DEVICE.id), m)], "me")
    monkeypatch.setenv("NAS_TABLES", str(tmp_path / "desk.csv"))
    assert main(["measure", SMALLEST, "--target", "recorded:fp32/desk"]) == 0
    assert "12.500 ms" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("models yolo99", ("'yolo99'", FAMILY)),
        ("models {family} --out x.json", ("--out for", "one")),
        ("models {name} --out x.json --image-size 97", ("97", "96")),
        ("models {name} --out x.json --num-classes 0", ("0 classes", "1 or more")),
        ("train {name}z --data digits", ("{name}z", "did you mean '{name}'?")),
        ("measure {name}z", ("{name}z", "did you mean '{name}'?")),
        ("measure nothing.json", ("nothing.json", "check the path")),
    ],
)
def test_bad_input_is_one_line(
    argv: str, words: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv.format(name=SMALLEST, family=FAMILY).split()) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and all(word.format(name=SMALLEST) in lines[0] for word in words), lines
    assert not (tmp_path / "x.json").exists()
