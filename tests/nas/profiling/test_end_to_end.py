"""End-to-end latency: scenes that make suppression work as after a trained detector, steps that sum to the whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from latency_db.core.profiler import Workload
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.runtimes import RUNTIMES, opened_by
from nas.bench.journal import BenchJournal
from nas.bench.models import resolve_models
from nas.bench.run import BenchRequest, run_bench
from nas.bench.steps import steps_of
from nas.cli import main
from nas.core.architecture_file import Artifact, DataRecord, write_artifact
from nas.core.references import NO_STUDY
from nas.core.reporter import Reporter
from nas.data.dataset import DetectionDataset, make_sample
from nas.data.source import DataPair, open_data
from nas.data.transforms import AREA, LINEAR, letterbox
from nas.estimators.base import Context
from nas.estimators.end_to_end_latency import EndToEndLatency
from nas.inference.nms import SHOWN, nms
from nas.profiling.end_to_end import EndToEndParts, EndToEndProfiler
from nas.profiling.end_to_end_engine import Chain
from nas.profiling.scene import BACKGROUND, Scene
from nas.profiling.workload import latency_workload
from nas.search.chosen_files import interpolation_of_run
from nas.supernet.supernet import Supernet
from nas.supernet.weights import save_detector, save_supernet
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES
from tests._models import QUICK, write_model

SPACE = SPACES["yolo-nano"]
TARGET = Target("onnxruntime", image_size=64)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataPair:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        return open_data("digits@96:train=2,val=6")


@pytest.fixture
def scene(data: DataPair) -> Scene:
    return Scene.of(data.val)


def workload(folder: Path) -> Workload:
    return latency_workload(SPACE, SPACE.smallest, 10, TARGET, folder)


def test_a_scene_is_the_same_for_everyone(
    data: DataPair, scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert 1 <= len(scene.images) <= 6 and all(len(boxes) for boxes in scene.boxes)
    assert Scene.of(data.val).id == scene.id != Scene.of(data.val, 2).id
    again = Scene.load(scene.saved())
    assert again.id == scene.id and scene.saved().parent == tmp_path / "latency_db"
    for a, b in zip(scene.outputs(96, 200, 10), again.outputs(96, 200, 10), strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


def test_a_scene_is_shrunk_as_its_data_set(
    data: DataPair, scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    linear = Scene.of(data.interpolated(LINEAR).val)
    assert scene.interpolation == AREA and linear.interpolation == LINEAR
    assert scene.interpolated(LINEAR).id == linear.id != scene.id == linear.interpolated(AREA).id
    for one in (scene, linear):
        kept = Scene.load(one.saved())
        assert (kept.interpolation, kept.id) == (one.interpolation, one.id)
        seen: list[NDArray[np.float32]] = []

        def session(images: NDArray[np.float32], seen: list[NDArray[np.float32]] = seen) -> list[NDArray[np.float32]]:
            seen.append(images)
            return [np.zeros((len(images), 300, 4), np.float32), np.zeros((len(images), 300, 10), np.float32)]

        Chain(session, kept, 64, 1, True)()
        rgb = one.images[0]
        expected = letterbox(rgb.shape[1], rgb.shape[0], 64, one.interpolation).paste(rgb)
        np.testing.assert_array_equal(seen[-1][0], expected.transpose(2, 0, 1).astype(np.float32) / np.float32(255))


def test_suppression_of_a_scene_finds_its_objects(scene: Scene) -> None:
    several, single = scene.outputs(320, 2100, 10), scene.outputs(320, 2100, 10, per_object=1)
    for objects, (boxes, scores), (_, own) in zip(scene.boxes, several, single, strict=True):
        over = (scores.max(1) > BACKGROUND).sum()
        found = len(nms(boxes, scores, **vars(SHOWN)))
        assert over == 10 * len(objects) and len(objects) <= found <= 2 * len(objects)
        assert (own.max(1) > BACKGROUND).sum() == len(objects)


def test_a_split_without_objects_has_no_scene(data: DataPair) -> None:
    bare = make_sample(1, data.val.samples[0].path, (96, 96), [], data.val.problems)
    empty = DetectionDataset("empty", "val", data.classes, (bare,), data.val.problems)
    with pytest.raises(InputError, match="no object in the val images of empty"):
        Scene.of(empty)


def test_the_steps_sum_to_the_whole(scene: Scene, tmp_path: Path) -> None:
    with EndToEndProfiler(TARGET, scene, QUICK) as profiler, RUNTIMES["onnxruntime"](TARGET, QUICK) as plain:
        one = workload(tmp_path)
        for _ in range(4):  # other tests run beside this one
            measured = profiler.measure(one)
            parts = EndToEndParts.of(measured)
            assert parts is not None and parts.preprocessing_ms > 0 and parts.suppression_ms > 0
            assert parts.decoding_ms is not None and 0 < parts.decoding_ms < parts.network_ms
            if abs(parts.total_ms / measured.median_ms - 1) <= 0.05:
                break
        else:
            pytest.fail(f"{parts} of {measured.median_ms} ms")
        assert measured.environment["settings"]["objects_per_image"] > 1
        assert measured.environment["anchor"]["wall_ms"] > 0
        assert profiler.key(one.key) != plain.key(one.key) and scene.id in profiler.key(one.key).version
        assert EndToEndParts.of(plain.measure(one)) is None


def test_a_network_with_one_box_per_object_is_not_suppressed(scene: Scene) -> None:
    def session(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return [np.zeros((len(images), 300, 4), np.float32), np.zeros((len(images), 300, 10), np.float32)]

    counts = []
    for end_to_end in (False, True):
        chain = Chain(session, scene, 96, 2, end_to_end)
        detections = chain()
        assert isinstance(detections, list) and len(detections) == 2
        counts.append([len(found) for found in detections])
        steps = chain.time({})
        assert set(steps) == {"wall", "cpu"} and set(steps["wall"]) == {"preprocessing", "network", "suppression"}
    assert counts[1] == [len(boxes) for boxes in scene.boxes[:2]]


def test_what_cannot_be_measured_is_one_line(scene: Scene, data: DataPair, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="runs ONNX files"):
        EndToEndProfiler(Target("torch"), scene)
    with EndToEndProfiler(TARGET, scene, QUICK) as profiler, pytest.raises(InputError, match="an architecture"):
        profiler.measure(Workload.of_file(write_model(tmp_path / "m.onnx", 1)))
    with LatencyDB(str(tmp_path / "l.sqlite")) as database:
        context = Context(SPACE, 10, None, TARGET, database)
        with pytest.raises(InputError, match="latency-end-to-end has no data set"):
            EndToEndLatency(context)
        context = Context(SPACE, 10, data, TARGET, database)
        with (
            opened_by(lambda target, protocol: RUNTIMES[target.runtime](target)),
            pytest.raises(InputError, match="another machine"),
        ):
            EndToEndLatency(context)
    assert main(["bench", "yolov8n", "--end-to-end", "--out", str(tmp_path / "b")]) != 0


def test_the_estimator_keeps_its_measurement(data: DataPair, tmp_path: Path) -> None:
    with LatencyDB(str(tmp_path / "l.sqlite")) as database:
        context = Context(SPACE, 10, data, TARGET, database, scratch=tmp_path)
        estimator = EndToEndLatency(context, QUICK)
        try:
            first = estimator(SPACE.smallest)
            assert first.name == "latency_end_to_end_ms" and first.unit == "ms" and first.source == "measured"
            (key, kept), *more = database.rows()
            assert not more and "end to end" in key.version and EndToEndParts.of(kept) is not None
            assert estimator(SPACE.smallest).value == pytest.approx(first.value, rel=1e-6)
        finally:
            estimator.close()


def test_a_search_from_published_weights_measures_their_interpolation(data: DataPair, tmp_path: Path) -> None:
    with LatencyDB(str(tmp_path / "l.sqlite")) as database:
        for pair in (data, data.interpolated(LINEAR)):
            estimator = EndToEndLatency(Context(SPACE, 10, pair, TARGET, database, scratch=tmp_path), QUICK)
            try:
                estimator(SPACE.smallest)
            finally:
                estimator.close()
        rows = list(database.rows())
        assert {kept.environment["settings"]["interpolation"] for _, kept in rows} == {AREA, LINEAR}
        assert len({key.version for key, _ in rows}) == 2


def test_a_bench_shrinks_images_as_the_weights_say(data: DataPair, tmp_path: Path) -> None:
    artifact = Artifact("S", SPACE.smallest, (), NO_STUDY, data.train.classes, DataRecord("d", "0"))
    detector = SPACE.build(SPACE.smallest, 10)
    files = []
    for name, extra in (("own", {}), ("published", {"interpolation": LINEAR})):
        files.append(save_detector(tmp_path / f"{name}.safetensors", detector, replace(artifact, name=name), extra))
    models = resolve_models([str(path) for path in files], image_size=64)
    assert {m.name: m.interpolation for m in models} == {"own": AREA, "published": LINEAR}
    request = BenchRequest(models, [TARGET], tmp_path / "bench", 1, scene=Scene.of(data.val))
    run_bench(request, Reporter(), protocol=QUICK)
    settings, records = BenchJournal(tmp_path / "bench").read()
    found = {r.model: r.measurement.environment["settings"]["interpolation"] for r in records if r.measurement}
    assert found == {"own": AREA, "published": LINEAR}
    assert settings.models == {m.name: request.key(m) for m in models} and len(set(settings.models.values())) == 2


def test_the_networks_of_a_run_are_shrunk_as_for_its_supernet(tmp_path: Path) -> None:
    assert interpolation_of_run(tmp_path) == AREA
    space = SPACE.restrict({"image_size": (96,), "width": (8,)})
    classes = tuple(map(str, range(10)))
    save_supernet(tmp_path / "supernet.safetensors", Supernet(space, 10), classes, {"interpolation": LINEAR})
    assert interpolation_of_run(tmp_path) == LINEAR
    artifact = Artifact("S", space.smallest, (), NO_STUDY, classes, DataRecord("d", "0"))
    (model,) = resolve_models([str(write_artifact(tmp_path / "S.json", artifact))])
    assert model.interpolation == LINEAR


def test_a_bench_has_the_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nas.bench import run
    from nas.profiling import interleaved

    monkeypatch.setattr(interleaved, "ROUND", QUICK)
    monkeypatch.setattr(run.run_bench, "__defaults__", (None, QUICK))
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "bench"
    target = "onnxruntime:fp32@64"
    words = ["bench", "yolo26n", "--target", target, "--end-to-end", "--data", "digits@96:train=2,val=2"]
    assert main([*words, "--rounds", "1", "--out", str(out), "--latency-db", str(tmp_path / "l.sqlite")]) == 0
    steps = steps_of(out, target)["yolo26n"]
    assert set(steps) == {"preprocessing", "network", "decoding", "suppression", "total"}
    assert (out / "steps.json").is_file() and "end to end" in capsys.readouterr().out
