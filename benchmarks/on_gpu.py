"""Everything that needs a GPU, in the order of its worth, each step with its own time limit and its result at once.

``python -m benchmarks.on_gpu --minutes 12 --out gpu-results``
``python -m benchmarks.on_gpu --rehearse --out /tmp/rehearsal``

Each step runs in a process of its own and is ended at its limit; what it wrote until then stays. ``DIR/STEP.json`` has
its state, seconds, result and last lines; ``DIR/summary.md`` is a table of all. A step that the remaining time does not
admit is skipped and named. ``--rehearse`` runs the same steps on the CPU, with small networks and ONNX Runtime in the
place of the GPU's runtimes, in under five minutes. docs/gpu.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nas.core.atomic import atomic_write
from nas.core.paths import new_folder

REFERENCES = ("yolov8n", "yolo11n", "yolo26n", "yolov6n", "yolo12n", "yolo-nas-s")
LAST_LINES = 40
LEAST_S = 15.0
"""A step is not begun with less time left."""


@dataclass(frozen=True)
class Setting:
    """What the steps run on.

    Args:
        out: Folder of all results.
        data: Data set, as ``--data`` takes it.
        rehearse: Whether the CPU stands in for the GPU.
    """

    out: Path
    data: str
    rehearse: bool = False

    def target(self, text: str) -> str:
        """Return a target of the GPU; in a rehearsal ONNX Runtime or torch on the CPU at 64 px in its place."""
        if not self.rehearse:
            return text
        runtime = "torch" if text.startswith("torch") else "onnxruntime"
        return f"{runtime}:{'int8' if ':int8' in text else 'fp32'}@64"

    @property
    def references(self) -> tuple[str, ...]:
        """The networks whose latency is measured."""
        return REFERENCES[:1] if self.rehearse else REFERENCES

    @property
    def size(self) -> int:
        """Side of the images of the search in pixels."""
        return 96 if self.rehearse else 320

    @property
    def batch(self) -> list[str]:
        """The batch of trainings, as options."""
        return ["--batch-size", "8"] if self.rehearse else []

    @property
    def device(self) -> str:
        """Device of training."""
        return "cpu" if self.rehearse else "cuda"

    @property
    def run(self) -> Path:
        """Folder of the search."""
        return self.out / "search"


@dataclass(frozen=True)
class Step:
    """One step: its name, its limit in seconds, what it does, and why."""

    name: str
    limit_s: float
    do: Callable[[Setting], Any]
    what: str


# steps: each returns what is kept, JSON-ready


def versions(setting: Setting) -> Any:
    """Driver, GPU and library versions."""
    from importlib import metadata

    from latency_db.core.device import DeviceFingerprint
    from latency_db.runtimes import RUNTIMES

    smi = subprocess.run(["nvidia-smi"], capture_output=True, text=True, check=False) if _has("nvidia-smi") else None
    names = ("torch", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx-cu13-bindings", "numpy", "optuna")
    found = {d.metadata["Name"].lower(): d.version for d in metadata.distributions() if d.metadata["Name"]}
    return {
        "device": DeviceFingerprint.read().to_dict(),
        "nvidia_smi": smi.stdout if smi else None,
        "packages": {name: found[name] for name in names if name in found},
        "runtimes": {name: RUNTIMES[name].available() or RUNTIMES[name].version() for name in RUNTIMES},
        "cuda_in_torch": _cuda_in_torch(),
    }


def _has(program: str) -> bool:
    import shutil

    return shutil.which(program) is not None


def _cuda_in_torch() -> Any:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {"cuda": torch.version.cuda, "devices": [torch.cuda.get_device_name(i) for i in range(count)]}


def gpu_tests(setting: Setting) -> Any:
    """The tests that are marked ``gpu``; in a rehearsal they are only collected."""
    more = ["--collect-only"] if setting.rehearse else []
    return call(
        [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *more, "tests/latency_db"]
    )


def latency(setting: Setting) -> Any:
    """TensorRT-RTX in fp16 and int8, then fp32: six references, interleaved."""
    found = {}
    for text, int8 in (("tensorrt-rtx:fp16@320", True), ("tensorrt-rtx:fp32@320", False)):
        found[text] = bench(
            setting, setting.references, text, f"bench-{text.partition('@')[0].replace(':', '-')}", int8
        )
    return found


def repeatability(setting: Setting) -> Any:
    """One reference five times, each in fresh processes."""
    import tempfile
    from statistics import median

    from latency_db.core.profiler import FINALIST
    from latency_db.core.target import Target
    from latency_db.runtimes import open_profiler
    from nas.profiling.workload import workload_of

    target, values = Target.parse(setting.target("tensorrt-rtx:fp16@320")), []
    with tempfile.TemporaryDirectory() as scratch:
        workload = workload_of(Path("yolov8n"), target, Path(scratch))
        for _ in range(2 if setting.rehearse else 5):
            with open_profiler(target, quick() if setting.rehearse else FINALIST) as profiler:
                values.append(profiler.measure(workload).median_ms)
    return {"ms": values, "half_range": (max(values) - min(values)) / 2 / median(values)}


def search(setting: Setting) -> Any:
    """A whole search: short supernet, candidates measured by TensorRT-RTX, S, M and L."""
    epochs, trials, images = ("1", "2", "24") if setting.rehearse else ("6", "40", "1000")
    words = ["search", "--data", setting.data, "--limit", images, "--fix", f"image_size={setting.size}"]
    words += ["--target", setting.target("tensorrt-rtx:fp16").partition("@")[0], "--epochs", epochs, "--trials", trials]
    words += ["--device", setting.device, "--eval-images", "16" if setting.rehearse else "200", *setting.batch]
    return nas(setting, [*words, "--out", str(setting.run)]) | {"front": _json(setting.run / "front.json")}


def certificate(setting: Setting) -> Any:
    """The picks of the search measured again."""
    words = ["certify", str(setting.run), "--repeat", "1" if setting.rehearse else "3"]
    return nas(setting, words, expected=(0, 1)) | {"certificate": _json(setting.run / "certificate.json")}


def training(setting: Setting) -> Any:
    """S, M and L and two references, trained side by side."""
    words = ["train", str(setting.run), "--data", setting.data, "--init", "supernet", "--device", setting.device]
    words += (
        ["--epochs", "1", "--limit", "16", *setting.batch] if setting.rehearse else ["--epochs", "8", "--limit", "1000"]
    )
    names = ("yolov8n",) if setting.rehearse else ("yolov8n", "yolo11n")
    for name in names:
        words += ["--reference", name]
    done = nas(setting, words)
    return done | {p.stem: _json(p) for p in sorted(setting.run.glob("*.metrics.json"))}


def int8(setting: Setting) -> Any:
    """int8 against fp16 on the trained S: accuracy and speed."""
    words = ["quantize", str(setting.run / "S.safetensors"), "--data", setting.data, "--limit", "64"]
    target = setting.target("tensorrt-rtx:int8").partition("@")[0]
    words += ["--target", target, "--rounds", "0" if setting.rehearse else "3", "--device", setting.device]
    done = nas(setting, [*words, "--out", str(setting.run / "S-int8.onnx")])
    return done | {"report": _json(setting.run / "S-int8.quantization.json")}


def torch_latency(setting: Setting) -> Any:
    """torch on CUDA, and torch.compile."""
    targets = ("torch:fp16@320",) if setting.rehearse else ("torch:fp16@320", "torch-compile:fp16@320")
    return {t: bench(setting, setting.references[:2], t, f"bench-{t.partition(':')[0]}") for t in targets}


def onnxruntime_cuda(setting: Setting) -> Any:
    """ONNX Runtime with the CUDA provider, where it is installed."""
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers() and not setting.rehearse:
        return "not installed: this ONNX Runtime has no CUDA provider"
    return bench(setting, setting.references[:2], "onnxruntime:fp32@320/cuda:0", "bench-onnxruntime-cuda")


def two_processes(setting: Setting) -> Any:
    """Training in two processes: on two GPUs by torchrun, in a rehearsal on the CPU."""
    words = ["train", "yolov8n", "--data", setting.data, "--image-size", str(setting.size), "--epochs", "1"]
    words += [
        *setting.batch,
        "--limit",
        "16" if setting.rehearse else "500",
        "--out",
        str(setting.out / "two" / "yolov8n.safetensors"),
    ]
    if setting.rehearse:
        return nas(setting, [*words, "--processes", "2", "--device", "cpu"])
    if len(_cuda_in_torch()["devices"]) < 2:
        return "not run: one GPU"
    return call([sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "nas", *words])


STEPS = (
    Step("versions", 30, versions, "driver and library versions"),
    Step("gpu-tests", 90, gpu_tests, "tests marked gpu"),
    Step("latency", 180, latency, "TensorRT-RTX fp16, int8 and fp32: six references"),
    Step("repeatability", 60, repeatability, "five fresh processes"),
    Step("search", 240, search, "a whole search on the GPU"),
    Step("certificate", 60, certificate, "S, M and L measured again"),
    Step("training", 180, training, "S, M, L and references, trained side by side"),
    Step("int8", 90, int8, "int8 against fp16"),
    Step("torch", 120, torch_latency, "torch on CUDA and torch.compile"),
    Step("onnxruntime-cuda", 60, onnxruntime_cuda, "ONNX Runtime's CUDA provider"),
    Step("two-processes", 60, two_processes, "training in two processes"),
)


# what the steps share


def quick() -> Any:
    """Return a protocol of a second, for rehearsals: its figures are no measurements."""
    from latency_db.core.profiler import Protocol

    return Protocol(warmup_runs=3, warmup_s=0.02, min_rounds=3, max_rounds=4, max_s=1.0)


def bench(setting: Setting, names: Sequence[str], target: str, folder: str, with_int8: bool = False) -> Any:
    """Measure references on a target, interleaved, and return the latency of each; the journal is in ``folder``."""
    from latency_db.core.target import Target
    from nas.bench.models import resolve_models
    from nas.bench.run import BenchRequest, run_bench
    from nas.core.console_reporter import ConsoleReporter
    from nas.data.source import open_data
    from nas.profiling.interleaved import ROUND

    first = Target.parse(setting.target(target))
    targets = [first, replace(first, precision="int8")] if with_int8 else [first]
    data = open_data(setting.data, limit=32) if with_int8 else None
    models = resolve_models(list(names), image_size=first.image_size)
    request = BenchRequest(models, targets, new_folder(setting.out / folder), 1 if setting.rehearse else 2, data=data)
    protocol = quick() if setting.rehearse else replace(ROUND, max_s=5.0)
    done = run_bench(request, ConsoleReporter(), protocol=protocol)
    return {
        text: {
            name: {"ms": e.latency.value, "low": e.latency.low, "high": e.latency.high, "verdict": e.verdict}
            if e.latency
            else {"failed": e.failure}
            for name, e in done.of(text).items()
        }
        for text in done.settings.targets
    }


def nas(setting: Setting, words: Sequence[str], expected: Sequence[int] = (0,)) -> dict[str, Any]:
    """Run a command of ``nas``; latencies go to a database in the folder of results."""
    more = ["--latency-db", str(setting.out / "latency.sqlite")] if words[0] in ("search", "certify") else []
    return call([sys.executable, "-m", "nas", *words, *more], expected)


def call(words: Sequence[str], expected: Sequence[int] = (0,)) -> dict[str, Any]:
    """Run a command and return its last lines and seconds; raises RuntimeError for another status."""
    start = time.monotonic()
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    lines = done.stdout.splitlines()[-LAST_LINES:]
    if done.returncode not in expected:
        raise RuntimeError(f"status {done.returncode}: " + " | ".join(lines[-8:]))
    return {"status": done.returncode, "seconds": round(time.monotonic() - start, 1), "output": lines}


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


# running


def run_all(
    setting: Setting, minutes: float, steps: Sequence[Step] = STEPS, command: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Run the steps in their order within the time, and return their records.

    Args:
        setting: What they run on.
        minutes: All of them together.
        steps: The steps.
        command: The command that runs one step, its name added; by default this module.
    """
    end, records = time.monotonic() + 60 * minutes, []
    base = command or [sys.executable, "-m", "benchmarks.on_gpu", "--out", str(setting.out), "--data", setting.data]
    base = [*base, *(["--rehearse"] if setting.rehearse else [])]
    for number, step in enumerate(steps, 1):
        left = end - time.monotonic()
        limit = min(step.limit_s, left - 2)
        if limit < min(LEAST_S, step.limit_s):
            record: dict[str, Any] = {"state": "skipped", "seconds": 0.0, "why": f"{max(0.0, left):.0f} s left"}
        else:
            record = _run_one([*base, "--step", step.name], limit, setting.out / f"{step.name}.log")
        record = {"step": step.name, "what": step.what, "limit_s": step.limit_s, **record}
        records.append(record)
        path = setting.out / f"{step.name}.json"
        kept = _json(path) or {}
        atomic_write(path, json.dumps({**kept, **record}, indent=2) + "\n")
        atomic_write(setting.out / "summary.md", _summary(setting, records))
        print(f"{number}/{len(steps)} {step.name}: {record['state']} after {record['seconds']:.0f} s", flush=True)
    return records


def _run_one(words: Sequence[str], limit: float, log: Path) -> dict[str, Any]:
    """Run a step's process, and end it with all its children at the limit."""
    start = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM if process.poll() is None else signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired, ProcessLookupError):
                process.wait(5)
                os.killpg(process.pid, signal.SIGKILL)
            if process.poll() is None:
                process.kill()
                process.wait()
    lines = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
    state = "out of time" if status is None else "done" if status == 0 else "failed"
    return {"state": state, "seconds": round(time.monotonic() - start, 1), "last_lines": lines}


def _summary(setting: Setting, records: Sequence[dict[str, Any]]) -> str:
    head = "# On a GPU" + (" (rehearsal on a CPU: no measurements)" if setting.rehearse else "")
    rows = [f"| {r['step']} | {r['what']} | {r['state']} | {r['seconds']:.0f} s |" for r in records]
    return "\n".join([head, "", "| step | what | state | time |", "|---|---|---|---|", *rows, ""])


def run_step(setting: Setting, name: str) -> None:
    """Run one step in this process and write its result; a failure ends the process with its traceback."""
    step = next(s for s in STEPS if s.name == name)
    result = step.do(setting)
    atomic_write(setting.out / f"{name}.json", json.dumps({"result": result}, indent=2) + "\n")


def main() -> None:
    """Run all steps, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12.0, help="for all steps together (default %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--data", help="data set of search and training (default digits)")
    parser.add_argument("--rehearse", action="store_true", help="the same steps on a CPU, small")
    parser.add_argument("--step", choices=[step.name for step in STEPS], help="this step only, in this process")
    args = parser.parse_args()
    data = args.data or ("digits@64:train=24,val=16" if args.rehearse else "digits")
    setting = Setting(new_folder(args.out).resolve(), data, args.rehearse)
    if args.step:
        run_step(setting, args.step)
        return
    records = run_all(setting, args.minutes)
    print(f"written: {setting.out}/summary.md")
    if args.rehearse and any(r["state"] != "done" for r in records):
        sys.exit(1)


if __name__ == "__main__":
    main()
