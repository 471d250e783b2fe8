"""A bench that nobody ran: every reference with its published figures and latencies that follow its published FLOPs,
and a searched run with its own mAP."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import Network
from latency_db.core.target import Target
from nas.bench.results import (
    PUBLISHED,
    SUPERNET,
    TRAINED,
    Accuracy,
    BenchModel,
    BenchRecord,
    BenchResult,
    BenchSettings,
    bench_result,
)
from search_spaces.references import Reference, references
from search_spaces.spaces import SPACES
from tests._measured import DEVICE, measurement

FP32, INT8 = "onnxruntime:fp32", "onnxruntime:int8"
DIGITS = ("digits", "0123456789abcdef")


def reference_model(r: Reference) -> BenchModel:
    said = r.published
    assert said is not None
    accuracy = Accuracy(said.map50_95, PUBLISHED, "COCO val2017", "", said.source)
    macs = int((said.gflops or 2 * 1.3 ** (said.map50_95 - 32)) * 5e8)
    return BenchModel(
        r.name, r.family, Network(r.architecture, 80, 640), int((said.params_m or 20) * 1e6), macs, accuracy
    )


def own_model(
    name: str,
    percent: float | None,
    macs: float,
    kind: str = TRAINED,
    run: str = "shop",
    data: tuple[str, str] = DIGITS,
) -> BenchModel:
    rng = random.Random(f"{run}{name}")
    accuracy = None if percent is None else Accuracy(percent, kind, *data, f"runs/{run}/{name}.safetensors")
    architecture = SPACES["yolo-nano"].sample(rng)
    return BenchModel(
        name, run, Network(architecture, 10, int(architecture["image_size"])), int(macs / 400), int(macs), accuracy
    )


OWN = (
    own_model("S", 68.5, 0.4e9),
    own_model("M", 74.1, 0.9e9),
    own_model("L", 77.2, 1.9e9),
    own_model("quick/S", None, 0.7e9, run="quick"),
    own_model("night/S", 61.0, 0.6e9, SUPERNET, "night"),
    own_model("night/L", 66.0, 1.6e9, SUPERNET, "night"),
)


def ms_of(model: BenchModel, target: str) -> float:
    rng = random.Random(model.name)
    ms = 6 + model.macs / 1.0e8 * rng.uniform(0.85, 1.2)
    return ms / rng.uniform(1.2, 1.8) if target.endswith("int8") else ms


def measured(model: BenchModel, target: str, ms: float, anchor_ms: float = 2.0, verdict: str = "clean") -> Measurement:
    m = measurement(model.network, ms, anchor={"wall_ms": anchor_ms, "cpu_ms": anchor_ms})
    return replace(m, target=Target.read(target), verdict=verdict)


def example(
    own: Sequence[BenchModel] = (), int8: bool = False, limit: int | None = None, published: bool = True
) -> BenchResult:
    """All references (or the first ``limit``; with what is ``published`` or without) and ``own``, three rounds each
    on a machine of changing speed."""
    models = [reference_model(r) for r in references().values() if r.published][:limit]
    models = [*(m if published else replace(m, accuracy=None) for m in models), *own]
    targets = (FP32, INT8) if int8 else (FP32,)
    settings = BenchSettings(targets, {m.name: m.network.key for m in models}, 3, 0)
    rng, turns = random.Random(0), []
    for number in range(3):
        for model in models:
            for target in targets:
                slow = rng.uniform(0.9, 1.1)
                ms = ms_of(model, target) * slow * rng.uniform(0.985, 1.015)
                turns.append(BenchRecord(number, model.name, target, measured(model, target, ms, 2 * slow)))
    return bench_result(settings, models, turns, {"device": DEVICE.to_dict(), "runtime": "1.0"})
