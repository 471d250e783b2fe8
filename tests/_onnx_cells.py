"""Blocks and heads with random weights as ONNX files, with inputs and what torch computes: for tests of runtimes."""

from __future__ import annotations

import inspect
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from search_spaces import onnx as onnx_graph
from search_spaces.blocks import BLOCKS
from search_spaces.detector import Detector
from search_spaces.graph import Node
from search_spaces.heads import HEADS
from search_spaces.layers import fuse
from search_spaces.onnx import build_onnx
from search_spaces.spaces import SPACES
from tests._networks import CLASSES, case, draw, make, randomise

KINDS = sorted([*BLOCKS, *HEADS])
BATCH = 2
Arrays = list[npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Case:
    """An ONNX file, its inputs by name, and the outputs that torch computes."""

    path: Path
    inputs: dict[str, npt.NDArray[np.float32]]
    wanted: Arrays


def cell(kind: str, act: str, folder: Path) -> Case:
    """A block or head for a batch of :data:`BATCH`."""
    n, c_in = draw(kind, random.Random(2))
    if "act" in inspect.signature((BLOCKS if kind in BLOCKS else HEADS)[kind]).parameters:
        n = Node(n.name, n.kind, n.inputs, (*n.options, ("act", act)))
    torch.manual_seed(0)
    module = fuse(randomise(make(kind, n, c_in)).eval(), full=True)
    inputs = case(kind).inputs(c_in)
    shapes = tuple(tuple(x.shape[1:]) for x in inputs)
    fragment = onnx_graph._cell(n, c_in, shapes, BATCH, CLASSES if kind in HEADS else None)
    parts = onnx_graph._Parts()
    names = [f"x{i}" for i in range(len(inputs))]
    outputs = parts.add("cell", fragment, names, module)
    (path := folder / "cell.onnx").write_bytes(
        parts.model(BATCH, dict(zip(names, shapes, strict=True)), dict(zip(outputs, fragment.shapes, strict=True)))
    )
    with torch.no_grad():
        out = module(*inputs)
    wanted = [out] if kind in BLOCKS else [t for level in out for t in level]
    return Case(path, {n: x.numpy() for n, x in zip(names, inputs, strict=True)}, [t.numpy() for t in wanted])


def smallest(space: str, folder: Path) -> Case:
    """The smallest network of a space at 64 px: boxes and scores."""
    torch.manual_seed(0)
    built = SPACES[space]
    detector = randomise(Detector(built.graph(built.smallest), CLASSES)).eval().deploy()  # type: ignore[operator]
    (path := folder / "network.onnx").write_bytes(build_onnx(detector.graph, CLASSES, 64, BATCH, detector))
    images = torch.rand(BATCH, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        boxes, scores = detector.predict(images)
    return Case(path, {"images": images.numpy()}, [boxes.numpy(), scores.numpy()])


def assert_near(found: Arrays, wanted: Arrays, tolerance: float = 1e-3) -> None:
    """``tolerance``: of the largest number of an output; runtimes sum in other orders than torch."""
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= tolerance * max(1.0, float(np.abs(b).max()))
