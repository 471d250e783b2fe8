"""Latency per operation: profiles of three runtimes, costs of nodes, the roofline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save_model

from latency_db.core.profiler import Workload
from latency_db.core.target import Target
from latency_db.operation_profile.ncnn_engine import layers_of
from latency_db.operation_profile.node_costs import costs_of
from latency_db.operation_profile.onnxruntime_engine import mean_of_middle
from latency_db.operation_profile.profile import (
    OperationProfile,
    find_cost,
    profile_operations,
    profiling_process,
    stage_of,
    why_unprofiled,
)
from latency_db.operation_profile.roofline import Roofline, measure_roofline
from latency_db.operation_profile.tensorrt_engine import LayerTimes, kind_of
from latency_db.runtimes import RUNTIMES
from search_spaces.errors import InputError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stages of a convolution with ReLU each, at 64 px."""
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), f"w{i}") for i, s in enumerate(((32, 3, 3, 3), (32, 32, 3, 3)))]  # fmt: skip
    nodes = []
    last = "images"
    for i, stage in enumerate(("stem", "stage1_block")):
        nodes.append(
            helper.make_node("Conv", [last, f"w{i}"], [f"{stage}/value0"], f"{stage}/Conv_0", pads=[1, 1, 1, 1])
        )
        last = "boxes" if i else f"{stage}/value1"
        nodes.append(helper.make_node("Relu", [f"{stage}/value0"], [last], f"{stage}/Relu_1"))
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])
    boxes = helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 32, 64, 64])
    graph = helper.make_graph(nodes, "two", [image], [boxes], weights)
    path = tmp_path_factory.mktemp("model") / "two.onnx"
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_costs_of_nodes(model: Path) -> None:
    costs = costs_of(model)
    assert costs["stem/Conv_0"].macs == 64 * 64 * 32 * 27
    assert costs["stage1_block/Conv_0"].macs == 64 * 64 * 32 * 32 * 9
    assert costs["stem/value0"] == costs["stem/Conv_0"]
    assert costs["stem/Conv_0"].bytes == 4 * (3 * 64 * 64 + 32 * 27 + 32 * 64 * 64)
    assert costs["stem/Relu_1"].macs == 0


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "ncnn"])
def test_a_profile_finds_both_stages(runtime: str, model: Path) -> None:
    target = Target.parse(f"{runtime}:fp32@64")
    if reason := RUNTIMES[runtime].available():
        pytest.skip(reason)
    profile = profile_operations(Workload("two", model), target, runs=20)
    stages = profile.stages
    assert {"stem", "stage1"} <= set(stages)
    slow = sum(o.ms for o in stages["stage1"])
    assert slow > sum(o.ms for o in stages["stem"])
    assert sum(o.macs for o in profile.operations) == pytest.approx(64 * 64 * 32 * 9 * 35, rel=0.01)
    assert 0.3 < profile.operations_ms / profile.run_ms < 2  # a busy machine; benchmarks/operation_profiles.py is exact
    assert OperationProfile.from_dict(profile.to_dict()) == profile


def test_one_process_profiles_several_networks_with_one_overhead(model: Path) -> None:
    target = Target.parse("onnxruntime:fp32@64")
    with profiling_process(target) as process:
        first = profile_operations(Workload("two", model), target, runs=10, process=process)
        second = profile_operations(Workload("two", model), target, runs=10, process=process, overhead_ms=0.25)
    assert [o.name for o in second.operations] == [o.name for o in first.operations]
    assert first.overhead_ms != second.overhead_ms == 0.25


def test_names_of_a_runtime_lead_to_nodes_and_stages(model: Path) -> None:
    costs = costs_of(model)
    assert find_cost("stem/Conv_0/WithoutBiases", costs) == costs["stem/Conv_0"]
    assert find_cost("stem/value0_nchwc", costs) == costs["stem/Conv_0"]
    assert find_cost("ReorderOutput_3", costs) is None
    assert stage_of("stage1_block/value0_nchwc", costs) == "stage1"
    assert stage_of("ReorderOutput_3", costs) == ""


def test_targets_without_a_profile_say_why() -> None:
    assert "no profile" in str(why_unprofiled(Target.parse("torch:fp32")))
    assert "batch 1" in str(why_unprofiled(Target.parse("onnxruntime:fp32/b8")))
    with pytest.raises(InputError, match="no profile"):
        profile_operations(Workload("w", Path("none.onnx")), Target.parse("mnn:fp32"))


def test_bounds_of_a_roofline() -> None:
    roof = Roofline(macs_per_s=1e9, memory_bytes_per_s=1e9, cache_bytes_per_s=4e9)
    assert roof.bound(10**6, 10**5, 1.1) == "compute"
    assert roof.bound(10**6, 8 * 10**6, 9.0) == "memory"
    assert roof.bound(10**6, 10**5, 5.0) == "neither"
    assert roof.least_ms(10**6, 8 * 10**6) == pytest.approx(8.0)
    assert Roofline.from_dict(roof.to_dict()) == roof


def test_a_measured_roofline_is_plausible() -> None:
    roof = measure_roofline()
    assert 1e8 < roof.macs_per_s < 1e12
    assert 1e8 < roof.memory_bytes_per_s < 1e12
    assert roof.cache_bytes_per_s > 1e9


def test_layers_of_an_ncnn_file() -> None:
    param = "7767517\n3 3\nInput in0 0 1 in0\nConvolution conv_0 1 1 in0 1 0=16 1=3\nSplit s 1 2 1 2 3\n"
    layers = layers_of(param)
    assert [(x.kind, x.blobs, x.channels) for x in layers] == [("Convolution", ("1",), 16), ("Split", ("2", "3"), 0)]


def test_layers_of_tensorrt() -> None:
    assert kind_of("stem/Conv_0 + stem/Relu_1") == "Conv+Relu"
    assert kind_of("Reformatting CopyNode for Input Tensor 0") == "Reformat"
    times = LayerTimes()
    for ms in (5.0, 1.0, 1.0, 1.0, 1.0):
        times.add("stem/Conv_0", ms)
    assert times.rows(1) == [{"name": "stem/Conv_0", "kind": "Conv", "ms": 1.0}]


def test_mean_of_the_middle_passes_over_outliers() -> None:
    assert mean_of_middle([1, 1, 2, 2, 100, 0, 1, 2]) == pytest.approx(1.5)
    assert mean_of_middle([]) == 0
