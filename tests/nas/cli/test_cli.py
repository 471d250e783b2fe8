"""The command line: help without heavy imports, and bad input as exactly one line that says what was got and what to
do, with nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas.cli import MODULES, VERBS, main
from nas.core.architecture_file import read_artifact
from nas.estimators import ESTIMATORS
from nas.export.onnx import export_onnx, metadata_of, write_onnx
from nas.search.settings import SearchSettings
from nas.search.study_reader import read_candidates
from nas.supernet.supernet import Supernet
from nas.supernet.weights import save_detector, save_supernet
from search_spaces.references import reference
from search_spaces.spaces import SPACES

ROOT = Path(__file__).resolve().parents[3]
NANO = SPACES["yolo-nano"]
TINY = NANO.restrict({c.name: c.values[:2] if c.name == "width" else c.values[:1] for c in NANO.choices})
FREE = ("width", "stage2_block", "stage3_depth")
FIXED = [part for c in NANO.choices if c.name not in FREE for part in ("--fix", f"{c.name}={c.values[0]}")]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished search (latency and score from a hash), trained-looking weights, an export, images, data sets:
    whole and broken."""
    folder = tmp_path_factory.mktemp("shelf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_CACHE", str(folder / "cache"))
        patch.setenv("COLUMNS", "200")
        patch.setitem(ESTIMATORS._targets, "latency", "tests._fakes:HashLatency")
        patch.setitem(ESTIMATORS._targets, "score", "tests._fakes:FakeScore")
        begin = ["search", "--accuracy", "score", "--num-classes", "3", "--trials", "10", "--sampler", "random", *FIXED]
        assert main([*begin, "--out", str(folder / "run")]) == 0
        _weights(folder)
        _files(folder)
        yield folder


def _weights(folder: Path) -> None:
    artifact = read_artifact(sorted((folder / "run").glob("[SML].json"))[0])
    torch.manual_seed(0)
    detector = NANO.build(artifact.architecture, artifact.num_classes).eval()
    save_detector(folder / "S.safetensors", detector, artifact, {})
    save_supernet(folder / "supernet.safetensors", Supernet(TINY, 3), ("a", "b", "c"), {})
    (folder / "S.json").write_bytes((folder / "run" / f"{artifact.name}.json").read_bytes())
    detector.deploy()
    export_onnx(detector, folder / "S.onnx", 96, metadata_of(artifact.architecture, artifact.classes, 96))
    write_onnx(detector, folder / "bare.onnx", 96)


def _files(folder: Path) -> None:
    import cv2

    cv2.imwrite(str(folder / "good.png"), np.full((50, 80, 3), 90, np.uint8))
    (folder / "broken.png").write_bytes((folder / "good.png").read_bytes()[:40])
    (folder / "garbage.bin").write_bytes(b"\x00\x01garbage\xff" * 9)
    for suffix in ("onnx", "safetensors", "json"):
        shutil.copy(folder / "garbage.bin", folder / f"garbage.{suffix}")
    (folder / "empty-data" / "images").mkdir(parents=True)
    for split in ("train", "val"):
        content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "x"}]}
        (folder / "empty-data" / f"{split}.json").write_text(json.dumps(content))
    edits: dict[str, dict[str, Any]] = {
        "version": {"version": 99},
        "tampered": {"id": "0123456789ab"},
        "no-space": {"space": "yolo-none"},
    }
    for name, edit in edits.items():
        content = json.loads((folder / "S.json").read_text())
        content["architecture"] |= edit
        if name != "tampered":  # whoever changed the space gave it a proper id
            from search_spaces.architecture import Architecture

            a = content["architecture"]
            a["id"] = Architecture(a["space"], a["version"], tuple(a["choices"].items())).id
        (folder / f"{name}.json").write_text(json.dumps(content))
    content = json.loads((folder / "S.json").read_text())
    del content["classes"]
    (folder / "keyless.json").write_text(json.dumps(content))
    shutil.copytree(folder / "run", folder / "damaged")
    journal = folder / "damaged" / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:9], b"\xff\x00 no record\n", *lines[9:]]))
    (folder / "no-run").mkdir()
    (folder / "bad-settings").mkdir()
    (folder / "bad-settings" / "run.json").write_text('{"space": 3}')
    (folder / "file").write_text("a file")


@pytest.fixture(autouse=True)
def _surroundings(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file outside the cache, and every folder."""
    found = (p for p in sorted(folder.rglob("*")) if "cache" not in p.relative_to(folder).parts)
    return {str(p.relative_to(folder)): b"" if p.is_dir() else p.read_bytes() for p in found}


# help


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown and shown.count(f"nas {verb}") >= 2
    assert VERBS[verb].split()[0] in shown


def test_overview_names_every_verb_and_imports_nothing_heavy() -> None:
    code = "import sys; from nas.cli import main; status = main(['--help']); print(*sys.modules, file=sys.stderr); sys.exit(status)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {
        "torch",
        "optuna",
        "numpy",
        "onnx",
        "onnxruntime",
        "cv2",
        "sqlalchemy",
        "matplotlib",
        "plotly",
        "rich",
        "sklearn",
    }
    assert not heavy & set(done.stderr.split())
    assert "nas.cli" in done.stderr.split()
    for verb, what in VERBS.items():
        assert any(line.split(maxsplit=1) == [verb, what] for line in done.stdout.splitlines() if line.strip())


def test_no_verb_shows_the_overview_and_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "quickstart" in capsys.readouterr().out


def test_every_verb_has_a_module() -> None:
    files = {p.stem for p in (ROOT / "nas" / "cli").glob("*.py")} - {
        "__init__",
        "options",
        "transfer_options",
        "reference",
        "explicit",
        "renamed",
        "border",
    }
    assert files == set(MODULES.values())


def test_list_shows_what_is_registered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*SPACES, *ESTIMATORS))
    assert main(["list", "yolo-nano"]) == 0
    assert all(c.name in capsys.readouterr().out for c in NANO.choices[:1])


# bad input

ZERO = "search --accuracy nwot --num-classes 3 --trials 3 --out {tmp}/out "
SUPER = "search --data digits@96:train=8,val=4 --fix image_size=96 --out {tmp}/out "
CASES = {
    # what is typed -> what the line must contain: what was got, what is known or to be done
    "unknown verb": ("serch --help", "'serch'", "did you mean 'search'"),
    "unknown option": (ZERO + "--trails 3", "--trails", "--help"),
    "option without value": (ZERO + "--seed", "--seed", "--help"),
    "option that is no number": (ZERO + "--seed many", "'many'", "--help"),
    "missing argument": ("train", "architecture", "--help"),
    "unknown space": (ZERO + "--space yolo-nan", "'yolo-nan'", "did you mean 'yolo-nano'"),
    "unknown choice": (ZERO + "--fix imagesize=96", "'imagesize'", "did you mean 'image_size'"),
    "unknown value": (ZERO + "--fix image_size=97", "97", "128"),
    "no equals sign": (ZERO + "--fix image_size", "'image_size'", "CHOICE=VALUE"),
    "no value": (ZERO + "--fix image_size=", "image_size=", "CHOICE=VALUE"),
    "unknown runtime": (ZERO + "--target tensorflow:fp32", "'tensorflow'", "onnxruntime"),
    "bad precision": (ZERO + "--target onnxruntime:fp17", "fp17", "fp32"),
    "bad target": (ZERO + "--target onnxruntime:fp32@big", "big", "whole number"),
    "unknown accuracy": (ZERO.replace("nwot", "nwott"), "'nwott'", "did you mean 'nwot'"),
    "accuracy that is a cost": (ZERO.replace("nwot", "params"), "params", "nwot"),
    "unknown sampler": (ZERO + "--sampler nsga3", "'nsga3'", "nsga2"),
    "unknown reference": (ZERO + "--space yolov8 --seed-with yolo8n", "'yolo8n'", "did you mean 'yolov8n'"),
    "reference of another space": (
        ZERO + "--seed-with yolov8n",
        "yolov8n is no point of yolo-nano",
        "holds references",
    ),
    "reference outside the search": (ZERO + "--space yolov8 --fix width=0.5 --seed-with yolov8n", "0.25", "--fix"),
    "bad budgets": (ZERO + "--budgets S:2ms", "'S:2ms'", "S=2ms"),
    "budget in another unit": (ZERO + "--budgets S=2km", "km", "ms"),
    "falling budgets": (ZERO + "--budgets S=4ms,M=2ms", "M=2", "small to large"),
    "budget nothing meets": (ZERO.replace("nwot", "score") + "--budgets S=1us,M=2us", "0.001", "S"),
    "bad bound": (ZERO + "--bound params<1e6", "'params<1e6'", "NAME<=NUMBER"),
    "bound that is no number": (ZERO + "--bound params<=few", "few", "a number after"),
    "bound on an unknown estimate": (ZERO + "--bound parms<=1e6", "'parms'", "params"),
    "no trial": (ZERO + "--trials 0", "0 trials", "1 or more"),
    "no class": (ZERO + "--num-classes 0", "0 classes", "1 or more"),
    "no data for a supernet": ("search --out {tmp}/out", "without --data", "--accuracy nwot"),
    "no folder": ("search --accuracy nwot", "no folder", "--out"),
    "data that is not there": ("search --data nowhere --out {tmp}/out", "'nowhere'", "digits"),
    "bad digits": ("search --data digits@x --out {tmp}/out", "'x'", "whole number"),
    "empty data": ("search --data {shelf}/empty-data --out {tmp}/out", "no images", "at least one"),
    "negative limit": (SUPER + "--limit -1", "-1", "at least 1"),
    "negative rate": (SUPER + "--lr -1", "lr = -1", "positive"),
    "no batch": (SUPER + "--batch-size 0", "batch_size = 0", "positive"),
    "batches larger than the data": (SUPER + "--batch-size 64", "64", "8"),
    "supernet of other classes": (SUPER + "--supernet {shelf}/supernet.safetensors", "['a', 'b', 'c']", "'9'"),
    "supernet that is not there": (SUPER + "--supernet {tmp}/none.safetensors", "none.safetensors", "expected"),
    "no GPU": (ZERO + "--device cuda", "cuda", "--device cpu"),
    "no such device": (ZERO + "--device abacus", "abacus", "cpu"),
    "run that is there": (ZERO.replace("{tmp}/out", "{shelf}/run"), "holds a run", "--resume"),
    "resume of nothing": ("search --resume {tmp}/nothing", "nothing", "check the path"),
    "resume of no run": ("search --resume {shelf}/no-run", "no-run", "run.json"),
    "resume with damaged settings": ("search --resume {shelf}/bad-settings", "run.json", "nas search wrote"),
    "damaged study": ("search --resume {shelf}/damaged --total-trials 12", "damaged", "move it away"),
    "damaged study of a plot": ("plot {shelf}/damaged", "damaged", "move it away"),
    "plot of no run": ("plot {shelf}/no-run", "no-run", "run.json"),
    "folder under a file": (ZERO.replace("{tmp}/out", "{shelf}/file/out"), "file/out", "is a file"),
    "database that cannot be": (ZERO + "--latency-db {shelf}/file/latency.sqlite", "file", "write"),
    "train over other weights": (
        "train {shelf}/S.json --data digits@96:train=8,val=4 --out {shelf}/S.safetensors",
        "S.safetensors exists",
        "never replaced",
    ),
    "train a folder without architectures": (
        "train {shelf}/no-run --data digits@96:train=8,val=4",
        "no-run has no S.json",
        "nas search",
    ),
    "train at a size that no network has": (
        "train {shelf}/S.json --image-size 100 --data digits@96:train=8,val=4 --out {tmp}/S.safetensors",
        "image size 100",
        "multiple of 32",
    ),
    "train on a device that this build lacks": (
        "train {shelf}/S.json --device mps --data digits@96:train=8,val=4 --out {tmp}/S.safetensors",
        "device 'mps'",
        "auto, cpu",
    ),
    "init of other classes": (
        "train {shelf}/S.json --data {shelf}/data --init {shelf}/supernet.safetensors",
        "data",
        "expected",
    ),
    "space of another version": (
        "train {shelf}/version.json --data digits@96:train=8,val=4",
        "version 99",
        "version 1",
    ),
    "unknown space in a file": (
        "train {shelf}/no-space.json --data digits@96:train=8,val=4",
        "'yolo-none'",
        "yolo-nano",
    ),
    "tampered id": ("train {shelf}/tampered.json --data digits@96:train=8,val=4", "0123456789ab", "edited"),
    "not JSON": ("train {shelf}/garbage.json --data digits", "garbage.json", "JSON"),
    "missing key": ("train {shelf}/keyless.json --data digits", "lacks classes", "expected"),
    "architecture that is not there": ("train {tmp}/S.json --data digits", "S.json", "check the path"),
    "weights without an ending": ("train {shelf}/S.json --data digits --out {tmp}/S", "/S; expected", "S.safetensors"),
    "export to another format": ("export {shelf}/S.safetensors --out {tmp}/S.engine", "S.engine", "ends in .onnx"),
    "no epochs": ("train {shelf}/S.json --data digits --epochs 0", "epochs = 0", "positive"),
    "weights that are not there": ("export {tmp}/S.safetensors", "S.safetensors", ".safetensors file"),
    "garbage for weights": ("export {shelf}/garbage.safetensors --out {tmp}/S.onnx", "garbage.safetensors", "whole"),
    "supernet to export": ("export {shelf}/supernet.safetensors --out {tmp}/S.onnx", "'supernet'", "detector"),
    "detector for a supernet": (SUPER + "--supernet {shelf}/S.safetensors", "'detector'", "supernet"),
    "odd image size": ("export {shelf}/S.safetensors --image-size 100 --out {tmp}/S.onnx", "100", "multiple of 32"),
    "export under a file": ("export {shelf}/S.safetensors --out {shelf}/file/S.onnx", "file", "write"),
    "evaluate on other classes": ("evaluate {shelf}/S.safetensors --data digits@96:train=8,val=4", "'9'", "class0"),
    "no model to predict": ("predict {tmp}/S.onnx {shelf}/good.png", "S.onnx", "nas export"),
    "garbage for a model": ("predict {shelf}/garbage.onnx {shelf}/good.png", "garbage.onnx", "nas export"),
    "model without classes": ("predict {shelf}/bare.onnx {shelf}/good.png", "bare.onnx", "export it again"),
    "measure what is not there": ("measure {tmp}/S.onnx --latency-db {tmp}/l.sqlite", "S.onnx", "check the path"),
    "measure in another precision": (
        "measure {shelf}/S.onnx --target onnxruntime:fp16 --latency-db {shelf}/cache/l.sqlite",
        "fp16",
        "fp32",
    ),
    "measure zero times": ("measure {shelf}/S.onnx --repeat 0", "0", "1 or more"),
    "measure an image": ("measure {shelf}/good.png --latency-db {shelf}/cache/l.sqlite", "good.png", ".json file"),
    "data check of nothing": ("data check nowhere", "'nowhere'", "digits"),
    "data written over something": (
        "data write digits@96:train=8,val=4 --out {shelf}/no-run",
        "no-run",
        "does not exist",
    ),
    "list of an unknown space": ("list yolo", "'yolo'", "yolo-nano"),
    "quickstart without data": ("quickstart --data nowhere --out {tmp}/q", "'nowhere'", "digits"),
    "quickstart of an odd size": ("quickstart --image-size 100 --out {tmp}/q", "100", "128"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_leaves_nothing_behind(
    case: str, shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, *said = CASES[case]
    argv = [word.format(shelf=shelf, tmp=tmp_path) for word in text.split()]
    if "cuda" in argv and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    before = snapshot(shelf)
    capsys.readouterr()
    assert main(argv) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"nas {argv[0]}: ")
    for part in said:
        assert part in lines[0]
    assert snapshot(shelf) == before
    allowed = {"budget nothing meets": "out"}.get(case)  # known only after work was done: the run is kept
    assert [name for name in snapshot(tmp_path) if allowed is None or not name.startswith(allowed)] == []


# what goes on


def test_a_broken_image_is_named_and_the_others_go_on(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [str(shelf / name) for name in ("broken.png", "good.png", "none.png")]
    assert main(["predict", str(shelf / "S.onnx"), *images, "--out", str(tmp_path / "drawn")]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 3
    assert "broken.png" in shown[0] and "none.png" in shown[2] and "good.png ->" in shown[1]
    assert [p.name for p in (tmp_path / "drawn").iterdir()] == ["good.png"]


def test_no_usable_image_at_all_is_an_error(shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(shelf / "S.onnx"), str(shelf / "broken.png"), "--out", str(tmp_path / "drawn")]) == 2
    assert "broken.png" in "".join(capsys.readouterr())


def test_two_images_of_one_name_do_not_overwrite_each_other(shelf: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    shutil.copy(shelf / "good.png", tmp_path / "other" / "good.png")
    assert main(["predict", str(shelf / "S.onnx"), str(shelf / "good.png"), "other/good.png", "--out", "drawn"]) == 0
    assert len(list((tmp_path / "drawn").iterdir())) == 2


def test_a_full_disk_keeps_the_old_file(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "S.onnx"
    old.write_bytes(b"old")

    def replace(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", replace)
    assert main(["export", str(shelf / "S.safetensors"), "--out", str(old)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "No space left" in lines[0] and "free some space" in lines[0]
    assert snapshot(tmp_path) == {"S.onnx": b"old"}


def test_ctrl_c_is_one_line_and_status_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("nas.cli.registered.run", interrupt)
    assert main(["list"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_run_is_complete_can_be_moved_and_goes_on(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "moved"
    shutil.copytree(shelf / "run", run)
    front = json.loads((run / "front.json").read_text())
    assert front
    names = {p.name for p in run.iterdir()}
    assert {"run.json", "study.journal", "front.json", "front.csv", "frontier.html", "frontier.png"} <= names
    before = (run / "study.journal").read_bytes()
    assert main(["plot", str(run), "--out", str(tmp_path / "plots")]) == 0
    assert {p.name for p in (tmp_path / "plots").iterdir()} == {"frontier.html", "frontier.png"}
    assert (run / "study.journal").read_bytes() == before
    assert main(["search", "--resume", str(run), "--total-trials", "12"]) == 0
    journal = (run / "study.journal").read_text()
    assert journal.startswith(before.decode()) and journal.count('"candidate"') == 12
    monkeypatch.chdir(run)
    assert main(["search", "--resume", "."]) == 0
    assert (run / "study.journal").read_text().count('"candidate"') == 12


def test_a_search_begins_with_the_references_it_is_seeded_with(shelf: Path, tmp_path: Path) -> None:
    argv = f"search --space yolov8 --accuracy score --num-classes 3 --trials 4 --seed-with yolov8s,yolov8n --out {tmp_path}/run".split()
    assert main(argv) == 0
    tried = [c.architecture for c in read_candidates(tmp_path / "run" / "study.journal", "run")]
    assert tried[2:] == [reference(name).architecture for name in ("yolov8s", "yolov8n")]
    assert SearchSettings.read(tmp_path / "run").seeded == ("yolov8s", "yolov8n")
