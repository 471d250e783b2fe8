"""Channels ordered by importance: the function of the network stays, and what is important leads."""

from __future__ import annotations

import pytest
import torch

from nas.supernet.channel_importance import channel_groups, order_channels
from search_spaces.detector import Detector
from search_spaces.references import reference
from search_spaces.spaces import SPACES, space_of
from tests._published import value_of

REFERENCES = ("yolov8n", "yolo11n", "yolo12n", "yolo26n", "yolov5n", "yolov6n", "yolo-nas-s", "yolov7-tiny")


def filled(detector: Detector) -> Detector:
    """With numbers in every tensor, statistics included."""
    with torch.no_grad():
        for name, tensor in detector.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(value_of(name, tuple(tensor.shape)))
    return detector.eval().double()  # so that a sum in another order is the same number


def of_reference(name: str) -> Detector:
    architecture = reference(name).architecture
    return filled(space_of(architecture).build(architecture, 3))


@pytest.mark.parametrize("name", REFERENCES)
def test_the_function_stays(name: str) -> None:
    detector = of_reference(name)
    images = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    before = {n: t.clone() for n, t in detector.state_dict().items()}
    with torch.no_grad():
        expected = detector.predict(images)
        assert order_channels(detector) > 20
        found = detector.predict(images)
    assert (expected[1] - found[1]).abs().max() < 1e-5
    assert (expected[0] - found[0]).abs().max() < 1e-2  # pixels, sums over bins and strides
    moved = [n for n, t in detector.state_dict().items() if not torch.equal(t, before[n])]
    assert len(moved) > 0.4 * len(before), f"only {len(moved)} of {len(before)} tensors were permuted"


@pytest.mark.parametrize("space", sorted(SPACES))
def test_the_function_of_random_points_stays(space: str) -> None:
    import random

    point = SPACES[space].sample(random.Random(1)).replace(image_size=SPACES[space]["image_size"].values[0])
    detector = filled(SPACES[space].build(point, 3))
    images = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = detector.predict(images)[1]
        order_channels(detector)
        assert (expected - detector.predict(images)[1]).abs().max() < 1e-5


def test_importance_falls() -> None:
    """A second ordering moves nothing."""
    detector = of_reference("yolov8n")
    order_channels(detector)
    before = {n: t.clone() for n, t in detector.state_dict().items()}
    order_channels(detector)
    assert all(torch.equal(t, before[n]) for n, t in detector.state_dict().items())


def test_a_dead_channel_comes_last() -> None:
    """A channel with zero weights on both ends is behind all others of its part."""
    detector = of_reference("yolov8n")
    state = detector.state_dict()
    first, second = state["cells.stem-conv.conv.conv.weight"], state["cells.stage1_down-conv.conv.conv.weight"]
    with torch.no_grad():
        first[3] = 0
        second[:, 3] = 0
    order_channels(detector)
    assert first[-1].abs().sum() == 0
    assert second[:, -1].abs().sum() == 0


def test_residuals_tie_channels() -> None:
    """The first bottleneck of a C2f with shortcut adds to half of the first convolution's outputs."""
    detector = of_reference("yolov8n")
    groups = channel_groups(detector)
    block = dict(detector.cells.items())["stage1_block-c2f"]
    roots = {}
    for use in groups.uses:
        if use.role == "producer":
            for name, parameter in block.named_parameters():
                if use.tensor.data_ptr() == parameter.data_ptr():
                    roots[name] = [groups.root(label[0]) for label in use.labels if label]
    width = len(roots["bottlenecks.0.conv2.conv.weight"])
    assert roots["conv1.conv.weight"][width:] == roots["bottlenecks.0.conv2.conv.weight"]
    assert roots["conv1.conv.weight"][:width] != roots["bottlenecks.0.conv2.conv.weight"]
