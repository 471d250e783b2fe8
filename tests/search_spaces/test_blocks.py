"""The contract of every registered block and head, re-parameterisation, and the tracing of their costs."""

from __future__ import annotations

import copy
import inspect
import math
import random

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.blocks import BLOCKS
from search_spaces.blocks.base import Block
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.graph import IMAGE, Graph, Node, node
from search_spaces.heads import HEADS
from search_spaces.heads.base import Head
from search_spaces.layers import QARepVGG, RepVGG, activation, fuse, norm_scale
from search_spaces.op import Cost, Op
from search_spaces.spaces import SPACES
from search_spaces.trace import trace, trace_cell, trace_groups
from tests._networks import BLOCK_CASES, CLASSES, HEAD_CASES, axes_of, case, draw, laid_out, make, randomise

KINDS = sorted([*BLOCKS, *HEADS])


def tensors(out: object) -> list[Tensor]:
    """A block's output, or all maps of a head."""
    return [out] if isinstance(out, Tensor) else [t for level in out for t in level]  # type: ignore[attr-defined]


def built(kind: str, seed: int | None = 0) -> tuple[nn.Module, Node, tuple[int, ...]]:
    n, c_in = draw(kind, None if seed is None else random.Random(seed))
    return make(kind, n, c_in), n, c_in


def test_the_table_has_no_entry_too_many() -> None:
    assert {*BLOCK_CASES, *HEAD_CASES} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes(kind: str) -> None:
    for seed in range(4):
        module, n, c_in = built(kind, seed)
        side = case(kind).out_size
        out = tensors(module(*case(kind).inputs(c_in)))
        if kind in BLOCKS:
            assert (
                isinstance(module, Block)
                and module.family
                and module.out == dict(n.options)["out"]
                and module.c_in == c_in
            )
            assert [tuple(t.shape) for t in out] == [(2, module.out, side, side)]
        else:
            assert isinstance(module, Head) and module.family
            branches = 2 if module.end_to_end else 1  # its own, and the helper's
            assert len(out) == 2 * len(c_in) * branches
            assert [t.shape[1] for t in out[::2]] == [CLASSES] * len(c_in) * branches
            assert [t.shape[2] for t in out[::2]] == [s * module.anchors for s in case(kind).sizes] * branches


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_knows_its_channels(kind: str) -> None:
    module, n, _ = built(kind)
    found = dict(laid_out(module))
    for name, layer in module.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)):
            assert name in found, f"{name} has no layouts"
            sizes = [sum(layout) for layout in layer.layouts]  # type: ignore[union-attr]
            assert list(layer.weight.shape[: len(sizes)]) == sizes
            out, into = axes_of(layer)
            groups = getattr(layer, "groups", 1)
            assert isinstance(layer, nn.BatchNorm2d) or (sum(out), sum(into or ()) * groups) == (
                layer.out_channels,
                layer.in_channels,
            )
    if kind in BLOCKS and found:  # whatever follows a choice of block sees one part
        assert any(axes_of(layer)[0] == (dict(n.options)["out"],) for layer in found.values())
        assert axes_of(list(found.values())[-1])[0] == (dict(n.options)["out"],)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("act", ["relu", "silu", "identity"])
def test_fused_equals_unfused(kind: str, act: str) -> None:
    n, c_in = draw(kind, random.Random(1))
    if "act" not in inspect.signature((BLOCKS if kind in BLOCKS else HEADS)[kind]).parameters:
        pytest.skip(f"{kind} has no activation")
    module = randomise(make(kind, Node(n.name, n.kind, n.inputs, (*n.options, ("act", act))), c_in)).eval()
    inputs = case(kind).inputs(c_in)
    with torch.no_grad():
        expected = tensors(module(*inputs))
        for full in (False, True):
            fused = fuse(copy.deepcopy(module), full)
            if getattr(module, "end_to_end", False) and full:
                expected = expected[: len(expected) // 2]  # the helper is gone
            for got, wanted in zip(tensors(fused(*inputs)), expected, strict=True):
                assert (got - wanted).abs().max() <= 1e-4 * max(1.0, float(wanted.abs().max()))
            assert not any(isinstance(m, (QARepVGG, RepVGG)) for m in fused.modules())
            assert not (full and any(isinstance(m, nn.BatchNorm2d) for m in fused.modules()))
            assert not any(m.training for m in fused.modules() if isinstance(m, (nn.BatchNorm2d, nn.Conv2d)))
        # a partial fusion can be finished
        both = fuse(fuse(copy.deepcopy(module), False), True)
        assert not any(isinstance(m, nn.BatchNorm2d) for m in both.modules())
        assert all(
            torch.allclose(a, b, rtol=1e-4, atol=1e-4)
            for a, b in zip(tensors(both(*inputs)), tensors(fused(*inputs)), strict=True)
        )


def test_qarepvgg_identity_only_where_shapes_allow() -> None:
    x = torch.randn(2, 8, 6, 6)
    for c_out, stride, identity, expected in (
        (8, 1, True, True),
        (8, 1, False, False),
        (8, 2, True, False),
        (16, 1, True, False),
    ):
        block = QARepVGG((8,), (c_out,), stride, identity)
        assert block.identity is expected
        randomise(block).eval()
        with torch.no_grad():
            by_hand = block.norm3(block.conv3(x)) + block.conv1(x) + (x if expected else 0)
            assert torch.equal(block(x), block.norm(by_hand).relu())
            assert torch.allclose(fuse(copy.deepcopy(block), True)(x), block(x), atol=1e-5)


def test_qarepvgg_with_two_parts_is_no_identity_of_one() -> None:
    """(4, 4) and (8,) have the same channels but not the same order in a narrower network."""
    assert not QARepVGG((4, 4), (8,)).identity and QARepVGG((4, 4), (4, 4)).identity


def test_partial_fusion_stays_trainable() -> None:
    block = fuse(randomise(QARepVGG((4,), (8,))), full=False)
    assert block.training
    block(torch.randn(2, 4, 6, 6)).sum().backward()
    assert all(p.grad is not None for p in block.parameters())


def test_layer_errors() -> None:
    with pytest.raises(InputError, match="activation 'rleu'.*relu"):
        activation("rleu")
    with pytest.raises(ValueError, match="without running statistics"):
        norm_scale(nn.BatchNorm2d(3, track_running_stats=False))


def test_deploy_of_a_whole_detector() -> None:
    space = SPACES["yolo-nano"]
    detector = randomise(space.build(space.sample(random.Random(5)), 3))
    assert isinstance(detector, Detector)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before = detector.eval()(images)
        half, whole = copy.deepcopy(detector).deploy(full=False), copy.deepcopy(detector).deploy()
        for deployed in (half, whole):
            after = deployed(images)
            assert not deployed.training
            for got, wanted in ((after.logits, before.logits), (after.boxes, before.boxes)):
                assert (got - wanted).abs().max() <= 1e-4 * max(1.0, float(wanted.abs().max()))
    assert any(isinstance(m, nn.BatchNorm2d) for m in half.modules()) and not any(
        isinstance(m, nn.BatchNorm2d) for m in whole.modules()
    )


# tracing


def traced(kind: str, seed: int | None) -> tuple[Cost, tuple[tuple[int, ...], ...], nn.Module, tuple[Tensor, ...]]:
    module, n, c_in = built(kind, seed)
    inputs = tuple(x[:1] for x in case(kind).inputs(c_in))
    cost, out = trace_cell(n, c_in, tuple(tuple(x.shape[1:]) for x in inputs), CLASSES if kind in HEADS else None)
    return cost, out, fuse(module.eval(), full=True), inputs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1, None])
def test_trace_agrees_with_a_real_run(kind: str, seed: int | None) -> None:
    cost, out, deployed, inputs = traced(kind, seed)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        result = tensors(deployed(*inputs))
    assert cost.macs * 2 == counter.get_total_flops() == 2 * sum(op.macs for op in cost.ops)
    assert cost.params == sum(p.numel() for p in deployed.parameters()) == sum(op.params for op in cost.ops)
    assert list(out) == [tuple(t.shape[1:]) for t in result]


@pytest.mark.parametrize("kind", KINDS)
def test_operations_chain(kind: str) -> None:
    """Every operation reads what the cell was given or an earlier operation wrote (or a slice of its channels)."""
    cost, out, _, inputs = traced(kind, None)
    known = [tuple(x.shape[1:]) for x in inputs]
    for op in cost.ops:
        for shape in op.inputs:
            if op.kind in ("matmul", "softmax", "mul", "add", "copy"):  # of heads: the same numbers, seen another way
                assert any(math.prod(shape) <= math.prod(k) for k in known), op
            else:
                assert any(shape[1:] == k[1:] and shape[0] <= k[0] for k in known) or shape == (), op
        known.append(op.output)
        if op.kind == "concat":
            assert op.output[0] == sum(shape[0] for shape in op.inputs)
        if op.kind in ("conv", "deconv"):
            (c, h, w), (k, y, x) = op.inputs[0], op.output
            assert (y, x) == (
                (h * op.stride, w * op.stride) if op.kind == "deconv" else (-(-h // op.stride), -(-w // op.stride))
            )
            assert op.macs == (h * w if op.kind == "deconv" else y * x) * c * k * op.kernel**2 // op.groups
            assert op.params >= c * k * op.kernel**2 // op.groups + k
    written = [op.output for op in cost.ops]
    if kind in HEADS:  # their maps may be a view of what was written
        assert all(any(math.prod(shape) <= math.prod(w) for w in written) for shape in out)
    else:
        assert set(out) <= {*written}
    assert cost.activations <= sum(1 for _ in cost.ops) * max(math.prod(op.output) for op in cost.ops)


def test_trace_of_one_conv_by_hand() -> None:
    cost, out = trace_cell(node("", "conv", "x", out=16, kernel=3, stride=2), (8,), ((8, 10, 12),))
    expected = Op("conv", ((8, 10, 12),), (16, 5, 6), 3, 2, 1, 16 * 8 * 9 * 30, 16 * 8 * 9 + 16, ("relu",))
    assert cost == Cost(16 * 8 * 9 + 16, 16 * 8 * 9 * 30, 16 * 30, 8 * 120 + 16 * 30, (expected,)) and out == (
        (16, 5, 6),
    )


def test_trace_of_c2f_by_hand() -> None:
    """c 8 -> (4, 4) -> one bottleneck -> 12 -> 16, in units of one 5 x 5 map."""
    cost, _ = trace_cell(node("", "c2f", "x", out=16, hidden=4, depth=1), (8,), ((8, 5, 5),))
    assert [(op.kind, op.fused, op.output[0]) for op in cost.ops] == [
        ("conv", ("relu",), 8),
        ("conv", ("relu",), 4),
        ("conv", ("relu", "add"), 4),
        ("concat", (), 12),
        ("conv", ("relu",), 16),
    ]
    # given 8, conv1 8, bottleneck 4 + 4; at the concatenation given 8, conv1 8, sum 4, result 12; at the end given 8,
    # 12, 16
    assert cost.activations == 25 * (8 + 4 + 4 + 12 + 16) and cost.peak_activations == 25 * max(
        8 + 8 + 4 + 4, 8 + 8 + 4 + 12, 8 + 12 + 16
    )


def test_trace_of_qci_by_hand() -> None:
    """The scaled skip is an operation of its own: what it scales is still needed by the concatenation and the conv
    beside it."""
    cost, _ = trace_cell(node("", "qci", "x", out=8, hidden=4, depth=1), (8,), ((8, 5, 5),))
    assert [(op.kind, op.fused, op.output[0]) for op in cost.ops] == [
        ("conv", ("relu",), 4),  # branch 1: a
        ("mul", (), 4),  # alpha * a
        ("conv", ("relu",), 4),  # unit 1
        ("conv", ("relu", "add"), 4),  # unit 2, the skip added: b
        ("conv", ("relu",), 4),  # branch 2: c
        ("concat", (), 12),  # c, a, b
        ("conv", ("relu",), 8),
    ]
    assert cost.activations == 25 * (4 * 5 + 12 + 8)
    # given 8 throughout; a, alpha a, unit 1, unit 2; then a, b, c and the concatenation of them
    assert cost.peak_activations == 25 * max(8 + 4 * 4, 8 + 4 * 3 + 12, 8 + 12 + 8)


def tiny_graph() -> Graph:
    nodes = (
        node("a", "conv", IMAGE, out=4),
        node("b", "conv", "a", out=8, stride=2),
        node("c", "conv", "b", out=8),
        node("d", "qarepvgg", "a", out=4),
    )
    return Graph((*nodes, node("e", "conv", ("c", "d"), out=4)), node("head", "dfl", "e", widths=(4,)), 32)


def test_trace_of_a_graph_by_hand() -> None:
    """``a`` stays until ``d`` has read it, while ``b`` and ``c`` run."""
    cost = trace(tiny_graph(), 1, 32)
    s, q = 32 * 32, 16 * 16
    steps = [3 * s + 4 * s, 4 * s + 8 * q, 4 * s + 8 * q + 8 * q, 4 * s + 8 * q + 4 * q, 8 * q + 4 * q + 12 * q + 4 * q]
    # head: given 4, stem 4, class conv 4, classes 1, box conv 4, boxes 68, in the order the level runs them
    steps.append(4 * q + max(4 + 4, 4 + 1, 4 + 1 + 4, 1 + 4 + 68) * q)
    assert cost.peak_activations == max(steps)
    # with the head's 68 box channels out of the way, the two resolutions decide
    assert trace_groups(tiny_graph(), 1, 32)["a"].peak_activations == steps[0]
    assert trace_groups(tiny_graph(), 1, 32)["d"].peak_activations == 4 * s + 4 * q
    assert trace_groups(tiny_graph(), 1, 32)["e"].peak_activations == (8 + 4 + 12 + 4) * q


@pytest.mark.parametrize("name", sorted(SPACES))
def test_trace_of_a_detector_agrees_with_a_real_run(name: str) -> None:
    space = SPACES[name]
    architecture = space.sample(random.Random(2)) if name != "yolo-nas" else space.smallest
    cost = trace(space.graph(architecture), 5, 64)
    detector = space.build(architecture, 5).deploy()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        detector(torch.rand(1, 3, 64, 64))
    assert cost.macs * 2 == counter.get_total_flops() and cost.params == sum(p.numel() for p in detector.parameters())
    groups = trace_groups(space.graph(architecture), 5, 64)
    assert tuple(op for g in groups.values() for op in g.ops) == cost.ops
    assert sum(g.activations for g in groups.values()) == cost.activations
    assert cost.peak_activations >= max(g.peak_activations for g in groups.values())


def test_traces_of_equal_cells_are_shared() -> None:
    space = SPACES["yolo-nano"]
    trace(space.graph(space.largest), 80, 96)
    misses = trace_cell.cache_info().misses
    changed = space.largest.replace(neck4_depth=1)
    trace(space.graph(changed), 80, 96)
    assert trace_cell.cache_info().misses == misses + 1
