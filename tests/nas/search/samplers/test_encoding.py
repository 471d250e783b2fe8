"""Encoding of search spaces: inverse, neighbours, distances, counts of categories."""

from __future__ import annotations

import math

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from nas.search.optuna_compat import contains
from nas.search.samplers.encoding import Encoding

SPACE: dict[str, BaseDistribution] = {
    "kind": CategoricalDistribution(("a", "b", "c")),
    "depth": IntDistribution(0, 4),
    "width": IntDistribution(8, 128, log=True),
    "step": FloatDistribution(-1.0, 1.0, step=0.25),
    "rate": FloatDistribution(1e-4, 1.0, log=True),
    "only": IntDistribution(3, 3),
}


def test_points_and_parameters_are_inverse() -> None:
    encoding, rng = Encoding(SPACE), np.random.default_rng(0)
    for points in (
        encoding.random(rng, 50),
        encoding.filling(rng, 50),
        encoding.mutated(rng, encoding.random(rng, 50)),
    ):
        params = [encoding.params(p) for p in points]
        for values in params:
            assert all(contains(d, values[name]) for name, d in SPACE.items()), values
        again = encoding.points(params)
        assert [encoding.params(p) for p in again] == params
        assert np.allclose(again, points, atol=1e-9)


def test_neighbours_differ_in_one_parameter_and_are_all_there() -> None:
    space = {name: SPACE[name] for name in ("kind", "depth", "step", "only")}
    encoding = Encoding(space)
    middle = {"kind": "b", "depth": 2, "step": 0.0, "only": 3}
    found = [encoding.params(p) for p in encoding.neighbours(encoding.points([middle])[0])]
    assert all(sum(f[k] != middle[k] for k in space) == 1 for f in found)
    assert {(f["kind"], f["depth"], f["step"]) for f in found} == {
        *((k, 2, 0.0) for k in "ac"),
        *(("b", d, 0.0) for d in (1, 3)),
        *(("b", 2, s) for s in (-0.25, 0.25)),
    }


def test_two_categories_are_as_far_apart_as_the_ends_of_a_number() -> None:
    encoding = Encoding({"kind": SPACE["kind"], "depth": SPACE["depth"]})
    a, b, c = encoding.embed(encoding.points([{"kind": k, "depth": d} for k, d in (("a", 0), ("b", 0), ("a", 4))]))
    assert np.linalg.norm(a - b) == pytest.approx(1) == np.linalg.norm(a - c)


def test_counts_of_categories_follow_where_several_parameters_offer_them() -> None:
    edges: dict[str, BaseDistribution] = {
        f"edge{i}": CategoricalDistribution(("none", "skip", "conv")) for i in range(4)
    }
    encoding = Encoding(edges | {"depth": SPACE["depth"], "kind": SPACE["kind"]})
    point = {"edge0": "conv", "edge1": "skip", "edge2": "conv", "edge3": "conv", "depth": 1, "kind": "a"}
    row = encoding.embed(encoding.points([point]))[0]
    assert len(row) == len(encoding.groups) == 4 * 3 + 1 + 3 + 3, "kind is alone, and is not counted"
    assert row[-3:] * math.sqrt(8) == pytest.approx([0, 1, 3])
    assert len(set(encoding.groups[-3:])) == 3 and encoding.groups[-3:].min() > encoding.groups[:-3].max()
