"""Ranges that pooling and concatenations share, as LiteRT wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from latency_db.conversion.shared_ranges import shared_ranges

if TYPE_CHECKING:
    import onnx


def network(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """The nodes, then the convolution "last" of the last node's output."""
    weight = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w")
    last = helper.make_node("Conv", [nodes[-1].output[0], "w"], ["y"], "last")
    graph = helper.make_graph(
        [*nodes, last],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    return helper.make_model(graph)


def concat(*inputs: str) -> onnx.NodeProto:
    return helper.make_node("Concat", list(inputs), ["c"], "concat", axis=1)


def test_what_moving_operators_read_and_write_has_one_range() -> None:
    proto = network(helper.make_node("MaxPool", ["x"], ["p"], "pool"), helper.make_node("Relu", ["p"], ["r"], "relu"))
    assert shared_ranges(proto, {"x": (-3.0, 1.0), "p": (-1.0, 2.0), "r": (0.0, 1.0), "y": (0, 1)}) == {
        "x": (-3, 2),
        "p": (-3, 2),
        "r": (0, 1),
        "y": (0, 1),
    }


def test_a_concatenation_gives_its_range_where_it_costs_at_most_a_bit() -> None:
    """a becomes 1.5 times as wide, b 4 times; z is the output of a ReLU, whose range begins at 0."""
    ranges = {"a": (-1.0, 3.0), "b": (-0.5, 1.0), "z": (0.0, 4.0), "c": (-2.0, 4.0)}
    found = shared_ranges(network(concat("a", "b", "z")), ranges)
    assert found == {**ranges, "a": (-2, 4)}


def test_the_range_of_a_concatenation_goes_to_what_a_pooling_reads() -> None:
    proto = network(helper.make_node("MaxPool", ["x"], ["p"], "pool"), concat("p", "x"))
    assert set(shared_ranges(proto, {"x": (0.0, 2.0), "p": (0.0, 2.0), "c": (0.0, 3.0)}).values()) == {(0, 3)}


def test_a_sigmoid_has_the_range_of_probabilities_and_the_tail_is_left_alone() -> None:
    inside = helper.make_node("Sigmoid", ["x"], ["s"], "sigmoid")
    proto = network(inside)
    proto.graph.node.append(helper.make_node("Sigmoid", ["y"], ["t"], "decoding"))
    found = shared_ranges(proto, {"x": (0.0, 1.0), "s": (0.3, 0.7), "t": (0.3, 0.7)})
    assert found == {"x": (0, 1), "s": (0, 255 / 256), "t": (0, 0.7)}
