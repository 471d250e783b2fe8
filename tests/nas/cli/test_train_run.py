"""``nas train`` with the folder of a search: S, M and L side by side, with a reference; and a size for any architecture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas.cli import main
from nas.core.architecture_file import Artifact, DataRecord, write_artifact
from nas.core.estimate import Objective
from nas.core.references import NO_STUDY
from nas.search.report.front_files import Front, write_front
from nas.supernet.weights import load_detector
from search_spaces.references import references
from search_spaces.spaces import SPACES

SPACE = SPACES["yolo-nano"].restrict({"image_size": (96,), "width": (8,)})
DATA = "digits@96:train=8,val=4"
OPTIONS = ["--data", DATA, "--epochs", "1", "--batch-size", "4", "--device", "cpu", "--precision", "fp32"]
SMALLEST = next(iter(references()))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with S and L of a search on other classes."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    for name in ("S", "L"):
        artifact = Artifact(name, SPACE.smallest, (), NO_STUDY, ("cat", "dog"), DataRecord("pets", "0" * 16))
        write_artifact(folder / f"{name}.json", artifact)
    return folder


def test_a_run_and_a_reference(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(run), *OPTIONS, "--reference", SMALLEST]) == 0
    shown = capsys.readouterr().out
    for name in ("S", "L", SMALLEST):
        _, artifact, record = load_detector(run / f"{name}.safetensors")
        assert artifact.architecture["image_size"] == 96 and len(artifact.classes) == 10
        assert f"{record['metrics']['map']:.3f}" in shown and f"{name}.safetensors" in shown
        assert json.loads((run / f"{name}.metrics.json").read_text()) == record
        assert (run / f"{name}.log.csv").exists() and not (run / f"{name}.ckpt").exists()
    before = {p.name: p.stat().st_mtime_ns for p in run.glob("*.safetensors")}
    assert main(["train", str(run), *OPTIONS, "--reference", SMALLEST]) == 0  # nothing is trained twice
    assert before == {p.name: p.stat().st_mtime_ns for p in run.glob("*.safetensors")}


def test_the_names_of_a_run_are_those_that_it_chose(run: Path) -> None:
    (run / "S.json").rename(run / "tiny.json")
    write_front(run, Front((Objective("latency_ms", "min"),), (), (("tiny", SPACE.smallest.id),)))
    assert main(["train", str(run), *OPTIONS, "--out", "weights"]) == 0
    assert [p.name for p in Path("weights").glob("*.safetensors")] == ["S.safetensors"]  # the name in its file


def test_another_size(run: Path) -> None:
    assert main(["train", str(run / "S.json"), *OPTIONS, "--image-size", "64"]) == 2  # not in the space
    assert main(["train", str(run / "S.json"), *OPTIONS, "--image-size", "128", "--out", "wide.safetensors"]) == 0
    assert load_detector(Path("wide.safetensors"))[1].architecture["image_size"] == 128


def test_several_take_one_process_each(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(run), *OPTIONS, "--processes", "2"]) == 2
    assert "1 process each" in capsys.readouterr().err and not list(run.glob("*.safetensors"))
