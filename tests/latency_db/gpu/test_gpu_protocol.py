"""The GPU protocol on a GPU that replays recorded times: warm-up, blocks, stopping, throttling, drift, memory; and
the providers as far as no GPU goes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from latency_db.core.cpu import exclusive
from latency_db.core.device import DeviceFingerprint
from latency_db.core.measurement import Measurement
from latency_db.core.profiler import FINALIST, SEARCHING, RuntimeFailure, Workload
from latency_db.core.target import Target
from latency_db.gpu import gpu_timer as bench
from latency_db.gpu.cuda import CudaDevice, OutOfDeviceMemory, device_index, driver_version
from latency_db.gpu.gpu_timer import GpuTimer, Ready, probe, with_gpu
from latency_db.gpu.nvml import THROTTLING, GpuState, NoSensor, open_sensor
from latency_db.gpu.protocol import GpuProtocol, GpuSession
from latency_db.gpu.providers import CudaPython, TorchCuda, open_cuda
from latency_db.timing.statistics import order_statistic_interval
from search_spaces.errors import InputError
from tests._gpu import DEVICE, HOT, STEADY, FakeCuda, FakeGpu, script

SHORT = GpuProtocol(warmup_s=0.01, settle_s=0.5, min_blocks=2, max_blocks=6, retries=2, cool_s=1.0)
FINGERPRINT = DeviceFingerprint("x", "cpu", 1, (), 1)
TARGET = Target("tensorrt-rtx", "fp16", "cuda:0", batch=2)


def noisy(ms: float, count: int = 4000, noise: float = 0.05) -> list[float]:
    return [float(x) for x in ms * (1 + noise * np.abs(np.random.default_rng(0).standard_normal(count)))]


# the protocol


def test_steady_times_stop_at_the_first_look() -> None:
    gpu = FakeGpu(ms=(2.0,))
    session = gpu.time(SHORT)
    assert set(session.ms) == {2.0} and len(session.ms) == SHORT.min_blocks * SHORT.block
    assert (session.converged, session.settled, session.verdict, session.drift) == (True, True, "clean", 0.0)
    assert GpuSession.from_dict(json.loads(json.dumps(session.to_dict()))) == session


def test_the_host_does_not_wait_inside_a_block() -> None:
    gpu = FakeGpu()
    gpu.time(SHORT)
    runs = " ".join(gpu.cuda.calls)
    block = " ".join(["record run record"] * SHORT.block)
    assert runs.count(block + " wait") == SHORT.min_blocks


def test_noise_is_measured_until_the_interval_is_narrow_or_the_cap_is_reached() -> None:
    wide = replace(SHORT, max_blocks=1000, max_s=1e6)
    narrow = FakeGpu(ms=noisy(2.0, noise=0.5)).time(replace(wide, half_width=0.01))
    low, high = order_statistic_interval(narrow.ms)
    assert (
        narrow.converged
        and (high - low) / 2 <= 0.01 * narrow.median_ms
        and len(narrow.ms) > SHORT.min_blocks * SHORT.block
    )
    capped = FakeGpu(ms=noisy(2.0, noise=0.5)).time(replace(SHORT, half_width=1e-4))
    assert not capped.converged and len(capped.ms) == SHORT.max_blocks * SHORT.block
    late = FakeGpu(ms=noisy(50.0, noise=0.5)).time(replace(wide, half_width=1e-4, max_s=10.0))
    assert not late.converged and 10e3 <= sum(late.ms) < 10e3 + sum(late.ms[-SHORT.block :])


def test_warm_up_waits_for_the_clock() -> None:
    rising = [replace(STEADY, sm_mhz=mhz) for mhz in (STEADY.sm_mhz or 0, 300, 600, 900, 1400, 1500, 1500, 1500)]
    gpu = FakeGpu(states=rising)
    assert gpu.time(SHORT).before.sm_mhz == 1500
    before = gpu.cuda.calls[: gpu.cuda.calls.index("wait", 7 * 2)].count("run")
    assert before > SHORT.block
    swinging = [replace(STEADY, sm_mhz=mhz) for mhz in (1000, 1500) * 500]
    session = FakeGpu(states=swinging).time(SHORT)
    assert session.settled is False and session.converged
    assert FakeGpu(states=[GpuState()]).time(SHORT).settled is None


def test_a_throttled_sitting_is_discarded_and_repeated() -> None:
    hot_once = [STEADY] * 4 + [STEADY, HOT] + [STEADY]  # idle, three clocks, before, after, and then never again
    gpu = FakeGpu(states=hot_once)
    session = gpu.time(SHORT)
    assert (session.verdict, session.discarded) == ("clean", ("hardware thermal",))
    assert gpu.slept == [SHORT.cool_s]


def test_one_that_stays_throttled_is_called_so() -> None:
    session = FakeGpu(states=[STEADY, HOT]).time(SHORT)
    assert (session.verdict, session.throttled, len(session.discarded)) == (
        "throttled",
        ("hardware thermal",),
        SHORT.retries,
    )


def test_work_of_others_is_called_contended_but_the_last_network_s_is_waited_for() -> None:
    busy = replace(STEADY, utilisation=0.8)
    assert FakeGpu(states=[busy]).time(SHORT).verdict == "contended"
    assert FakeGpu(states=[busy, busy, STEADY]).time(SHORT).verdict == "clean"


def test_cold_cache_and_paced_regime() -> None:
    cold = FakeGpu()
    cold.time(replace(SHORT, cold_l2=True))
    assert f"memset {2 * DEVICE.l2_bytes} record run record" in " ".join(cold.cuda.calls)  # outside of what is timed
    paced = FakeGpu()
    session = paced.time(replace(SHORT, pause_ms=200.0))
    assert set(paced.slept) == {0.2} and "record run record wait record run record wait" in " ".join(paced.cuda.calls)
    assert len(session.ms) == SHORT.min_blocks * 8
    assert [p.regime for p in (SHORT, replace(SHORT, pause_ms=200.0), replace(SHORT, cold_l2=True))] == [
        "burst",
        "paced 200 ms",
        "burst, L2 cold",
    ]


def test_what_the_general_protocol_means_here() -> None:
    assert GpuProtocol.of(SEARCHING).half_width == GpuProtocol.of(FINALIST).half_width == 0.01
    assert (GpuProtocol.of(SEARCHING).rebuilds, GpuProtocol.of(FINALIST).rebuilds) == (1, 3)
    for wrong in (
        {"block": 0},
        {"min_blocks": 9, "max_blocks": 3},
        {"half_width": 0.0},
        {"pause_ms": -1.0},
        {"rebuilds": 0},
    ):
        with pytest.raises(InputError, match="measuring protocol"):
            GpuProtocol(**wrong)


# the bench


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(bench, "PROBE", "tests._gpu:probe")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    probe.cache_clear()
    yield
    probe.cache_clear()


def open_bench(tmp_path: Path, protocol: GpuProtocol = SHORT, anchor_ms: list[float] | None = None) -> GpuTimer:
    anchor = script(tmp_path / "anchor.json", anchor_ms or [1.0])
    return GpuTimer("tests._gpu:engine", TARGET, protocol, lambda: Ready(anchor, {"batch": 1}))


def measured(tmp_path: Path, *models: Path, anchor_ms: list[float] | None = None) -> Measurement:
    opened = open_bench(tmp_path, anchor_ms=anchor_ms)
    try:
        return opened.measure_builds(
            Workload("w", models[0]), [Ready(m, {}, {"engine": m.name}) for m in models], "1", FINGERPRINT, {"a": 1}
        )
    finally:
        opened.close()


def test_a_measurement_says_everything(fake_gpu: None, tmp_path: Path) -> None:
    found = measured(tmp_path, script(tmp_path / "m.json", noisy(3.0)))
    assert (found.source, found.clock, found.verdict, found.workload) == ("measured", "wall", "clean", "w")
    assert (
        found.low_ms <= found.median_ms <= found.high_ms <= found.p99_ms
        and found.half_width <= 0.01
        and found.runs >= 128
    )
    env = found.environment
    assert (
        env["regime"] == "burst"
        and env["settings"] == {"precision": "fp16", "batch": 2}
        and env["engine"] == "m.json"
        and env["a"] == 1
    )
    assert env["gpu"]["before"]["power_w"] == 99.5 and env["gpu"]["settled"] and "ms" not in env["gpu"]
    assert found.reference_ms == 1.0 and env["anchor"]["drift"] == 0.0
    assert Measurement.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_drifting_machine_shows_in_the_anchor(fake_gpu: None, tmp_path: Path) -> None:
    """The anchor's process lasts: 5 % slower after its first session of some hundred runs."""
    found = measured(tmp_path, script(tmp_path / "m.json"), anchor_ms=[1.0] * 450 + [1.05] * 20_000)
    assert found.environment["anchor"]["drift"] == pytest.approx(0.05)
    assert found.at_nominal_speed(1.0).median_ms == pytest.approx(2.0 / 1.025)


def test_of_several_builds_the_middle_one_is_reported(fake_gpu: None, tmp_path: Path) -> None:
    found = measured(tmp_path, *(script(tmp_path / f"{ms}.json", [ms]) for ms in (2.2, 2.0, 2.1)))
    assert found.median_ms == pytest.approx(2.1) and found.environment["engine"] == "2.1.json"
    assert found.environment["rebuilds"] == {
        "medians_ms": pytest.approx([2.2, 2.0, 2.1]),
        "spread": pytest.approx(0.1),
        "kept": 2,
    }


def test_a_throttled_gpu_is_reported(fake_gpu: None, tmp_path: Path) -> None:
    found = measured(tmp_path, script(tmp_path / "m.json", states=[STEADY, HOT]))
    assert found.verdict == "throttled" and found.environment["gpu"]["discarded"] == ["hardware thermal"] * 2


def test_out_of_memory_is_one_line_and_does_not_spoil_the_next(fake_gpu: None, tmp_path: Path) -> None:
    opened = open_bench(tmp_path)
    big, small = (Workload("w", script(tmp_path / f"{needs}.json", needs=needs)) for needs in (4 << 30, 0))
    with pytest.raises(
        RuntimeFailure, match=r"^GPU out of memory: 4096 MiB asked of 1024; take a smaller batch"
    ) as error:
        opened.measure(big, "1", FINGERPRINT)
    assert "\n" not in str(error.value)
    assert opened.measure(small, "1", FINGERPRINT).median_ms == 2.0
    opened.close()


def test_the_device_is_one_process_s_at_a_time(fake_gpu: None, tmp_path: Path) -> None:
    """A bench of another process waits while this one holds the device."""
    code = (
        "import sys; from pathlib import Path; from tests.latency_db.gpu.test_gpu_protocol import *\n"
        "bench.PROBE = 'tests._gpu:probe'\n"
        f"print(measured(Path({str(tmp_path)!r}), script(Path({str(tmp_path / 'm.json')!r}))).median_ms)"
    )
    with exclusive(bench.lock_name("cuda:0")):
        other = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
        )
        time.sleep(3)
        assert other.poll() is None
    out, _ = other.communicate(timeout=60)
    assert out.strip() == "2.0"


def test_the_fingerprint_names_gpu_and_driver(fake_gpu: None) -> None:
    found = with_gpu(FINGERPRINT, "cuda:0")
    assert (found.accelerator, found.driver) == ("Fake GPU 1024 MiB", "1.2.3") and found.id != FINGERPRINT.id
    assert bench.lock_name("cuda:0") == bench.lock_name("tensorrt:0") == "gpu-GPU-fake"


# providers and sensors, as far as they can be looked at without a GPU


def test_which_provider_and_why_not() -> None:
    with pytest.raises(InputError, match="device 'gpu'"):
        device_index("gpu")
    assert (device_index("cuda"), device_index("cuda:3")) == (0, 3)
    with pytest.raises(InputError, match=r"no CUDA device cuda:0 \(a not installed; fake: broken here\)") as error:
        open_cuda("cuda:0", {"no_such_module": _Named, "json": _Broken})
    assert "\n" not in str(error.value)
    assert isinstance(open_cuda("cuda:0", {"no_such_module": _Named, "json": _Working}), _Working)


class _Named(FakeCuda):
    name = "a"


class _Broken(FakeCuda):
    def __init__(self, index: int) -> None:
        raise OSError("broken\nhere")


class _Working(FakeCuda):
    def __init__(self, index: int) -> None:
        super().__init__(iter(()))


def test_driver_version(tmp_path: Path) -> None:
    file = tmp_path / "version"
    file.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC version: 12.2.0\n"
    )
    assert driver_version("cuda 13", file) == "580.65.06"
    assert driver_version("cuda 13", tmp_path / "none") == "cuda 13"


def test_what_cuda_bindings_says_becomes_one_line() -> None:
    """Its names are checked too: each call of the provider has to exist in the library."""
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="pip install cuda-bindings")
    cuda = CudaPython.__new__(CudaPython)
    cuda._rt = runtime
    assert cuda._call((runtime.cudaError_t.cudaSuccess,)) is None
    assert cuda._call((runtime.cudaError_t.cudaSuccess, 5)) == 5
    with pytest.raises(OutOfDeviceMemory, match="GPU out of memory"):
        cuda._call((runtime.cudaError_t.cudaErrorMemoryAllocation, None))
    with pytest.raises(RuntimeFailure, match="cudaErrorNoDevice"):
        cuda._call((runtime.cudaError_t.cudaErrorNoDevice, None))
    source = (Path(__file__).parents[3] / "latency_db/gpu/providers.py").read_text()
    used = set(re.findall(r"\bcuda[A-Z]\w+", source))
    assert len(used) > 15 and [n for n in used if not hasattr(runtime, n) and n not in _members(runtime)] == []


def _members(runtime: object) -> set[str]:
    kinds = ("cudaError_t", "cudaMemcpyKind", "cudaStreamCaptureMode")
    return {member for kind in kinds for member in getattr(runtime, kind).__members__}


def test_nvml_without_a_gpu_is_blind_and_its_bits_are_ours() -> None:
    nvml = pytest.importorskip("pynvml", reason="pip install nvidia-ml-py")
    names = ("SwPowerCap", "HwSlowdown", "SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown")
    assert sorted(THROTTLING) == sorted(getattr(nvml, f"nvmlClocksEventReason{name}") for name in names)
    assert isinstance(open_sensor(CudaDevice("x", "", 0, "", 0, "GPU-none")), NoSensor)


@pytest.mark.gpu
def test_the_providers_agree_on_a_gpu() -> None:
    """The same kernel's work, timed through each provider that is installed: a fill of 64 MiB."""
    times = []
    for provider in (TorchCuda, CudaPython):
        try:
            cuda = provider(0)
        except (ImportError, InputError):
            continue
        address, values = cuda.alloc(64 << 20), np.arange(16, dtype=np.float32)
        cuda.upload(address, values)
        back = np.zeros_like(values)
        cuda.download(back, address)
        assert (back == values).all()
        launch = cuda.capture(lambda cuda=cuda, address=address: cuda.memset(address, 64 << 20))  # type: ignore[misc]
        start, stop = cuda.event(), cuda.event()
        for _ in range(20):
            launch()
        cuda.record(start)
        launch()
        cuda.record(stop)
        cuda.synchronize()
        times.append(cuda.elapsed_ms(start, stop))
    assert times and max(times) < 3 * min(times)
