"""Targets, device fingerprints and measurements are values that survive being written down."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from latency_db.core.device import DeviceFingerprint, cpu_info, cpu_name
from latency_db.core.measurement import Measurement, check_past, now
from latency_db.core.profiler import Network
from latency_db.core.target import PRECISIONS, Target
from latency_db.runtimes import RUNTIMES, open_profiler
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES

ROOT = Path(__file__).resolve().parents[3]

MEASUREMENT = Measurement(
    median_ms=2.0,
    p90_ms=2.5,
    p99_ms=3.25,
    low_ms=1.9,
    high_ms=0.1 + 0.2 + 2,
    runs=40,
    source="measured",
    verdict="clean",
    clock="wall",
    target=Target("onnxruntime"),
    workload="w",
    wall_median_ms=2.0,
    cpu_median_ms=1.0 / 3,
    environment={"anchor": {"wall_ms": 1.5, "cpu_ms": 1.4}, "load": [0.5, None], "cpus": [1]},
    time="2026-01-02T03:04:05+00:00",
)


@pytest.mark.parametrize(
    "text", ["onnxruntime:fp32", "tensorrt:fp16", "onnxruntime:int8@640", "recorded:fp16@480/yolobench-a40"]
)
def test_canonical_text_is_kept(text: str) -> None:
    assert str(Target.read(text)) == text


def test_every_combination_survives_being_written() -> None:
    grid = itertools.product(
        ["onnxruntime", "tensorrt-rtx"],
        PRECISIONS,
        ["", "cpu", "cuda:0", "GPU.1", "bfg"],
        [None, 32, 640],
        [1, 8],
        [1, 2],
    )
    seen: dict[str, Target] = {}
    for fields in grid:
        target = Target(*fields)
        assert Target.read(str(target)) == target
        assert seen.setdefault(str(target), target) == target
    assert len(seen) == 2 * 4 * 4 * 3 * 2 * 2  # "" and "cpu" are one device


def test_defaults_and_any_order_of_suffixes() -> None:
    assert Target.parse("onnxruntime") == Target("onnxruntime", "fp32", "cpu", None, 1, 1)
    assert str(Target.parse("onnxruntime@640/cuda:0/t2/b8")) == "onnxruntime:fp32@640/b8/t2/cuda:0"


@pytest.mark.parametrize(
    "text, says",
    [
        ("onnxruntme:fp32", "did you mean 'onnxruntime'"),
        ("onnxruntime:fp23", "did you mean 'fp32'"),
        ("onnxruntime:", "unknown precision ''"),
        ("onnxruntime:fp32@", "image size ''"),
        ("onnxruntime:fp32@big", "image size 'big'"),
        ("onnxruntime:fp32@0640", "image size '0640'"),
        ("onnxruntime:fp32@-640", "image size '-640'"),
        ("onnxruntime:fp32/b0", "batch '0'"),
        ("onnxruntime:fp32/b", "batch ''"),
        ("onnxruntime:fp32/t1.5", "threads '1.5'"),
        ("onnxruntime:fp32/b2/b4", "expected runtime[:precision]"),
        ("onnxruntime:fp32/", "expected runtime[:precision]"),
        ("onnxruntime:fp32/cpu/gpu", "expected runtime[:precision]"),
        ("onnxruntime:fp32/c pu", "device 'c pu'"),
        ("", "runtime name ''"),
    ],
)
def test_what_is_wrong_with_a_target_is_said_in_one_line(text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        Target.parse(text)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "fields", [{"batch": 0}, {"threads": -1}, {"image_size": 0}, {"batch": 1.5}, {"device": "b8"}, {"device": "a/b"}]
)
def test_a_target_that_could_not_be_written_cannot_be_made(fields: dict[str, object]) -> None:
    with pytest.raises(InputError):
        replace(Target("onnxruntime"), **fields)  # type: ignore[arg-type]


def test_a_precision_that_is_not_supported_is_refused() -> None:
    with pytest.raises(InputError, match="bf16 is not supported by onnxruntime; expected one of fp32"):
        open_profiler(Target.parse("onnxruntime:bf16"))


def test_fingerprint_is_stable_and_survives_json() -> None:
    device = DeviceFingerprint.read()
    assert device == DeviceFingerprint.read() and device.cores >= 1 and device.cpu
    again = DeviceFingerprint.from_dict(json.loads(json.dumps(device.to_dict())))
    assert again == device and again.id == device.id and len(device.id) == 12
    assert replace(device, accelerator="GPU").id != device.id
    with pytest.raises(InputError, match="not a device fingerprint"):
        DeviceFingerprint.from_dict({"cpu": "x"})


def test_cpu_names_of_x86_and_arm(tmp_path: Path) -> None:
    x86, arm = tmp_path / "x86", tmp_path / "arm"
    x86.write_text(
        "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nstepping\t: 1\n\nprocessor\t: 1\nmodel name\t: other\n"
    )
    arm.write_text("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n\nModel\t\t: Raspberry Pi 4\n")
    assert cpu_name(cpu_info(x86)) == "AMD EPYC (family 25 model 17 stepping 1)"
    assert cpu_name(cpu_info(arm)) == "Raspberry Pi 4 0x41 0xd08"
    assert cpu_name(cpu_info(tmp_path / "none"))


def test_measurement_survives_json_bit_for_bit() -> None:
    again = Measurement.from_dict(json.loads(json.dumps(MEASUREMENT.to_dict())))
    assert again == MEASUREMENT and hash(again) == hash(MEASUREMENT)
    assert MEASUREMENT.half_width == pytest.approx(0.1)


def test_measurement_at_the_anchors_reference() -> None:
    scaled = MEASUREMENT.at_nominal_speed(3.0)
    assert MEASUREMENT.reference_ms == 1.5 and scaled.reference_ms == pytest.approx(3.0)
    assert scaled.median_ms == 4.0 and scaled.half_width == pytest.approx(MEASUREMENT.half_width)
    assert scaled.at_nominal_speed(1.5).median_ms == pytest.approx(MEASUREMENT.median_ms)
    alone = replace(MEASUREMENT, environment={})
    assert alone.reference_ms is None and alone.at_nominal_speed(3.0) == alone


@pytest.mark.parametrize(
    "change",
    [
        {"median_ms": float("inf")},
        {"median_ms": 0.0},
        {"p90_ms": float("nan")},
        {"low_ms": 2.1},
        {"source": "guess"},
        {"verdict": "?"},
        {"clock": "sun"},
    ],
)
def test_a_failure_never_becomes_a_measurement(change: dict[str, object]) -> None:
    with pytest.raises(InputError):
        replace(MEASUREMENT, **change)  # type: ignore[arg-type]


def test_a_measurement_with_fields_missing_says_which() -> None:
    data = MEASUREMENT.to_dict()
    del data["p99_ms"]
    with pytest.raises(InputError, match="p99_ms"):
        Measurement.from_dict(data)


def test_the_room_imports_no_torch_and_no_runtime() -> None:
    """Also what a runtime's module promises: it imports without its library."""
    script = f"""
import importlib, pkgutil, sys
import latency_db
for module in pkgutil.walk_packages(latency_db.__path__, "latency_db."):
    importlib.import_module(module.name)
from latency_db.runtimes import RUNTIMES
for name in {list(RUNTIMES)}:
    RUNTIMES[name]
print([m for m in ("torch", "nas", "onnx", "onnxruntime", "openvino", "tensorrt") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "size, hint", [(100, "for example 96 or 128"), (33, "for example 32 or 64"), (16, "the smallest is 32"), (0, "32")]
)
def test_image_sizes_that_no_network_takes_are_refused(size: int, hint: str) -> None:
    architecture = SPACES["yolo-nano"].smallest
    assert Network(architecture, 3, 96).key.endswith("/c3/r96")
    with pytest.raises(InputError, match=f"image size {size} of a network; expected a multiple of 32") as error:
        Network(architecture, 3, size)
    assert hint in str(error.value)
    with pytest.raises(InputError, match="0 classes"):
        Network(architecture, 0, 96)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"runs": -5}, "runs -5"),
        ({"runs": 1.5}, "runs 1.5"),
        ({"runs": True}, "runs True"),
        ({"median_ms": float("nan")}, "finite positive"),
        ({"p99_ms": float("inf")}, "finite positive"),
        ({"wall_median_ms": -1.0}, "wall_median_ms -1.0"),
        ({"cpu_median_ms": "x"}, "cpu_median_ms 'x'"),
        ({"time": "2026-01-01T00:00:00"}, "ISO 8601 in UTC"),
        ({"environment": []}, "environment of a measurement: \\[\\]"),
        ({"environment": {"anchor": 3}}, "anchor 3"),
        ({"environment": {"anchor": {"wall_ms": 0}}}, "above 0"),
        ({"environment": {"anchor_factor": None}}, "anchor_factor None"),
        ({"workload": 7}, "workload of a measurement: 7"),
        ({"verdict": ["clean"]}, "verdict of a measurement"),
    ],
)
def test_a_measurement_from_outside_is_checked(changes: dict[str, object], words: str) -> None:
    assert Measurement.from_dict(MEASUREMENT.to_dict()) == MEASUREMENT
    with pytest.raises(InputError, match=words):
        Measurement.from_dict({**MEASUREMENT.to_dict(), **changes})


def test_a_time_ahead_is_refused_at_import() -> None:
    for text in ("", "2026-01-02T03:04:05+00:00", now()):
        check_past(text)
    with pytest.raises(InputError, match="a time that is past"):
        check_past("9999-01-01T00:00:00+00:00")
    record = {**MEASUREMENT.to_dict(), "time": "9999-01-01T00:00:00+00:00"}
    assert Measurement.from_dict(record).to_dict() == record  # in a database it stays readable


def test_a_reference_model_of_one_clock_is_enough() -> None:
    """Records of GPUs hold its wall time only."""
    record = {**MEASUREMENT.to_dict(), "environment": {"anchor": {"wall_ms": 1.5}}}
    assert Measurement.from_dict(record).reference_ms == 1.5
