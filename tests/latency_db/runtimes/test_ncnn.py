"""ncnn computes every block, head and family as torch does, in fp32, and says which parts of it are switched off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from latency_db.conversion.ncnn_file import convert
from latency_db.conversion.onnx_parts import decode_tail
from latency_db.core.target import Target
from latency_db.runtimes import RUNTIMES
from latency_db.runtimes import ncnn as runtime
from search_spaces.errors import InputError
from search_spaces.onnx import build_onnx
from search_spaces.spaces import SPACES
from tests._models import write_model
from tests._networks import CLASSES
from tests._onnx_cells import BATCH, KINDS, assert_near, cell, smallest

pytestmark = pytest.mark.skipif(RUNTIMES["ncnn"].available() is not None, reason="ncnn or pnnx not installed")


@pytest.mark.parametrize("act", ["relu", "silu"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_block_and_head_equals_torch(kind: str, act: str, tmp_path: Path) -> None:
    made = cell(kind, act, tmp_path)
    file = convert(made.path, tmp_path, BATCH)
    assert list(file.inputs) == list(made.inputs)
    found = runtime._decoder(file)(runtime.NcnnNetwork(file, 1).outputs(list(made.inputs.values())))
    assert_near(found, made.wanted)


@pytest.mark.parametrize("name", list(SPACES))
def test_a_network_of_every_space_equals_torch(name: str, tmp_path: Path) -> None:
    made = smallest(name, tmp_path)
    assert decode_tail(onnx.load(str(made.path)))
    session = RUNTIMES["ncnn"].open_session(Target("ncnn", batch=BATCH), made.path)
    assert session is not None
    assert_near(list(session(made.inputs["images"])), made.wanted)


def test_lower_precisions_are_off_and_in_the_settings(tmp_path: Path) -> None:
    request = {"model": write_model(tmp_path / "m.onnx", 2), "batch": 1, "image_size": None, "threads": 2, "seed": 0}
    step, info = runtime.engine(request)
    step()
    assert info["num_threads"] == 2 and info["decoding"] == "none" and info["inputs"] == {"x0": [1, 16, 32, 32]}
    for option in ("use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        assert info[option] is False


def test_a_file_that_reshapes_to_its_batch_is_converted_for_one_image(tmp_path: Path) -> None:
    space = SPACES["yolo11"]
    model = tmp_path / "network.onnx"
    model.write_bytes(build_onnx(space.graph(space.smallest), CLASSES, 64, 3))
    file = convert(model, tmp_path, batch=3)
    assert file.inputs == {"images": [3, 3, 64, 64]} and file.tail is not None
    assert len(runtime.NcnnNetwork(file, 1).outputs([np.zeros((3, 3, 64, 64), np.float32)])[0]) == 3


def test_an_operator_of_onnx_that_ncnn_lacks_is_one_line(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", 1, kind="Mod")
    proto = onnx.load(str(model))
    proto.graph.node[0].ClearField("attribute")
    model.write_bytes(proto.SerializeToString())
    with pytest.raises(InputError) as error:
        file = convert(model, tmp_path)
        runtime.NcnnNetwork(file, 1)
    assert "\n" not in str(error.value)


def test_only_the_cpu_in_fp32() -> None:
    for target in (Target("ncnn", device="cuda:0"), Target("ncnn", "fp16")):
        with pytest.raises(InputError, match=r"cuda:0|fp16"):
            RUNTIMES["ncnn"](target)


@pytest.mark.parametrize(("end", "channels", "rewritten"), [(8, 8, True), (9, 8, True), (4, 8, False), (7, 7, False)])
def test_only_a_slice_of_all_channels_in_whole_groups_becomes_reshapes(
    end: int, channels: int, rewritten: bool
) -> None:
    """Anything else keeps its operator, and what it computes."""
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    from latency_db.conversion.ncnn_file import _without_strides

    values = {"first": 1, "last": end, "axis": 1, "step": 2}
    kept = -(-(min(end, channels) - 1) // 2)
    graph = helper.make_graph(
        [helper.make_node("Slice", ["x", *values], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, 2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, kept, 2, 3])],
        [numpy_helper.from_array(np.array([v], np.int64), name) for name, v in values.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    x = np.arange(channels * 6, dtype=np.float32).reshape(1, channels, 2, 3)
    _without_strides(proto)
    assert (len(proto.graph.node) == 3) == rewritten
    (y,) = list(ReferenceEvaluator(proto).run(None, {"x": x}))
    assert np.array_equal(y, x[:, 1:end:2])
