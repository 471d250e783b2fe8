"""The measuring process around an engine, and the CPU protocol around that; the contract of the runtimes is in
``test_runtimes.py``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latency_db.core import cpu
from latency_db.core.profiler import RuntimeFailure, Workload
from latency_db.core.target import Target
from latency_db.runtimes import open_profiler
from latency_db.timing.reference_model import reference_model_file
from latency_db.timing.timing_client import TimingClient
from search_spaces.errors import InputError
from tests._models import QUICK, write_model

ROOT = Path(__file__).resolve().parents[3]


def test_denormals_count_as_zero(tmp_path: Path) -> None:
    """Networks with fresh weights have vanishing activations, and those are slow on many CPUs. In a process of its
    own: it is a mode of the CPU."""
    script = (
        "import sys; from latency_db.runtimes.onnxruntime import engine\n"
        "request = {'model': sys.argv[1], 'threads': 1, 'batch': 1, 'image_size': None, 'seed': 0}\n"
        "print(float(abs(engine(request)[0]()[0]).max()))"
    )
    largest = []
    for first in (0.08, 1e-40):
        model = write_model(tmp_path / "m.onnx", 3, first=first)
        done = subprocess.run(
            [sys.executable, "-c", script, str(model)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        largest.append(float(done.stdout))
    assert largest[0] > 0.1 and largest[1] == 0.0


def test_more_threads_than_cpus() -> None:
    with (
        pytest.raises(InputError, match="9999 threads"),
        open_profiler(Target("onnxruntime", threads=9999), QUICK) as p,
    ):
        p.measure(Workload("w", reference_model_file()))


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
    path = reference_model_file()
    stamp = path.stat().st_mtime_ns
    assert reference_model_file() == path and path.stat().st_mtime_ns == stamp
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    assert reference_model_file() == path and path.read_bytes() == good


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
    with TimingClient("engines_of_this_test:chatty") as worker:
        assert worker.load(engines, {"cpus": []}) == {"model": str(engines)}
        runs, spent = worker.ask("warm", {"runs": 3, "seconds": 0.0})
        assert runs == 3 and spent > 0
        rows = worker.ask("block", {"runs": 4, "settle": 1})
        assert len(rows) == 4 and all(wall > 0 and cpu >= 0 for wall, cpu, _, _ in rows)
    assert not worker.alive


def test_a_process_that_dies_leaves_its_last_words(engines: Path) -> None:
    with (
        TimingClient("engines_of_this_test:dying") as worker,
        pytest.raises(RuntimeFailure, match=r"died with status 3.*no memory"),
    ):
        worker.load(engines, {"cpus": []})


def test_a_process_that_hangs_is_ended(engines: Path) -> None:
    with (
        TimingClient("engines_of_this_test:hanging", timeout_s=1.0) as worker,
        pytest.raises(RuntimeFailure, match="did not answer within 1 s"),
    ):
        worker.load(engines, {"cpus": []})


def test_a_run_that_fails_says_why_and_a_closed_client_that_it_is_not_running(engines: Path) -> None:
    with TimingClient("engines_of_this_test:failing") as worker:
        worker.load(engines, {"cpus": []})
        with pytest.raises(RuntimeFailure, match="ValueError: went wrong"):
            worker.ask("block", {"runs": 4, "settle": 1})
    worker.close()
    with pytest.raises(RuntimeFailure, match="not running"):
        worker.ask("warm", {"runs": 1, "seconds": 0.0})


def test_an_engine_that_is_not_there(engines: Path) -> None:
    with (
        TimingClient("no_such_module:engine") as worker,
        pytest.raises(InputError, match="No module named 'no_such_module'"),
    ):
        worker.load(engines, {"cpus": []})


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks processes up in /proc")
def test_kill_9_of_the_parent_ends_the_worker(engines: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from latency_db.timing.timing_client import TimingClient\n"
        "w = TimingClient('engines_of_this_test:chatty'); w.load(Path('m.onnx'), {'cpus': []}); print(w.pid, flush=True); time.sleep(60)"
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


def test_who_waits_long_for_another_says_for_whom(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cpu, "SILENT_WAIT_S", 0.2)
    hold = "import os, time\nfrom latency_db.core.cpu import exclusive\nwith exclusive('one'):\n    print(os.getpid(), flush=True)\n    time.sleep(1.5)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        pid = holder.stdout.readline().strip()
        with cpu.exclusive("one"):
            pass
    assert [r.getMessage() for r in caplog.records if f"process {pid}," in r.getMessage()]
    with cpu.exclusive("one"):  # nobody has it: nothing is said
        pass
    assert len(caplog.records) == 1
