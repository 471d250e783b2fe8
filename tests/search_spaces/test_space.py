"""The contract of every registered search space."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from search_spaces.architecture import Architecture
from search_spaces.detector import cell, cell_name, channels
from search_spaces.errors import InputError
from search_spaces.graph import IMAGE, Graph, Layout, Node
from search_spaces.registry import Registry
from search_spaces.space import Choice
from search_spaces.spaces import SPACES
from search_spaces.trace import trace

ALL = sorted(SPACES)


@cache
def cell_shapes(node: Node, c_in: Layout, classes: int | None) -> dict[str, torch.Size]:
    with torch.device("meta"):
        module = cell(node, c_in, classes)
    return {f"{cell_name(node, module)}.{name}": p.shape for name, p in module.named_parameters()}


def shapes(graph: Graph) -> dict[str, torch.Size]:
    """Of all parameters of a detector, cell by cell: cells recur between the points of a space."""
    found: dict[str, torch.Size] = {}
    c_in = channels(graph)
    for n in (*graph.nodes, graph.head):
        found |= cell_shapes(n, c_in[n.name], 7 if n is graph.head else None)
    return found


@pytest.mark.parametrize("name", ALL)
def test_points_are_points(name: str) -> None:
    space, rng = SPACES[name], random.Random(0)
    a, b = space.sample(rng), space.sample(rng)
    points = [
        space.smallest,
        space.largest,
        *space.corners(),
        space.extreme(0, rng),
        space.extreme(-1, rng),
        a,
        space.mutate(a, rng, 0.3),
        space.crossover(a, b, rng),
    ]
    for point in [*points, *space.neighbours(a)]:
        assert space.check(point) is point and space.architecture(**dict(point.choices)) == point
    assert space.name == name and space.size == math.prod(len(c.values) for c in space.choices)


@pytest.mark.parametrize("name", ALL)
def test_sampling_is_uniform_and_repeatable(name: str) -> None:
    space = SPACES[name]
    assert [space.sample(random.Random(3)) for _ in range(3)] == [space.sample(random.Random(3))] * 3
    rng = random.Random(0)
    drawn = [space.sample(rng) for _ in range(400)]
    for choice in space.choices:
        for value in choice.values:
            share = sum(a[choice.name] == value for a in drawn) / len(drawn)
            assert abs(share - 1 / len(choice.values)) < 0.12, f"{choice.name}={value}"


@pytest.mark.parametrize("name", ALL)
def test_mutate_crossover_neighbours(name: str) -> None:
    space, rng = SPACES[name], random.Random(1)
    a, b = space.sample(rng), space.sample(rng)
    assert space.mutate(a, rng, 0.0) == a
    assert sum(
        x != y
        for m in range(50)
        for x, y in zip(space.mutate(a, random.Random(m), 1.0).choices, a.choices, strict=True)
    ) > 0.4 * 50 * len(a.choices)
    child = space.crossover(a, b, rng)
    assert all(child[c.name] in (a[c.name], b[c.name]) for c in space.choices) and child not in (a, b)
    near = list(space.neighbours(a))
    assert len(near) == len(set(near)) == sum(len(c.values) - 1 for c in space.choices)
    assert all(sum(n[c.name] != a[c.name] for c in space.choices) == 1 for n in near)


@pytest.mark.parametrize("name", ALL)
def test_extremes(name: str) -> None:
    space = SPACES[name]
    seen = set()
    for seed in range(150):
        for end in (0, -1):
            point = space.extreme(end, random.Random(seed))
            assert all(point[c.name] == c.values[end] for c in space.choices if c.ordered and c.weights)
            seen |= set(point.choices)
    assert all((c.name, v) in seen for c in space.choices if not (c.ordered and c.weights) for v in c.values)


@pytest.mark.parametrize("name", ALL)
def test_encoding(name: str) -> None:
    space, rng = SPACES[name], random.Random(0)
    length = sum(1 if c.ordered else len(c.values) for c in space.choices)
    drawn = {space.sample(rng) for _ in range(200)} | {space.smallest, space.largest}
    codes = {a: space.encode(a) for a in drawn}
    assert all(len(code) == length and all(0 <= x <= 1 for x in code) for code in codes.values())
    assert len({tuple(code) for code in codes.values()}) == len(drawn)
    ordered = [c.ordered for c in space.choices for _ in range(1 if c.ordered else len(c.values))]
    assert all(x == 0 for x, o in zip(codes[space.smallest], ordered, strict=True) if o)
    assert all(x == 1 for x, o in zip(codes[space.largest], ordered, strict=True) if o)


@pytest.mark.parametrize("name", ALL)
def test_restriction_is_a_part_of_the_whole(name: str) -> None:
    space, rng = SPACES[name], random.Random(0)
    first = space.choices[0]
    part = space.restrict({first.name: (first.values[-1], first.values[0]), "image_size": (320,)})
    assert part[first.name].values == (
        first.values[0],
        first.values[-1],
    )  # the order of the space, whatever was written
    assert part.size == space.size // len(first.values) * 2 // len(space["image_size"].values)
    for _ in range(20):
        point = part.sample(rng)
        assert space.check(point) is point and part.check(point)["image_size"] == 320
    assert space.restrict({}) == space
    with pytest.raises(InputError, match="no value left"):
        space.restrict({first.name: ()})
    with pytest.raises(InputError, match="did you mean 'image_size'"):
        space.restrict({"image_sizes": (320,)})
    with pytest.raises(InputError, match="unknown value of 'image_size'"):
        space.restrict({"image_size": (321,)})
    with pytest.raises(InputError, match="unknown value of 'image_size'"):
        part.check(space.smallest.replace(image_size=640))


def test_a_small_part_can_be_enumerated() -> None:
    space = SPACES["yolo-nano"]
    fixed = {c.name: c.values[:1] for c in space.choices if c.name not in ("width", "stage1_block")}
    part = space.restrict(fixed)
    points = list(part.enumerate())
    assert len(points) == len(set(points)) == part.size == 12


@pytest.mark.parametrize("name", ALL)
def test_networks_of_a_space(name: str) -> None:
    """Widths that hardware likes, sides a detector takes, and a different network for every point."""
    space, rng = SPACES[name], random.Random(0)
    points = {space.smallest, space.largest, *space.corners(), *(space.sample(rng) for _ in range(150))}
    graphs = {a: space.graph(a) for a in points}
    assert len(set(graphs.values())) == len(points), "two architectures mean one network"
    for graph in graphs.values():
        for n in (*graph.nodes, graph.head):
            for option, value in n.options:
                # YOLOv6-M takes two thirds of the channels, YOLOv9-M halves 360 and less, whatever comes of it
                inner = option == "hidden" and n.kind in ("bepc3", "gelan", "elan")
                if option in ("out", "hidden", "widths") and not inner:
                    widths: tuple[Any, ...] = value if isinstance(value, tuple) else (value,)
                    assert all(w % 8 == 0 and w > 0 for w in widths), (n, option)
        assert all(side % 32 == 0 for side in graph.image_size)
        known = [IMAGE]
        for n in (*graph.nodes, graph.head):
            assert set(n.inputs) <= set(known), n
            known.append(n.name)
        assert len(known) == len(set(known))
    neighbours = list(space.neighbours(space.sample(rng)))
    assert len({space.graph(a) for a in neighbours}) == len(neighbours)


@pytest.mark.parametrize("name", ALL)
def test_corners_hold_every_weight(name: str) -> None:
    space, rng = SPACES[name], random.Random(0)
    held: dict[str, torch.Size] = {}
    for corner in space.corners():
        for parameter, shape in shapes(space.graph(corner)).items():
            held[parameter] = max(held.get(parameter, shape), shape)
    for _ in range(15):
        for parameter, shape in shapes(space.graph(space.sample(rng))).items():
            assert parameter in held, parameter
            assert len(shape) == len(held[parameter]) and all(
                a <= b for a, b in zip(shape, held[parameter], strict=True)
            ), parameter


@pytest.mark.parametrize("name", ALL)
def test_the_extremes_bound_the_costs(name: str) -> None:
    space, rng = SPACES[name], random.Random(0)
    for _ in range(3):
        point = space.sample(rng)
        alternatives = {c.name: point[c.name] for c in space.choices if not c.ordered}
        low, high = (trace(space.graph(end.replace(**alternatives)), 80) for end in (space.smallest, space.largest))
        cost = trace(space.graph(point), 80)
        assert low.params <= cost.params <= high.params and low.macs <= cost.macs <= high.macs


def test_sizes_that_were_asked_for() -> None:
    assert SPACES["yolo-nas"].size >= 1e14
    nano = SPACES["yolo-nano"]
    assert 0.1e6 <= trace(nano.graph(nano.smallest), 10).params <= 0.25e6
    assert 1e6 <= trace(nano.graph(nano.largest), 10).params <= 2.5e6


def test_one_error_line_for_wrong_choices() -> None:
    space = SPACES["yolo-nano"]
    values = dict(space.smallest.choices)
    with pytest.raises(InputError, match="unknown choice of yolo-nano 'stage1_dept'.*did you mean 'stage1_depth'"):
        space.architecture(**{**values, "stage1_dept": 1})
    with pytest.raises(InputError, match="lacks \\['width'\\]"):
        space.architecture(**{k: v for k, v in values.items() if k != "width"})
    with pytest.raises(InputError, match="unknown space 'yolo'.*one of"):
        SPACES["yolo"]
    with pytest.raises(InputError, match="at least 1"):
        space.build(space.smallest, 0)


def test_builds_the_network_of_the_point() -> None:
    space = SPACES["yolo-nano"]
    detector = space.build(space.smallest, 4)
    out = detector(torch.rand(2, 3, 64, 96))
    anchors = sum((64 // s) * (96 // s) for s in (8, 16, 32))
    assert out.logits.shape == (2, anchors, 4) and out.boxes.shape == (2, anchors, 68) and detector.training
    boxes, scores = detector.predict(torch.rand(1, 3, 64, 64))
    assert (
        boxes.shape == (1, 84, 4)
        and scores.shape == (1, 84, 4)
        and (scores >= 0).all()
        and (boxes[..., 2:] >= boxes[..., :2]).all()
    )
    with pytest.raises(InputError, match="100 x 64 pixels.*multiples of 32"):
        detector(torch.rand(1, 3, 64, 100))
    with pytest.raises(InputError, match="version 2"):
        space.build(replace(space.smallest, version=2))


def test_channels_of_a_graph() -> None:
    graph = SPACES["yolo-nano"].graph(SPACES["yolo-nano"].largest)
    c_in = channels(graph)
    assert c_in["stem"] == (3,) and c_in["neck3_block"] == (32, 32) and c_in["head"] == (32, 64, 128)


def test_anchor_grid() -> None:
    space = SPACES["yolo-nano"]
    out = space.build(space.smallest, 1)(torch.rand(1, 3, 64, 64))
    assert (
        out.points[:2].tolist() == [[4.0, 4.0], [12.0, 4.0]]
        and out.points[8].tolist() == [4.0, 12.0]
        and out.points[-1].tolist() == [48.0, 48.0]
    )
    assert out.strides.flatten().tolist() == [8.0] * 64 + [16.0] * 16 + [32.0] * 4


def test_registry_lists_without_importing_and_takes_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    table: Registry[object] = Registry("nas.things", {"here": "math:pi", "gone": "no_such_module:x"})
    assert sorted(table) == ["gone", "here"] and len(table) == 2 and "gone" in table and table["here"] == math.pi
    with pytest.raises(ModuleNotFoundError):
        table["gone"]
    with pytest.raises(InputError, match="unknown thing 'hare'.*did you mean 'here'"):
        table["hare"]

    from importlib.metadata import EntryPoint

    monkeypatch.setattr("search_spaces.registry.entry_points", lambda group: [EntryPoint("more", "math:e", group)])
    assert Registry[object]("nas.things", {"here": "math:pi"})["more"] == math.e
    monkeypatch.setattr("search_spaces.registry.entry_points", lambda group: [EntryPoint("here", "math:e", group)])
    with pytest.raises(InputError, match="re-uses the name 'here'"):
        list(Registry[object]("nas.things", {"here": "math:pi"}))


def test_choice_tells_types_apart() -> None:
    choice = Choice("depth", (1, 2, 3))
    assert choice.index(2) == 1
    for wrong in (2.0, True, "2"):
        with pytest.raises(InputError, match="unknown value of 'depth'"):
            choice.index(wrong)


@pytest.mark.parametrize("name", [name for name in ALL if SPACES[name].options])
def test_an_option_is_another_network_that_no_search_proposes(name: str) -> None:
    space, rng = SPACES[name], random.Random(0)
    usual = space.sample(rng)
    for option in space.options:
        assert option.name not in dict(usual.choices)
        for value in option.values:
            point = space.with_options(usual, **{option.name: value})
            assert point.id != usual.id and Architecture.from_dict(point.to_dict()) == point == space.check(point)
            assert space.with_options(point) == usual and space.mutate(point, rng, 0.0) == usual
            assert space.encode(point) == space.encode(usual)
            assert point.replace(image_size=320)[option.name] == value
        ends = (space.smallest, space.largest.replace(width=space.smallest["width"]))
        own, other = (
            [shapes(space.graph(space.with_options(p, **v))) for p in ends] for v in ({}, {option.name: value})
        )
        assert own != other
    with pytest.raises(InputError, match="options"):
        space.with_options(usual, other=1)
    with pytest.raises(InputError, match="unknown value of 'branch_classes'"):
        space.with_options(usual, branch_classes=3)
    twice = replace(usual, choices=(("branch_classes", 80), *usual.choices))
    with pytest.raises(InputError, match="in this order"):
        space.check(twice)
