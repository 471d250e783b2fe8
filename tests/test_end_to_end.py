"""The whole job on a handful of images: every file of a run, every verb on it, and a second start that repeats
nothing."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from latency_db.core.profiler import Protocol
from nas.cli import main
from nas.core.architecture_file import read_artifact
from nas.data.loader import Loader, LoaderConfig
from nas.data.source import open_data
from nas.data.transforms import Augmentation
from nas.export.onnx import TOLERANCE, export_onnx, metadata_of, parity
from nas.inference.model import load
from nas.search.study_reader import read_candidates
from nas.supernet.batchnorm import recalibrate
from nas.supernet.supernet import Supernet
from nas.supernet.weights import load_detector, load_supernet
from search_spaces.spaces import SPACES
from tests._progress import recorded

DATA = "digits@96:train=32,val=8"
TRIALS = 6
BRIEF = Protocol(min_rounds=3, max_rounds=6, half_width=0.2, max_s=2.0, warmup_s=0.1)
SETTINGS = ["--data", DATA, "--image-size", "96", "--trials", str(TRIALS), "--supernet-epochs", "1", "--epochs", "1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """``nas quickstart`` as small as it gets; what is reported is measured to a coarser interval, which is no matter
    here."""
    folder = tmp_path_factory.mktemp("quickstart")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_CACHE", str(folder / "cache"))
        patch.setenv("COLUMNS", "200")
        patch.setattr("nas.estimators.latency.FINALIST", BRIEF)
        patch.setattr("latency_db.core.profiler.FINALIST", BRIEF)
        patch.setattr("nas.search.certify.FINALIST", BRIEF)
        reporter = recorded(patch)
        assert main(["quickstart", *SETTINGS, "--out", str(folder / "run")]) == 0
        reporter.check(
            "supernet", "checking the ranking of the supernet", "search", "measuring the chosen again", "train "
        )
        yield folder / "run"


def names(run: Path) -> list[str]:
    return [p.stem for size in "SML" if (p := run / f"{size}.json").exists()]


def test_every_file_of_a_run(run: Path) -> None:
    assert names(run)
    there = {p.name for p in run.iterdir()}
    once = {
        "run.json",
        "study.journal",
        ".study.journal.driver",
        "supernet.safetensors",
        "supernet.log.csv",
        "front.json",
        "front.csv",
        "candidates.csv",
        "frontier.html",
        "frontier.png",
        "prediction.png",
        "results.md",
    }
    each = {
        f"{name}.{suffix}"
        for name in names(run)
        for suffix in ("json", "safetensors", "metrics.json", "log.csv", "onnx")
    }
    assert there == once | each  # and nothing temporary left
    assert (run / "frontier.png").read_bytes().startswith(b"\x89PNG") and (
        run / "prediction.png"
    ).read_bytes().startswith(b"\x89PNG")
    assert "<html" in (run / "frontier.html").read_text()[:200]
    assert all(name in (run / "results.md").read_text() for name in names(run))


def test_the_chosen_are_points_of_the_space_with_all_their_estimates(run: Path) -> None:
    candidates = {c.id for c in read_candidates(run / "study.journal", "run")}
    assert len(candidates) == TRIALS
    latencies = []
    for name in names(run):
        artifact = read_artifact(run / f"{name}.json")
        SPACES["yolo-nano"].check(artifact.architecture)
        assert artifact.name == name and artifact.architecture.id in candidates
        assert artifact.classes == open_data(DATA).classes and artifact.study.trials == TRIALS
        found = {e.name: e for e in artifact.estimates}
        assert set(found) == {"params", "macs", "latency_ms", "map"}
        assert found["latency_ms"].source == "measured" and found["latency_ms"].low is not None
        latencies.append(found["latency_ms"].value)
    assert latencies == sorted(latencies)


def test_weights_and_exports_agree(run: Path) -> None:
    for name in names(run):
        detector, artifact, record = load_detector(run / f"{name}.safetensors")
        assert artifact == read_artifact(run / f"{name}.json")
        assert record == json.loads((run / f"{name}.metrics.json").read_text())
        assert parity(detector.deploy(), run / f"{name}.onnx", 96, seed=7) <= TOLERANCE
        assert load(run / f"{name}.onnx").classes == artifact.classes
    supernet, classes, _ = load_supernet(run / "supernet.safetensors")
    assert classes == open_data(DATA).classes and isinstance(supernet, Supernet)


def test_evaluate_gives_the_metrics_of_the_training(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = names(run)[-1]
    assert main(["evaluate", str(run / f"{name}.safetensors"), "--data", DATA, "--json", "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    metrics = json.loads(shown[shown.index("{") :])
    trained = json.loads((run / f"{name}.metrics.json").read_text())["metrics"]
    assert metrics.keys() > trained.keys()
    for key, value in trained.items():
        assert metrics[key] == pytest.approx(value, abs=1e-6), key


def test_export_predict_measure_and_plot(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.profiling.measure.FINALIST", BRIEF)
    reporter = recorded(monkeypatch)
    name = names(run)[0]
    onnx = tmp_path / "again.onnx"
    assert main(["export", str(run / f"{name}.safetensors"), "--out", str(onnx), "--image-size", "128"]) == 0
    detector, _, _ = load_detector(run / f"{name}.safetensors")
    assert parity(detector.deploy(), onnx, 128) <= TOLERANCE

    images = [str(s.path) for s in open_data(DATA).val.samples[:2]]
    assert main(["predict", str(onnx), *images, "--out", str(tmp_path / "drawn"), "--score", "0.01"]) == 0
    assert sorted(p.stem for p in (tmp_path / "drawn").iterdir()) == sorted(Path(p).stem for p in images)

    for model in (f"{name}.onnx", f"{name}.json", f"{name}.safetensors"):
        capsys.readouterr()
        assert main(["measure", str(run / model), "--json", "--latency-db", str(tmp_path / "latency.sqlite")]) == 0
        (record,) = json.loads(capsys.readouterr().out)
        assert record["low_ms"] <= record["median_ms"] <= record["high_ms"]
    reporter.check(f"export {name}.safetensors", f"measuring {name}.onnx on onnxruntime:fp32")

    assert main(["plot", str(run), "--out", str(tmp_path / "plots"), "--title", "Again"]) == 0
    assert {p.name for p in (tmp_path / "plots").iterdir()} == {"frontier.html", "frontier.png"}


def test_certify(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = recorded(monkeypatch)
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    assert main(["certify", str(copy), "--repeat", "2", "--latency-db", str(tmp_path / "latency.sqlite")]) in (
        0,
        1,
    )  # busy machines may differ
    assert "end to end" in capsys.readouterr().out
    reporter.check("measuring again")
    found = json.loads((copy / "certificate.json").read_text())
    assert [c["name"] for c in found] == names(run)
    for c in found:
        assert len(c["measured"]) == 2 and c["said"]["name"] == "latency_ms"
        assert c["end_to_end_ms"] == pytest.approx(
            c["median_ms"] + sum(c["parts"][k] for k in ("read_ms", "prepare_ms", "suppress_ms"))
        )
        assert c["measured"][0]["environment"]["network"]["image_size"] == 96
    elsewhere = ["--target", "onnxruntime:int8", "--latency-db", str(tmp_path / "latency.sqlite")]
    assert (
        main(["certify", str(copy), "--repeat", "1", *elsewhere]) == 0
    )  # calibrated with the run's own images; nothing to compare with
    assert "int8" in (copy / "certificate.json").read_text()
    (copy / "S.json").write_text("{}")
    assert main(["certify", str(copy)]) == 2


def test_a_second_start_repeats_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the supernet, nor a candidate, nor the training of the chosen: asking an estimator of the study would
    fail, as would a training."""

    def never(*args: object) -> None:
        raise AssertionError("evaluated again")

    supernet = (run / "supernet.safetensors").read_bytes()
    candidates = list(read_candidates(run / "study.journal", "run"))
    monkeypatch.setattr("nas.estimators.supernet_map.SupernetMap.__call__", never)
    monkeypatch.setattr("nas.estimators.latency.Latency.__call__", never)
    monkeypatch.setattr("nas.core.distributed.run_each", never)
    assert main(["quickstart", *SETTINGS, "--out", str(run)]) == 0
    assert "resuming the run" in capsys.readouterr().out
    assert list(read_candidates(run / "study.journal", "run")) == candidates
    assert (run / "supernet.safetensors").read_bytes() == supernet


@pytest.mark.parametrize("seed", range(3))
def test_subnet_extract_and_export_are_one_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """A random architecture: the supernet's forward equals the extract's; recalibrated, fused and exported it still
    is the same network."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    space = SPACES["yolo-nano"].restrict({"image_size": (96,)})
    torch.manual_seed(seed)
    architecture = space.sample(random.Random(seed))
    supernet = Supernet(space, 10)
    extracted = supernet.extract(architecture)
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        shared, own = supernet(images, architecture), extracted.train()(images)
    assert torch.allclose(shared.logits, own.logits, atol=1e-5) and torch.allclose(shared.boxes, own.boxes, atol=1e-3)

    train = open_data("digits@96:train=8,val=2").train
    calibration = [
        b.images.float() / 255
        for b in Loader(train, LoaderConfig(4, 96, Augmentation.NONE, 0, shuffle=False, drop_last=False)).epoch(0)
    ]
    recalibrate(extracted, calibration)
    extracted.eval().double()  # an untrained network on noise saturates: in float32 rounding alone can pass the tolerance
    with torch.no_grad():
        unfused = extracted.predict(images.double())
        fused = extracted.deploy().predict(images.double())
    extracted.float()
    assert (unfused[0] - fused[0]).abs().max() / 96 <= TOLERANCE and (unfused[1] - fused[1]).abs().max() <= TOLERANCE
    path = tmp_path / "subnet.onnx"
    assert (
        unfused[0] - unfused[0].flip(0)
    ).abs().max() > 0  # different images, different boxes: the comparison is of something
    worst = export_onnx(extracted, path, 96, metadata_of(architecture, tuple(map(str, range(10))), 96))
    assert (
        worst <= TOLERANCE and parity(extracted, path, 96, seed=seed) <= 5 * TOLERANCE
    )  # kernels with AMX round otherwise than AVX2's: 1.7e-4 seen
    with torch.no_grad():
        next(m for m in extracted.modules() if isinstance(m, torch.nn.Conv2d)).weight.mul_(1.01)
    assert parity(extracted, path, 96, seed=seed) > 100 * TOLERANCE  # the check sees a weight that is wrong by 1 %
