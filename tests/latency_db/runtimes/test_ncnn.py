"""ncnn computes every block, head and family as torch does, in fp32, and says which parts of it are switched off."""

from __future__ import annotations

import inspect
import random
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch

from latency_db.conversion.ncnn_file import convert
from latency_db.conversion.onnx_parts import decode_tail
from latency_db.core.target import Target
from latency_db.runtimes import RUNTIMES
from latency_db.runtimes import ncnn as runtime
from search_spaces import onnx as onnx_graph
from search_spaces.blocks import BLOCKS
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.graph import Node
from search_spaces.heads import HEADS
from search_spaces.layers import fuse
from search_spaces.onnx import build_onnx
from search_spaces.spaces import SPACES
from tests._models import write_model
from tests._networks import CLASSES, case, draw, make, randomise

pytestmark = pytest.mark.skipif(RUNTIMES["ncnn"].available() is not None, reason="ncnn or pnnx not installed")

TOLERANCE = 1e-3
"""Of the largest number of an output; ncnn's Winograd convolutions sum in another order."""


def assert_near(found: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= TOLERANCE * max(1.0, float(np.abs(wanted).max()))


@pytest.mark.parametrize("act", ["relu", "silu"])
@pytest.mark.parametrize("kind", sorted([*BLOCKS, *HEADS]))
def test_every_block_and_head_equals_torch(kind: str, act: str, tmp_path: Path) -> None:
    n, c_in = draw(kind, random.Random(2))
    if "act" in inspect.signature((BLOCKS if kind in BLOCKS else HEADS)[kind]).parameters:
        n = Node(n.name, n.kind, n.inputs, (*n.options, ("act", act)))
    torch.manual_seed(0)
    module = fuse(randomise(make(kind, n, c_in)).eval(), full=True)
    inputs = case(kind).inputs(c_in)
    shapes = tuple(tuple(x.shape[1:]) for x in inputs)
    fragment = onnx_graph._cell(n, c_in, shapes, 2, CLASSES if kind in HEADS else None)
    parts = onnx_graph._Parts()
    names = [f"x{i}" for i in range(len(inputs))]
    outputs = parts.add("cell", fragment, names, module)
    model = tmp_path / "cell.onnx"
    model.write_bytes(
        parts.model(2, dict(zip(names, shapes, strict=True)), dict(zip(outputs, fragment.shapes, strict=True)))
    )
    file = convert(model, tmp_path, batch=2)
    assert list(file.inputs) == names
    found = runtime._decoder(file)(runtime._Network(file, 1).outputs([x.numpy() for x in inputs]))
    with torch.no_grad():
        out = module(*inputs)
    wanted = [out] if kind in BLOCKS else [t for level in out for t in level]
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert_near(a, b.numpy())


@pytest.mark.parametrize("name", list(SPACES))
def test_a_network_of_every_space_equals_torch(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    space = SPACES[name]
    detector = randomise(Detector(space.graph(space.smallest), CLASSES)).eval().deploy()  # type: ignore[operator]
    model = tmp_path / "network.onnx"
    model.write_bytes(build_onnx(detector.graph, CLASSES, 64, 2, detector))
    assert decode_tail(onnx.load(str(model)))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    boxes, scores = RUNTIMES["ncnn"].open_session(Target("ncnn", batch=2), model)(images.numpy())  # type: ignore[misc]
    with torch.no_grad():
        wanted_boxes, wanted_scores = detector.predict(images)
    assert_near(np.asarray(boxes), wanted_boxes.numpy())
    assert_near(np.asarray(scores), wanted_scores.numpy())


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
    assert len(runtime._Network(file, 1).outputs([np.zeros((3, 3, 64, 64), np.float32)])[0]) == 3


def test_an_operator_of_onnx_that_ncnn_lacks_is_one_line(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", 1, kind="Mod")
    proto = onnx.load(str(model))
    proto.graph.node[0].ClearField("attribute")
    model.write_bytes(proto.SerializeToString())
    with pytest.raises(InputError) as error:
        file = convert(model, tmp_path)
        runtime._Network(file, 1)
    assert "\n" not in str(error.value)


def test_only_the_cpu_in_fp32() -> None:
    for target in (Target("ncnn", device="cuda:0"), Target("ncnn", "fp16")):
        with pytest.raises(InputError, match=r"cuda:0|fp16"):
            RUNTIMES["ncnn"](target)
