"""The contract of every runtime in the registry, and the measuring process around an engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from latency_db.anchor import anchor_model
from latency_db.measurement import Measurement
from latency_db.process import Worker
from latency_db.profiler import Profiler, Protocol, RuntimeFailure, Workload
from latency_db.runtimes import RUNTIMES, open_profiler
from latency_db.runtimes.onnxruntime import input_shape
from latency_db.target import PRECISIONS, Target
from search_spaces.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
QUICK = Protocol(warmup_runs=3, warmup_s=0.02, min_rounds=3, max_rounds=4, max_s=2.0)


def write_model(path: Path, layers: int, batch: int | str = "batch", size: int | str = 32, kind: str = "Conv", first: float = 0.08) -> Path:
    """``layers`` 3x3 convolutions of 16 channels, input [batch, 16, size, size]; the first one's weights have the scale ``first``."""
    rng = np.random.default_rng(0)
    scales = [first] + [0.08] * (layers - 1)
    weights = [numpy_helper.from_array((rng.standard_normal((16, 16, 3, 3)) * s).astype(np.float32), f"w{i}") for i, s in enumerate(scales)]
    nodes = [helper.make_node(kind, [f"x{i}", f"w{i}"], [f"x{i + 1}"], name=f"layer{i}", pads=[1] * 4) for i in range(layers)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 16, size, size]) for name in ("x0", f"x{layers}")]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], weights), opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module", params=[name for name in RUNTIMES if RUNTIMES[name].measures])
def profiler(request: pytest.FixtureRequest) -> Iterator[Profiler]:
    runtime = RUNTIMES[request.param]
    if reason := runtime.available():
        pytest.skip(f"{request.param}: {reason}")
    with open_profiler(Target(request.param, runtime.precisions[0]), QUICK) as opened:
        yield opened


@pytest.fixture(scope="module")
def small(profiler: Profiler, tmp_path_factory: pytest.TempPathFactory) -> Measurement:
    return profiler.measure(Workload("small", write_model(tmp_path_factory.mktemp("models") / "small.onnx", 2)))


def children() -> set[int]:
    """Live child processes of this one that measure."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid() and b"latency_db.worker" in (status.parent / "cmdline").read_bytes():
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
        with pytest.raises(InputError, match=f"{precision} is not there yet for {name}"):
            runtime(Target(name, precision))
    with pytest.raises(InputError, match="given to the profiler of"):
        runtime(Target("another"))


def test_a_measurement_says_everything(profiler: Profiler, small: Measurement) -> None:
    assert (small.source, small.workload, small.target) == ("measured", "small", profiler.target)
    assert 0 < small.low_ms <= small.median_ms <= small.high_ms and small.median_ms <= small.p90_ms <= small.p99_ms
    assert small.runs > 0 and small.time.endswith("+00:00")
    assert small.environment["runtime_version"] == profiler.version()
    assert small.environment["device_id"] == profiler.fingerprint().id
    assert Measurement.from_dict(small.to_dict()) == small
    assert profiler.key("small").target == str(profiler.target)


def test_thirty_times_the_work_takes_longer(profiler: Profiler, small: Measurement, tmp_path: Path) -> None:
    large = profiler.measure(Workload("large", write_model(tmp_path / "large.onnx", 60)))
    assert large.median_ms > 3 * small.median_ms


def test_the_batch_of_the_target_is_fed(profiler: Profiler, tmp_path: Path) -> None:
    target = Target(profiler.runtime, profiler.precisions[0], batch=8)
    model = write_model(tmp_path / "m.onnx", 8)
    with open_profiler(target, QUICK) as batched:
        assert batched.measure(Workload("m", model)).median_ms > 2 * profiler.measure(Workload("m", model)).median_ms


@pytest.mark.parametrize(
    "content, says",
    [(b"", "broken.onnx"), (b"no ONNX at all", "broken.onnx"), (None, "no model file")],
)
def test_a_broken_or_missing_model(profiler: Profiler, tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        profiler.measure(Workload("w", path))
    assert "\n" not in str(error.value)


def test_an_operator_nobody_knows_is_named(profiler: Profiler, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Frobnicate"):
        profiler.measure(Workload("w", write_model(tmp_path / "m.onnx", 1, kind="Frobnicate")))


def test_a_shape_that_the_target_does_not_mean(profiler: Profiler, tmp_path: Path) -> None:
    fixed, free = write_model(tmp_path / "fixed.onnx", 1, batch=4), write_model(tmp_path / "free.onnx", 1, size="side")
    for model, says in ((fixed, "dimension 0 fixed to 4"), (free, "free dimension 2")):
        with pytest.raises(InputError, match=says):
            profiler.measure(Workload("w", model))
    with open_profiler(Target(profiler.runtime, profiler.precisions[0], image_size=64), QUICK) as sized:
        assert sized.measure(Workload("w", free)).median_ms > 0


def test_a_failure_does_not_spoil_the_next_and_close_ends_all(profiler: Profiler, tmp_path: Path) -> None:
    before = children()
    with open_profiler(profiler.target, QUICK) as other:
        with pytest.raises(InputError):
            other.measure(Workload("w", tmp_path / "none.onnx"))
        model = write_model(tmp_path / "m.onnx", 1)
        other.measure(Workload("w", model))
        for pid in children() - before:
            os.kill(pid, signal.SIGKILL)  # what the profiler keeps running may die at any time
        other.measure(Workload("w", model))
    other.close()
    assert children() == before


def test_denormals_count_as_zero(tmp_path: Path) -> None:
    """Networks with fresh weights have vanishing activations, and those are slow on many CPUs. In a process of its own: it is a mode of the CPU."""
    script = (
        "import sys; from latency_db.runtimes.onnxruntime import engine\n"
        "request = {'model': sys.argv[1], 'threads': 1, 'batch': 1, 'image_size': None, 'seed': 0}\n"
        "print(float(abs(engine(request)[0]()[0]).max()))"
    )
    largest = []
    for first in (0.08, 1e-40):
        model = write_model(tmp_path / "m.onnx", 3, first=first)
        done = subprocess.run([sys.executable, "-c", script, str(model)], cwd=ROOT, capture_output=True, text=True, check=True)
        largest.append(float(done.stdout))
    assert largest[0] > 0.1 and largest[1] == 0.0


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


def test_more_threads_than_cpus() -> None:
    with pytest.raises(InputError, match="9999 threads"), open_profiler(Target("onnxruntime", threads=9999), QUICK) as p:
        p.measure(Workload("w", anchor_model()))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs pinning")
def test_a_crowded_cpu_is_called_contended(tmp_path: Path) -> None:
    """Several busy loops on the only CPU that this process leaves to the worker."""
    allowed = os.sched_getaffinity(0)
    crowd = []
    try:
        os.sched_setaffinity(0, {min(allowed)})
        crowd = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
        with open_profiler(Target("onnxruntime"), QUICK) as p:
            found = p.measure(Workload("w", write_model(tmp_path / "m.onnx", 60, size=48)))
    finally:
        for process in crowd:
            process.kill()
            process.wait()
        os.sched_setaffinity(0, allowed)
    assert (found.verdict, found.clock) == ("contended", "cpu")
    assert found.environment["cpus"] == [min(allowed)] and found.cpu_median_ms == found.median_ms


def test_the_anchor_is_built_once_and_again_when_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = anchor_model()
    stamp = path.stat().st_mtime_ns
    assert anchor_model() == path and path.stat().st_mtime_ns == stamp
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    assert anchor_model() == path and path.read_bytes() == good


ENGINES = """
import os, sys, time
def chatty(request):
    print("hello from the runtime")
    os.write(1, b"and from C\\n")
    return (lambda: print("run")), {"model": request["model"]}
def dying(request):
    print("cannot go on: no memory", file=sys.stderr, flush=True)
    os._exit(3)
def hanging(request):
    return (lambda: time.sleep(60)), {}
def failing(request):
    runs = []
    def run():
        runs.append(1)
        if len(runs) > 2:
            raise ValueError("went\\nwrong")
    return run, {}
"""


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "engines_of_this_test.py").write_text(ENGINES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "m.onnx"


def test_what_a_runtime_prints_does_not_disturb(engines: Path) -> None:
    with Worker("engines_of_this_test:chatty") as worker:
        assert worker.load(engines, {"cpus": []}) == {"model": str(engines)}
        runs, spent = worker.ask("warm", {"runs": 3, "few": 3, "seconds": 0.0})
        assert runs == 3 and spent > 0
        runs, spent = worker.ask("warm", {"runs": 10**6, "few": 2, "seconds": 0.001})  # too slow for so many runs
        assert 2 <= runs < 10**6 and spent >= 0.004
        rows = worker.ask("block", {"runs": 4, "settle": 1})
        assert len(rows) == 4 and all(wall > 0 and cpu >= 0 for wall, cpu, _, _ in rows)
    assert not worker.alive


def test_a_process_that_dies_leaves_its_last_words(engines: Path) -> None:
    with Worker("engines_of_this_test:dying") as worker, pytest.raises(RuntimeFailure, match=r"died with status 3.*no memory"):
        worker.load(engines, {"cpus": []})


def test_a_process_that_hangs_is_ended(engines: Path) -> None:
    with Worker("engines_of_this_test:hanging", timeout_s=1.0) as worker, pytest.raises(RuntimeFailure, match="did not answer within 1 s"):
        worker.load(engines, {"cpus": []})


def test_a_run_that_fails_says_why_and_a_closed_worker_that_it_is_gone(engines: Path) -> None:
    with Worker("engines_of_this_test:failing") as worker:
        worker.load(engines, {"cpus": []})
        with pytest.raises(RuntimeFailure, match="ValueError: went wrong"):
            worker.ask("block", {"runs": 4, "settle": 1})
    worker.close()
    with pytest.raises(RuntimeFailure, match="gone"):
        worker.ask("warm", {"runs": 1, "few": 1, "seconds": 0.0})


def test_an_engine_that_is_not_there(engines: Path) -> None:
    with Worker("no_such_module:engine") as worker, pytest.raises(InputError, match="No module named 'no_such_module'"):
        worker.load(engines, {"cpus": []})


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks processes up in /proc")
def test_kill_9_of_the_parent_ends_the_worker(engines: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from latency_db.process import Worker\n"
        "w = Worker('engines_of_this_test:chatty'); w.load(Path('m.onnx'), {'cpus': []}); print(w.pid, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])}
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    status = Path(f"/proc/{int(parent.stdout.readline())}/stat")
    assert status.exists()
    parent.kill()
    parent.stdout.close()
    parent.wait()
    end = time.monotonic() + 20
    while status.exists() and time.monotonic() < end and status.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.05)
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"
