"""ONNX straight from the network definition: the same numbers as torch, for every block and head, and for networks of
every space."""

from __future__ import annotations

import inspect
import random

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from nas.export.onnx import skeleton_onnx
from search_spaces import onnx as onnx_graph
from search_spaces import onnx_nodes
from search_spaces.blocks import BLOCKS
from search_spaces.detector import Detector
from search_spaces.graph import Node
from search_spaces.heads import HEADS
from search_spaces.layers import fuse
from search_spaces.onnx import build_onnx
from search_spaces.onnx_nodes import UnknownOperator
from search_spaces.space import SearchSpace
from search_spaces.spaces import SPACES
from tests._networks import CLASSES, case, draw, make, randomise


def run(model: bytes, feeds: dict[str, torch.Tensor]) -> list[np.ndarray]:
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {name: x.numpy() for name, x in feeds.items()}))


@pytest.mark.parametrize("act", ["relu", "silu", "leaky"])
@pytest.mark.parametrize("kind", sorted([*BLOCKS, *HEADS]))
def test_every_block_and_head(kind: str, act: str) -> None:
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
    model = parts.model(2, dict(zip(names, shapes, strict=True)), dict(zip(outputs, fragment.shapes, strict=True)))
    with torch.no_grad():
        out = module(*inputs)
    want = [out] if kind in BLOCKS else [t for level in out for t in level]
    for a, b in zip(run(model, dict(zip(names, inputs, strict=True))), want, strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-4)


def network(space: SearchSpace, seed: int) -> Detector:
    rng = random.Random(seed)
    architecture = space.sample(rng)
    widths = [
        c.values for c in space.choices if c.name == "width"
    ]  # a family's multiples go up to a hundred million parameters
    return Detector(space.graph(architecture.replace(width=widths[0][1]) if widths else architecture), CLASSES)


@pytest.mark.parametrize("name", SPACES)
def test_a_network_with_its_weights_equals_torch(name: str) -> None:
    torch.manual_seed(0)
    detector = randomise(network(SPACES[name], 3)).eval().deploy()  # type: ignore[operator]
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    boxes, scores = run(build_onnx(detector.graph, CLASSES, 64, 2, detector), {"images": images})
    with torch.no_grad():
        want_boxes, want_scores = detector.double().predict(images.double())
    # Untrained weights amplify what float32 rounds away (up to 1.3e-4 was seen over draws); a wrong operator shows as
    # a tenth and more.
    np.testing.assert_allclose(scores, want_scores.numpy(), atol=3e-4)
    want = want_boxes.numpy()
    np.testing.assert_allclose(
        boxes, want, atol=3e-4 * max(64.0, np.abs(want).max())
    )  # sides that are no distributions know no bounds


def test_the_file_is_complete_and_always_the_same() -> None:
    space = SPACES["yolo-nano"]
    graph = space.graph(space.largest)
    model = build_onnx(graph, 80, 96)
    assert model == build_onnx(graph, 80, 96)
    names = [n.name for n in onnx.load_from_string(model).graph.node]
    assert len(names) == len(set(names)) and any(name.startswith("stage1_block/Conv") for name in names)
    (boxes, scores) = run(model, {"images": torch.rand(1, 3, 96, 96)})
    assert boxes.shape == (1, 12**2 + 6**2 + 3**2, 4) and scores.shape[2] == 80
    assert np.isfinite(boxes).all() and np.isfinite(scores).all() and scores.std() > 0


def test_the_same_convolutions_as_torch_exports(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """What is timed must be what will run."""
    space = SPACES["yolo-nano"]
    architecture = space.sample(random.Random(5))
    exported = onnx.load(skeleton_onnx(space, architecture, CLASSES, tmp_path / "torch.onnx", 64, direct=False))
    built = onnx.load_from_string(build_onnx(space.graph(architecture), CLASSES, 64))

    def shapes(model: onnx.ModelProto) -> list[tuple[int, ...]]:
        weights = {t.name: tuple(t.dims) for t in model.graph.initializer}
        return [weights[n.input[1]] for n in model.graph.node if n.op_type == "Conv"]

    assert shapes(exported) == shapes(built)


def test_an_operator_that_is_not_known_is_named_and_torch_exports_it(monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    class Strange(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.erf(x)

    with pytest.raises(UnknownOperator, match="aten.erf"):
        onnx_nodes.record(Strange(), [torch.zeros(1, 2, device="meta")], Strange())
    monkeypatch.setattr(onnx_nodes, "WRITERS", {k: v for k, v in onnx_nodes.WRITERS.items() if k != "cat"})
    onnx_graph._cell.cache_clear()
    space = SPACES["yolo-nano"]
    path = skeleton_onnx(space, space.smallest, CLASSES, tmp_path / "fallback.onnx", 64)
    assert onnx.load(path).producer_name == "pytorch"
