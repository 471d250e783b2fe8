"""TensorRT: ahead-of-time builds with the real TensorRT-RTX and no GPU, the engine cache, and the run path on a
library that keeps the same rules."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from latency_db.conversion.precision import converted
from latency_db.core.cpu import exclusive
from latency_db.core.profiler import FINALIST, RuntimeFailure, Workload
from latency_db.core.target import Target
from latency_db.engines import engine_cache, plans
from latency_db.engines.engine_cache import EngineCache, EngineJob, read_checked, save_checked
from latency_db.engines.plans import Plan, PlanReport, compile_plan, installed, load_library
from latency_db.gpu import gpu_timer as bench
from latency_db.gpu.cuda import OutOfDeviceMemory
from latency_db.gpu.gpu_timer import probe
from latency_db.gpu.protocol import GpuProtocol
from latency_db.runtimes import RUNTIMES, open_profiler
from latency_db.runtimes.tensorrt import INT8, TensorRtRtx, device_run
from nas.estimators.base import Context
from nas.estimators.engine_memory import EngineActivations
from nas.export.onnx import skeleton_onnx
from search_spaces.errors import InputError
from search_spaces.references import FAMILIES
from search_spaces.spaces import SPACES, space_of
from search_spaces.yolo_nas import YOLO_NAS, yolo_nas
from tests._gpu import FakeCuda
from tests._models import write_model
from tests._tensorrt import Library

NANO = SPACES["yolo-nano"]
SIZE = 96


def real() -> None:
    """Skips where TensorRT-RTX is not installed."""
    if reason := installed("tensorrt-rtx"):
        pytest.skip(reason)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return skeleton_onnx(NANO, NANO.smallest, 10, tmp_path_factory.mktemp("model") / "nano.onnx", SIZE)


def images() -> Sequence[npt.NDArray[np.float32]]:
    return [np.random.default_rng(0).random((4, 3, SIZE, SIZE), dtype=np.float32)]


# ahead of time, with no GPU


def test_every_precision_compiles_without_a_gpu(model: Path) -> None:
    """Fewer bytes a weight are fewer bytes of weights, as the builder itself counts them."""
    real()
    weights = {}
    for precision in ("fp32", "fp16", "int8"):
        with converted(Workload("w", model, calibration=images), precision, INT8) as ready:
            plan, timings = compile_plan(ready.path())
            assert timings is None
        report = plan.report
        assert report.plan_bytes == len(plan.content) and report.build_s > 0 and report.layers > 10
        assert report.activation_bytes is not None and report.activation_bytes >= (report.scratch_bytes or 0) > 0
        assert report.weights_bytes is not None
        weights[precision] = report.weights_bytes
        assert set(report.convolutions) == {"fp32": {"fp32"}, "fp16": {"fp16"}, "int8": {"int8", "fp16"}}[precision]
        assert report.convolutions.get("int8", 0) > 10 * report.convolutions.get("fp16", 0) or precision != "int8"
        assert Plan.from_bytes(plan.to_bytes()) == plan
    params = 4 * sum(p.numel() for p in NANO.build(NANO.smallest, 10).deploy().parameters())
    assert weights["fp32"] == pytest.approx(params, rel=0.1)
    assert weights["int8"] < 0.5 * weights["fp32"] and 0.4 < weights["fp16"] / weights["fp32"] < 0.7


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("size", ["s", "m", "l"])
def test_yolo_nas_compiles_without_a_gpu(size: str, precision: str, tmp_path: Path) -> None:
    real()
    onnx = skeleton_onnx(YOLO_NAS, yolo_nas(size), 80, tmp_path / "m.onnx", 640)
    images = np.random.default_rng(0).random((1, 3, 640, 640), dtype=np.float32)
    with converted(Workload("w", onnx, calibration=lambda: [images]), precision, INT8) as ready:
        report = compile_plan(ready.path())[0].report
    assert report.activation_bytes and report.weights_bytes


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_references_compiles_without_a_gpu(family: str, tmp_path: Path) -> None:
    """Its smallest network, narrowed where it can be; attention, depthwise convolutions and all."""
    real()
    a = next(iter(FAMILIES[family].values()))
    space = space_of(a)
    a = a.replace(width=space["width"].values[0]) if "width" in dict(a.choices) else a
    onnx = skeleton_onnx(space, a, 5, tmp_path / "m.onnx", 64)
    images = np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32)
    with converted(Workload("w", onnx, calibration=lambda: [images]), "int8", INT8) as ready:
        report = compile_plan(ready.path())[0].report
    assert report.weights_bytes and report.convolutions["int8"] > 10 and set(report.convolutions) <= {"int8", "fp16"}


def test_a_free_batch_gets_a_profile(tmp_path: Path) -> None:
    real()
    free = write_model(tmp_path / "free.onnx", 2, size=256)
    memory = [compile_plan(free, batch=batch)[0].report.activation_bytes or 0 for batch in (4, 16)]
    assert memory[1] == pytest.approx(4 * memory[0], rel=0.2)
    with pytest.raises(InputError, match="dimension 0 fixed to 4"):
        compile_plan(write_model(tmp_path / "fixed.onnx", 1, batch=4))
    with pytest.raises(InputError, match="free dimension 2"):
        compile_plan(write_model(tmp_path / "size.onnx", 1, size="side"))


def test_what_cannot_be_compiled_names_node_and_operator(tmp_path: Path) -> None:
    real()
    with pytest.raises(
        InputError, match=r"tensorrt-rtx cannot read m.onnx: node 'layer0' of type Frobnicate.*replace the operator"
    ) as error:
        compile_plan(write_model(tmp_path / "m.onnx", 1, kind="Frobnicate"))
    assert "\n" not in str(error.value)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no ONNX at all")
    with pytest.raises(InputError, match="broken.onnx"):
        compile_plan(broken)


def test_int8_without_images(model: Path) -> None:
    with pytest.raises(InputError, match="--data"), converted(Workload("w", model), "int8", INT8):
        pass


def test_a_library_that_is_missing_or_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plans.MODULES, "tensorrt", ("no_such_tensorrt",))
    assert installed("tensorrt") == "no_such_tensorrt not installed; pip install tensorrt"
    with pytest.raises(InputError, match="pip install tensorrt"):
        load_library("tensorrt")
    (tmp_path / "stub_tensorrt.py").write_text(
        "raise ImportError('libnvonnxparser.so.11: cannot open shared object file')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(plans.MODULES, "tensorrt", ("stub_tensorrt",))
    with pytest.raises(InputError, match=r"stub_tensorrt cannot be loaded \(libnvonnxparser.*pip install tensorrt"):
        load_library("tensorrt")


# the engine cache

REPORT = PlanReport("1", 0.5, 4, 1, True, 1, 2, None)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the builds that took place; each makes a plan of its ONNX file's content."""
    keys: list[str] = []

    def build(job: EngineJob, path: Path, timings: Path, lock: str) -> PlanReport:
        keys.append(job.key)
        path.write_bytes(Plan(job.onnx.read_bytes(), REPORT).to_bytes())
        return REPORT

    monkeypatch.setattr(engine_cache, "_build", build)
    return keys


def test_an_engine_is_built_once_per_content_version_device_and_shape(built: list[str], tmp_path: Path) -> None:
    cache, file = EngineCache(tmp_path / "engines"), tmp_path / "m.onnx"
    file.write_bytes(b"one")
    job = EngineJob(file, "tensorrt", "10.0", "A GPU")
    assert [cache.obtain(job).origin for _ in range(2)] == ["built", "kept"]
    assert cache.obtain(job, fresh=True).origin == "built"
    others = [
        EngineJob(file, "tensorrt", "10.1", "A GPU"),
        EngineJob(file, "tensorrt", "10.0", "B GPU"),
        EngineJob(file, "tensorrt", "10.0", "A GPU", 8),
    ]
    assert [cache.obtain(other).origin for other in others] == ["built"] * 3
    file.write_bytes(b"two")
    assert cache.obtain(job).origin == "built" and len(set(built)) == 5


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:-1] + b"?", lambda data: b"", lambda data: b"{}\n" + data]
)
def test_a_damaged_engine_is_built_again(built: list[str], tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    cache, file = EngineCache(tmp_path / "engines"), tmp_path / "m.onnx"
    file.write_bytes(b"one")
    job = EngineJob(file, "tensorrt-rtx", "1")
    path = cache.obtain(job).path
    good = path.read_bytes()
    path.write_bytes(damage(good))
    assert cache.obtain(job).origin == "rebuilt, the kept one was damaged"
    assert path.read_bytes() == good and cache.obtain(job).origin == "kept"


def test_the_engine_used_longest_ago_goes_first(built: list[str], tmp_path: Path) -> None:
    jobs = []
    for i in range(3):
        (tmp_path / f"{i}.onnx").write_bytes(bytes([i]) * 1000)
        jobs.append(EngineJob(tmp_path / f"{i}.onnx", "tensorrt-rtx", "1"))
    cache = EngineCache(tmp_path / "engines", limit_bytes=3000)
    paths = [cache.obtain(job).path for job in jobs[:2]]
    os.utime(paths[1], (1, 1))
    cache.obtain(jobs[2])
    assert [cache.obtain(job).origin for job in (jobs[0], jobs[2])] == ["kept", "kept"] and not paths[1].exists()


def test_engines_are_built_in_processes_of_their_own(model: Path, tmp_path: Path) -> None:
    real()
    cache = EngineCache(tmp_path / "engines")
    other = write_model(tmp_path / "other.onnx", 2)
    found = cache.obtain_all(
        [EngineJob(model, "tensorrt-rtx", "1"), EngineJob(other, "tensorrt-rtx", "1")], processes=2
    )
    assert [engine.origin for engine in found] == ["built", "built"]
    assert [Plan.from_bytes(engine.path.read_bytes()).report for engine in found] == [engine.report for engine in found]
    assert [path.name for path in (tmp_path / "engines").glob(".*")] == []
    with pytest.raises(InputError, match=r"node 'layer0' of type Frobnicate"):
        cache.obtain(EngineJob(write_model(tmp_path / "m.onnx", 1, kind="Frobnicate"), "tensorrt-rtx", "1"))


# the run path, on a library that keeps the rules of the real ones


def fake_cuda(**more: int) -> FakeCuda:
    return FakeCuda(repeat(1.0), **more)


def test_tensorrt_is_warmed_up_twice_and_captured() -> None:
    library, cuda = Library(), fake_cuda()
    captured: list[object] = []
    cuda.capture = lambda step: captured.append(step) or step  # type: ignore[assignment,func-returns-value,return-value]
    run = device_run(library, cuda, b"plan", seed=0)
    assert library.calls == ["load", "context", "run", "run"] and len(captured) == 1 and cuda.calls.count("upload") == 1
    assert run.info["cuda_graph"] and run.info["inputs"] == {"images": [4, 3, 8, 8]}
    gc.collect()
    run.enqueue()


def test_tensorrt_rtx_captures_itself_and_its_cache_stays_alive() -> None:
    library = Library(rtx=True)
    run = device_run(library, fake_cuda(), b"plan", seed=0)  # the fake provider refuses to capture
    gc.collect()
    run.enqueue()
    assert library.calls == ["load", "context", *["run whole"] * 3]


def test_kernels_that_rtx_compiled_are_kept(tmp_path: Path) -> None:
    kernels = tmp_path / "m.kernels"
    said = [device_run(Library(rtx=True), fake_cuda(), b"plan", 0, kernels).info["kernels"] for _ in range(2)]
    kernels.write_bytes(b"damaged")
    again = device_run(Library(rtx=True), fake_cuda(), b"plan", 0, kernels).info
    assert [*said, again["kernels"]] == ["compiled", "kept", "compiled"] and again["ready_s"] >= 0
    save_checked(kernels, b"of another driver")
    assert device_run(Library(rtx=True), fake_cuda(), b"plan", 0, kernels).info["kernels"] == "compiled"
    assert read_checked(kernels) == b"kernels"
    no_rtx = fake_cuda()
    no_rtx.graphs = False  # type: ignore[misc]
    assert "kernels" not in device_run(Library(), no_rtx, b"plan", 0, kernels).info


def test_a_provider_without_graphs_runs_without() -> None:
    cuda = fake_cuda()
    cuda.graphs = False  # type: ignore[misc]
    assert device_run(Library(), cuda, b"plan", seed=0).info["cuda_graph"] is False


@pytest.mark.parametrize(
    "fails, says",
    [("load", "does not load on Fake GPU"), ("context", "no execution context"), ("run", "a run was refused")],
)
def test_what_a_library_refuses_is_one_line(fails: str, says: str) -> None:
    with pytest.raises(RuntimeFailure, match=f"{says}.*: it broke"):
        device_run(Library(fails=fails), fake_cuda(), b"plan", seed=0)
    with pytest.raises(OutOfDeviceMemory, match="^GPU out of memory: .*OutOfMemory"):
        device_run(
            Library(fails=fails, says="Error Code 2: OutOfMemory\n(no further information)"),
            fake_cuda(),
            b"plan",
            seed=0,
        )
    with pytest.raises(OutOfDeviceMemory, match="asked of 1024"):
        device_run(Library(), fake_cuda(memory=100), b"plan", seed=0)


# the profilers


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A GPU that replays: plans are built by TensorRT-RTX, if it is there, and run by nobody."""
    monkeypatch.setattr(bench, "PROBE", "tests._gpu:probe")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("tensorrt", "tensorrt-rtx"):
        monkeypatch.setattr(RUNTIMES[name], "available", classmethod(lambda cls: None))
    monkeypatch.setattr(
        "latency_db.runtimes.tensorrt.GpuTimer", lambda engine, *more: bench.GpuTimer("tests._gpu:engine", *more)
    )
    probe.cache_clear()


def test_a_finalist_is_built_three_times_and_says_from_what(faked: None, model: Path) -> None:
    real()
    with open_profiler(Target("tensorrt-rtx", "fp16"), FINALIST) as profiler:
        found = profiler.measure(Workload("w", model))
    env = found.environment
    assert found.verdict == "clean" and env["device"]["accelerator"].startswith("Fake GPU")
    assert (
        len(env["rebuilds"]["medians_ms"]) == 3
        and env["engine"]["weights_bytes"] > 0
        and len(env["engine"]["sha256"]) == 16
    )
    assert env["anchor"]["version"] == "gpu-1"


def test_regimes_are_never_compared(faked: None) -> None:
    target = Target("tensorrt-rtx")
    keys = [
        TensorRtRtx(target, gpu=GpuProtocol(pause_ms=ms, cold_l2=cold)).key("w")
        for ms, cold in ((0.0, False), (200.0, False), (0.0, True))
    ]
    assert len({key.version for key in keys}) == 3 and keys[0].version == TensorRtRtx.version()
    assert {key.target for key in keys} == {"tensorrt-rtx:fp32"}


def test_another_form_of_int8_is_another_key(faked: None, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target("tensorrt-rtx", "int8")
    form = TensorRtRtx.quantization_scheme(target)
    first = TensorRtRtx(target).key("w")
    assert first.version == f"{TensorRtRtx.version()}, int8 form {form.id}"
    monkeypatch.setattr(
        TensorRtRtx, "quantization_scheme", classmethod(lambda cls, target: replace(form, bias=not form.bias))
    )
    assert TensorRtRtx(target).key("w") != first


def test_tensorrt_builds_while_nobody_measures(
    faked: None, built: list[str], monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    """It times kernels on the GPU, so a build holds the device's lock; TensorRT-RTX builds side by side without."""
    locks = []
    monkeypatch.setattr(engine_cache, "_build", lambda job, path, timings, lock: locks.append(lock) or REPORT)  # type: ignore[func-returns-value]
    for name in ("tensorrt", "tensorrt-rtx"):
        with open_profiler(Target(name)) as profiler:
            profiler.prepare([model])  # type: ignore[attr-defined]
    assert locks == ["gpu-GPU-fake", ""]
    with exclusive(locks[0]):
        pass


def test_no_gpu_here_is_said_with_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "latency_db.runtimes.tensorrt.no_driver", lambda: "there is no NVIDIA driver (libcuda.so.1 not found)"
    )
    monkeypatch.setattr("latency_db.runtimes.tensorrt.installed", lambda name: None)
    with pytest.raises(InputError, match="tensorrt-rtx cannot be used here: there is no NVIDIA driver"):
        open_profiler(Target("tensorrt-rtx"))


# memory as a constraint


def test_activation_memory_follows_precision_and_size(tmp_path: Path) -> None:
    real()
    sizes = [NANO.smallest.replace(image_size=size) for size in (96, 640)]
    small, large = (EngineActivations(Context(NANO, 10, scratch=tmp_path))(a).value for a in sizes)
    assert large > 2 * small
    half = EngineActivations(Context(NANO, 10, target=Target("tensorrt-rtx", "fp16"), scratch=tmp_path))(sizes[1])
    assert half.value < large and half.target == "tensorrt-rtx:fp16"
    with pytest.raises(InputError, match="int8"):
        EngineActivations(Context(NANO, 10, target=Target("onnxruntime", "int8"), scratch=tmp_path))(sizes[0])


def test_the_option_of_nas_search_becomes_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.cli import main
    from nas.search.objectives import parse_bound
    from nas.search.plan import SearchPlan
    from nas.search.settings import SearchSettings

    kept: list[SearchSettings] = []

    def stop(plan: SearchPlan, *more: object) -> None:
        kept.append(plan.settings)
        raise InputError("enough")

    monkeypatch.setattr("nas.search.run._prepare", stop)
    options = ["search", "--accuracy", "nwot", "--out", str(tmp_path / "run"), "--max-activation-mb", "4.194304"]
    monkeypatch.setattr(EngineActivations, "available", classmethod(lambda cls: "tensorrt_rtx not installed"))
    assert main(options) == 2 and not kept
    monkeypatch.setattr(EngineActivations, "available", classmethod(lambda cls: None))
    assert main(options) == 2
    (bound,) = map(parse_bound, kept[0].bounds)
    assert (bound.name, bound.at_most, bound.value) == ("engine_activations_mib", True, 4.0)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("size", ["s", "m", "l"])
def test_yolo_nas_on_a_gpu(size: str, precision: str, tmp_path: Path) -> None:
    """Interval within 1 %, the same in fresh processes within 2 %."""
    real()
    if reason := TensorRtRtx.available():
        pytest.skip(reason)
    onnx = skeleton_onnx(YOLO_NAS, yolo_nas(size), 80, tmp_path / "m.onnx", 640)
    images = np.random.default_rng(0).random((1, 3, 640, 640), dtype=np.float32)
    medians = []
    for _ in range(2):
        with open_profiler(Target("tensorrt-rtx", precision), FINALIST) as profiler:
            found = profiler.measure(Workload("w", onnx, calibration=lambda: [images]))
        assert found.verdict == "clean" and found.half_width <= 0.01
        medians.append(found.median_ms)
    assert max(medians) / min(medians) <= 1.02
