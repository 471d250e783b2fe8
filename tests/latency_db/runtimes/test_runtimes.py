"""The contract of every runtime in the registry; those whose library or hardware is missing here are skipped and say
so."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from latency_db.conversion.onnx_file import input_shape, random_input
from latency_db.core.device import DeviceFingerprint, unsupported_precision
from latency_db.core.measurement import Measurement
from latency_db.core.profiler import Network, Profiler, Workload
from latency_db.core.target import PRECISIONS, Target
from latency_db.runtimes import RUNTIMES, open_profiler
from latency_db.timing.timing_samples import Sample, summarise
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.onnx import build_onnx
from search_spaces.spaces import SPACES
from tests._gpu import FakeCuda
from tests._models import QUICK, write_model

SPACE = SPACES["yolo-nano"]
CLASSES = 3
SLOW = {"torch-compile"}  # a C++ compiler works for minutes
MEASURING = [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in RUNTIMES if RUNTIMES[name].measures
]


def images(size: int, count: int = 2) -> list[npt.NDArray[np.float32]]:
    return [np.random.default_rng(0).random((count, 3, size, size), np.float32)]


def workload(folder: Path, architecture: Architecture = SPACE.smallest, size: int = 64, batch: int = 1) -> Workload:
    """A network of a search space with all that any runtime asks for."""

    def onnx() -> Path:
        path = folder / f"{architecture.id}-{size}-{batch}.onnx"
        path.write_bytes(build_onnx(SPACE.graph(architecture), CLASSES, size, batch))
        return path

    network = Network(architecture, CLASSES, size)
    return Workload(network.key, onnx, network, lambda: images(size))


@pytest.fixture(scope="module", params=MEASURING)
def profiler(request: pytest.FixtureRequest) -> Iterator[Profiler]:
    runtime = RUNTIMES[request.param]
    if reason := runtime.available():
        pytest.skip(f"{request.param}: {reason}")
    with open_profiler(Target(request.param, runtime.precisions[0]), QUICK) as opened:
        yield opened


@pytest.fixture(scope="module")
def small(profiler: Profiler, tmp_path_factory: pytest.TempPathFactory) -> Measurement:
    return profiler.measure(workload(tmp_path_factory.mktemp("models")))


@pytest.fixture
def reader(profiler: Profiler) -> Profiler:
    """A runtime that takes ONNX files."""
    if not profiler.reads_onnx:
        pytest.skip(f"{profiler.runtime} runs the networks of search spaces itself")
    return profiler


def children() -> set[int]:
    """Live child processes of this one that measure."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            if (
                int(fields[1]) == os.getpid()
                and b"latency_db.timing.timing_server" in (status.parent / "cmdline").read_bytes()
            ):
                found.add(int(status.parent.name))
        except (OSError, IndexError):
            continue
    return found


@pytest.mark.parametrize("name", list(RUNTIMES))
def test_a_runtime_declares_itself(name: str) -> None:
    runtime = RUNTIMES[name]
    reason = runtime.available()
    assert runtime.runtime == name
    assert runtime.precisions and set(runtime.precisions) <= set(PRECISIONS)
    assert reason is None or ("\n" not in reason and reason)
    assert Target(name).device == runtime.default_device
    for precision in set(PRECISIONS) - set(runtime.precisions):
        with pytest.raises(InputError, match=f"{precision} is not supported by {name}"):
            runtime(Target(name, precision))
    with pytest.raises(InputError, match="given to the profiler of"):
        runtime(Target("another"))


@pytest.mark.parametrize("name", [name for name in RUNTIMES if RUNTIMES[name].measures])
def test_a_device_that_there_is_not_is_refused_in_one_line(name: str) -> None:
    for device in ("toaster", "cuda:toaster"):
        with pytest.raises(InputError, match=f"{device}|cannot be used here") as error:
            RUNTIMES[name](Target(name, device=device))
        assert "\n" not in str(error.value)


def test_a_measurement_says_everything(profiler: Profiler, small: Measurement) -> None:
    assert (small.source, small.target) == ("measured", profiler.target)
    assert 0 < small.low_ms <= small.median_ms <= small.high_ms and small.median_ms <= small.p90_ms <= small.p99_ms
    assert small.runs > 0 and small.time.endswith("+00:00")
    assert small.environment["runtime_version"] == profiler.version() != "unknown"
    assert small.environment["device_id"] == profiler.fingerprint().id
    assert small.environment["settings"] and small.environment["anchor"]["wall_ms"] > 0
    assert Network.from_dict(small.environment["network"]).key == small.workload
    assert Measurement.from_dict(small.to_dict()) == small
    assert profiler.key(small.workload).target == str(profiler.target)


def once_in_four(compared: Callable[[], bool]) -> bool:
    """Other tests run beside this one and may slow down either side: whether it was so in one of four tries."""
    return any(compared() for _ in range(4))


def test_thirty_times_the_work_takes_longer(profiler: Profiler, tmp_path: Path) -> None:
    small, large = workload(tmp_path), workload(tmp_path, SPACE.largest, 128)
    assert once_in_four(lambda: profiler.measure(large).median_ms > 2 * profiler.measure(small).median_ms)


def test_the_batch_of_the_target_is_fed(profiler: Profiler, tmp_path: Path) -> None:
    one, sixteen = workload(tmp_path), workload(tmp_path, batch=16)
    with open_profiler(replace(profiler.target, batch=16), QUICK) as batched:
        assert once_in_four(lambda: batched.measure(sixteen).median_ms > 2 * profiler.measure(one).median_ms)


def test_each_precision_is_measured_or_refused_at_once(profiler: Profiler, small: Measurement, tmp_path: Path) -> None:
    for precision in profiler.precisions[1:]:
        target = replace(profiler.target, precision=precision)
        try:
            opened = open_profiler(target, QUICK)
        except InputError as error:
            said = str(error)
        else:
            said = ""
        if said:
            assert precision in said and "\n" not in said
            continue
        with opened:
            found = opened.measure(workload(tmp_path))
        assert found.target == target
        assert (found.environment["settings"], found.environment["onnx_sha256"]) != (
            small.environment["settings"],
            small.environment["onnx_sha256"],
        )


def test_int8_without_images_says_where_they_come_from(profiler: Profiler, tmp_path: Path) -> None:
    if "int8" not in profiler.precisions:
        pytest.skip(f"{profiler.runtime} has no int8")
    with (
        open_profiler(replace(profiler.target, precision="int8"), QUICK) as opened,
        pytest.raises(InputError, match="--data"),
    ):
        opened.measure(replace(workload(tmp_path), calibration=None))


def test_a_failure_does_not_spoil_the_next_and_close_ends_all(profiler: Profiler, tmp_path: Path) -> None:
    before = children()
    good = workload(tmp_path)
    with open_profiler(profiler.target, QUICK) as other:
        with pytest.raises(InputError):
            other.measure(Workload("w", tmp_path / "none.onnx"))
        other.measure(good)
        for pid in children() - before:
            os.kill(pid, signal.SIGKILL)  # what the profiler keeps running may die at any time
        other.measure(good)
    other.close()
    assert children() == before


@pytest.mark.parametrize(
    "content, says",
    [(b"", "broken.onnx"), (b"no ONNX at all", "broken.onnx"), (None, "no model file")],
)
def test_a_broken_or_missing_model(reader: Profiler, tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        reader.measure(Workload("w", path))
    assert "\n" not in str(error.value)


def test_an_operator_nobody_knows_is_named_with_its_node(reader: Profiler, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)(?=.*Frobnicate)(?=.*layer0)"):
        reader.measure(Workload("w", write_model(tmp_path / "m.onnx", 1, kind="Frobnicate")))


def test_a_shape_that_the_target_does_not_mean(reader: Profiler, tmp_path: Path) -> None:
    fixed, free = write_model(tmp_path / "fixed.onnx", 1, batch=4), write_model(tmp_path / "free.onnx", 1, size="side")
    for model, says in ((fixed, "dimension 0 fixed to 4"), (free, "free dimension 2")):
        with pytest.raises(InputError, match=says):
            reader.measure(Workload("w", model))
    with open_profiler(replace(reader.target, image_size=64), QUICK) as sized:
        assert sized.measure(Workload("w", free)).median_ms > 0


def test_a_file_for_a_runtime_that_takes_none(profiler: Profiler, tmp_path: Path) -> None:
    if profiler.reads_onnx:
        pytest.skip(f"{profiler.runtime} takes ONNX files")
    with pytest.raises(InputError, match="architecture file"):
        profiler.measure(Workload.of_file(write_model(tmp_path / "m.onnx", 1)))
    with (
        open_profiler(replace(profiler.target, image_size=96), QUICK) as sized,
        pytest.raises(InputError, match="image size of 64"),
    ):
        sized.measure(workload(tmp_path, size=64))


def test_shapes() -> None:
    assert input_shape("x", ["n", 3, 64, 64], 2, None) == [2, 3, 64, 64]
    assert input_shape("x", [1, 3, None, None], 1, 96) == [1, 3, 96, 96]
    assert input_shape("x", ["n", 7], 3, 96) == [3, 7]
    wrong: list[tuple[list[int | str | None], int | None]] = [
        ([2, 3, 64, 64], None),
        ([1, 3, 64, 64], 96),
        ([1, "c", 64, 64], None),
        (["n", "h"], 96),
    ]
    for dims, size in wrong:
        with pytest.raises(InputError, match="dimension"):
            input_shape("x", dims, 1, size)


def test_input_is_noise_of_the_type_asked_for() -> None:
    rng = np.random.default_rng(0)
    for kind in ("float16", "float32", "float64", "uint8"):
        values = random_input("x", kind, [50, 50], rng)
        assert values.dtype == kind and values.std() > 0.9
    with pytest.raises(InputError, match=r"'x' of type int64"):
        random_input("x", "int64", [1], rng)


def test_a_cpu_that_only_emulates_a_precision_is_known() -> None:
    machine = DeviceFingerprint("x86_64", "cpu", 2, ("avx2", "avx512_bf16"), 8)
    assert (
        unsupported_precision("bf16", machine) is None
        and unsupported_precision("fp32", machine) is None
        and unsupported_precision("int8", machine) is None
    )
    assert "avx512_fp16" in str(unsupported_precision("fp16", machine)) and "bf16" in str(
        unsupported_precision("bf16", replace(machine, flags=("avx2",)))
    )


def test_where_another_device_computes_cpu_time_is_no_latency() -> None:
    waiting = [[Sample(wall_ms=9.0, cpu_ms=1.0, switches=3, delay_ms=5.0)] * 5] * 4
    assert [summarise(waiting, threads, 0.5, 0).clock for threads in (0, 1, 2)] == ["wall", "cpu", "wall"]


class FakeSession:
    """What the GPU engine asks of a session of ONNX Runtime: two outputs, everything written down."""

    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="images", shape=["n", 3, 8, 8], type="tensor(float)")]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="boxes"), SimpleNamespace(name="scores")]

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider"]

    def run(self, names: list[str], feeds: Mapping[str, Any], options: Any) -> list[npt.NDArray[np.float32]]:
        self.calls.append(("shapes", options.get_run_config_entry("gpu_graph_id")))
        return [np.zeros((2, 5, 4), np.float32), np.zeros((2, 5, 3), np.float32)]

    def io_binding(self) -> Any:
        def bind(name: str, device: str, index: int, kind: Any, shape: list[int], address: int) -> None:
            self.calls.append((name, device, index, str(kind), shape))

        return SimpleNamespace(bind_input=bind, bind_output=bind)

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self.calls.append(("run", options.get_run_config_entry("disable_synchronize_execution_providers")))


def test_onnxruntime_on_a_gpu_binds_device_memory_on_the_protocols_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    ort = pytest.importorskip("onnxruntime")
    from latency_db.gpu import protocol, providers
    from latency_db.runtimes.onnxruntime import cuda_engine

    calls: list[Any] = []
    cuda = FakeCuda(iter([]))

    def session(model: str, options: Any, providers: list[tuple[str, dict[str, str]]]) -> FakeSession:
        calls.append(providers)
        return FakeSession(calls)

    monkeypatch.setattr(providers, "open_cuda", lambda device: cuda)
    monkeypatch.setattr(protocol, "serve", lambda run: (run.enqueue, run.info))
    monkeypatch.setattr(ort, "InferenceSession", session)
    request = {
        "model": "m.onnx",
        "device": "cuda:1",
        "threads": 1,
        "batch": 2,
        "image_size": None,
        "precision": "fp32",
        "seed": 0,
    }
    with pytest.raises(
        InputError, match=r"has no CUDAExecutionProvider.*pip uninstall onnxruntime, then pip install onnxruntime-gpu"
    ):
        cuda_engine(request)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    enqueue, info = cuda_engine(request)
    opened, shapes, *bound = calls[:5]
    assert opened[0][0] == "CUDAExecutionProvider" and len(opened) == 1
    assert opened[0][1]["user_compute_stream"] == str(cuda.stream) and opened[0][1]["device_id"] == "1"
    assert shapes == ("shapes", "-1")
    assert bound == [
        (name, "cuda", 1, "float32", shape)
        for name, shape in (("images", [2, 3, 8, 8]), ("boxes", [2, 5, 4]), ("scores", [2, 5, 3]))
    ]
    assert calls[5:] == [("run", "1")] * 3 and info["use_tf32"] == "1" and "user_compute_stream" not in info
    del calls[:], cuda.calls[:]
    enqueue()
    assert calls == [("run", "1")] and cuda.calls == []  # nothing waits
    monkeypatch.setattr(FakeSession, "get_providers", lambda self: ["CPUExecutionProvider"])
    with pytest.raises(InputError, match="took CPUExecutionProvider"):
        cuda_engine(request)


def test_torch_on_a_gpu_captures_after_warming_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from latency_db.gpu import protocol, providers
    from latency_db.runtimes import torch as runtime

    cuda = FakeCuda(iter([1.0] * 9))
    captured: list[Any] = []

    def capture(self: FakeCuda, step: Any) -> str:
        captured.append((step, list(self.calls)))
        return "launch"

    monkeypatch.setattr(FakeCuda, "capture", capture)
    monkeypatch.setattr(providers, "open_cuda", lambda device, table: cuda if list(table) == ["torch"] else None)
    monkeypatch.setattr(protocol, "serve", lambda run: (run.enqueue, run.info))
    monkeypatch.setattr(runtime, "_step", lambda request, device, transform: (cuda.run, {"device": device}))
    enqueue, info = runtime.gpu_eager_engine({"device": "cuda:2", "batch": 1})
    assert captured == [(cuda.run, ["run", "run", "run", "wait"])]
    assert enqueue == "launch" and (info["device"], info["cuda_graph"]) == ("cuda:2", True)  # type: ignore[comparison-overlap]


def test_a_limit_on_openvinos_instruction_sets_is_another_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    plain = RUNTIMES["openvino"].version()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert RUNTIMES["openvino"].version() == (plain if plain == "unknown" else f"{plain} (at most AVX512_CORE)")


def test_the_quantization_scheme_is_that_of_the_device_which_measures() -> None:
    """x86 without VNNI multiplies 7 bits without overflow; an Arm board all 8."""
    for name in ("onnxruntime", "openvino"):
        target = Target(name, "int8")
        schemes = [
            RUNTIMES[name].quantization_scheme(target, DeviceFingerprint(machine, "cpu", 4, flags, 8))
            for machine, flags in (("x86_64", ("avx2",)), ("x86_64", ("avx2", "avx512_vnni")), ("aarch64", ("asimd",)))
        ]
        assert [scheme.weight_bits for scheme in schemes if scheme] == [7, 8, 8]
