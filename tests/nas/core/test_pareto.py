"""Non-domination, hypervolume and the archive, against slow oracles."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from nas.core.estimate import Candidate, Estimate, Objective
from nas.core.pareto import Archive, front_of, hypervolume, non_dominated, values_of
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from tests._candidates import candidates, point

OBJECTIVES = (Objective("latency_ms", "min", "ms"), Objective("map", "max"))


def brute_force(points: NDArray[np.float64], directions: tuple[str, ...]) -> list[bool]:
    costs = points * [1 if d == "min" else -1 for d in directions]
    mask = []
    for i, a in enumerate(costs):
        beaten = any((b <= a).all() and (b < a).any() for b in costs)
        mask.append(not beaten and not any((costs[j] == a).all() for j in range(i)))
    return mask


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("levels", [3, 8, None])
def test_non_dominated_agrees_with_brute_force(m: int, levels: int | None) -> None:
    rng = np.random.default_rng(m)
    for _ in range(12):  # few levels: many ties and duplicates
        points = rng.random((60, m)) if levels is None else rng.integers(0, levels, (60, m)).astype(float)
        directions = tuple(rng.choice(["min", "max"], m))
        assert non_dominated(points, directions).tolist() == brute_force(points, directions)


def test_non_dominated_keeps_the_first_of_equal_points() -> None:
    assert non_dominated([[1, 2], [0, 3], [1, 2], [0, 3], [1, 3]], ["min", "min"]).tolist() == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert non_dominated([[0.0, 1, 1], [-0.0, 1, 1]], ["min"] * 3).tolist() == [True, False]


def test_non_dominated_of_one_and_of_none() -> None:
    assert non_dominated([[3.0, 4.0]], ["min", "max"]).tolist() == [True]
    assert non_dominated(np.empty((0, 3)), ["min"] * 3).tolist() == []
    assert non_dominated([], ["min", "max"]).tolist() == []


@pytest.mark.parametrize("m", [2, 3, 4])
def test_non_dominated_of_twenty_thousand_points_that_all_stay(m: int) -> None:
    points = np.abs(np.random.default_rng(0).normal(size=(20_000, m)))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert non_dominated(points, ["max"] * m).all()
    few = points[:1000]
    assert non_dominated(np.vstack([few * 0.9, few]), ["max"] * m)[1000:].all()


@pytest.mark.parametrize(
    "points, directions",
    [([[1, 2]], ["min"]), ([1, 2], ["min", "min"]), ([[math.nan, 1]], ["min"] * 2), ([[1]], ["up"])],
)
def test_non_dominated_refuses_bad_points(points: object, directions: list[str]) -> None:
    with pytest.raises(ValueError, match="expected"):
        non_dominated(points, directions)  # type: ignore[arg-type]


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_hypervolume_agrees_with_counting_cells(m: int) -> None:
    rng = np.random.default_rng(m)
    size = 6 if m < 5 else 3
    for _ in range(8):
        points = rng.integers(0, size + 2, (25, m)).astype(float)  # some beyond the reference, many ties
        signs = rng.choice([-1, 1], m)
        cells = sum(
            any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in points)
            for cell in itertools.product(range(size), repeat=m)
        )
        directions = ["min" if s == 1 else "max" for s in signs]
        assert hypervolume(points * signs, np.full(m, size) * signs, directions) == pytest.approx(cells, abs=1e-9)


def test_hypervolume_agrees_with_monte_carlo() -> None:
    rng = np.random.default_rng(5)
    points, darts = rng.random((30, 3)), rng.random((40_000, 3))
    share = np.mean([(points <= dart).all(axis=1).any() for dart in darts])
    assert hypervolume(points, [1, 1, 1], ["min"] * 3) == pytest.approx(share, abs=0.01)


def test_hypervolume_of_one_of_none_and_of_worse_than_the_reference() -> None:
    assert hypervolume([[1, 0.5]], [3, 0.1], ["min", "max"]) == pytest.approx(2 * 0.4)
    assert hypervolume([], [3, 0.1], ["min", "max"]) == 0
    assert hypervolume([[1, 0.5], [4, 0.9], [1, 0.1], [3, 0.9]], [3, 0.1], ["min", "max"]) == pytest.approx(2 * 0.4)


def test_archive_holds_the_front_whatever_the_order() -> None:
    pool = candidates(150, seed=3)
    expected = front_of(pool, OBJECTIVES)
    for seed in range(5):
        shuffled = random.Random(seed).sample(pool, len(pool))
        archive = Archive(OBJECTIVES)
        joined = [archive.add(candidate) for candidate in shuffled]
        assert archive.front == expected and archive.seen == 150
        assert all(joined[shuffled.index(candidate)] for candidate in expected)
    costs = [c["latency_ms"].value for c in expected]
    gains = [c["map"].value for c in expected]
    assert costs == sorted(costs) and gains == sorted(gains) and len(expected) > 5


def test_archive_of_three_objectives_agrees_with_the_mask() -> None:
    objectives = (Objective("map", "max"), Objective("latency_ms", "min", "ms"), Objective("params", "min"))
    pool = candidates(120, seed=4)
    archive = Archive(objectives)
    for candidate in pool:
        archive.add(candidate)
    mask = non_dominated(values_of(pool, objectives), ["max", "min", "min"])
    assert {c.id for c in archive.front} == {c.id for c, kept in zip(pool, mask, strict=True) if kept}
    assert [c["latency_ms"].value for c in archive.front] == sorted(c["latency_ms"].value for c in archive.front)


def test_archive_add_says_who_joins() -> None:
    archive = Archive(OBJECTIVES)
    assert archive.add(point(2, 0.5))
    assert not archive.add(point(3, 0.4)) and not archive.add(point(2, 0.5, number=1))
    assert archive.add(point(1, 0.5)) and [c["latency_ms"].value for c in archive.front] == [1]
    assert archive.add(point(2, 0.6)) and len(archive.front) == 2


def test_archive_reference_is_fixed_once_enough_is_seen() -> None:
    archive = Archive(OBJECTIVES, warmup=3)
    for cost, gain in [(2, 0.5), (4, 0.7)]:
        archive.add(point(cost, gain))
        assert archive.reference is None and archive.hypervolume is None
    archive.add(point(3, 0.3))
    assert archive.reference == pytest.approx((4 + 0.1 * 2, 0.3 - 0.1 * 0.4))
    before = archive.hypervolume
    assert before == pytest.approx(hypervolume([[2, 0.5], [4, 0.7]], [4.2, 0.26], ["min", "max"]))
    archive.add(point(9, 0.99))
    assert archive.reference == pytest.approx((4.2, 0.26)) and archive.hypervolume == before
    archive.add(point(1, 0.6))
    assert archive.hypervolume is not None and before is not None and archive.hypervolume > before


def test_archive_takes_the_logarithm_where_asked() -> None:
    archive = Archive(OBJECTIVES, reference=(8, 0.0), log={"latency_ms"})
    archive.add(point(2, 0.5))
    archive.add(point(4, 0.75))
    assert archive.hypervolume == pytest.approx(math.log(4) * 0.5 + math.log(2) * 0.25)
    warm = Archive(OBJECTIVES, warmup=2, log={"latency_ms"})
    warm.add(point(2, 0.5))
    warm.add(point(8, 0.75))
    assert warm.reference == pytest.approx((8 * 4**0.1, 0.5 - 0.025))
    with pytest.raises(InputError, match="zero or less"):
        warm.add(point(0.0, 0.5))


def test_archive_of_equal_candidates_has_a_hypervolume() -> None:
    archive = Archive(OBJECTIVES, warmup=2)
    archive.add(point(2, 0.5))
    archive.add(point(2, 0.5, number=1))
    assert archive.hypervolume is not None and archive.hypervolume > 0


def test_archive_hypervolume_never_falls() -> None:
    archive, seen = Archive(OBJECTIVES, log={"latency_ms"}), []
    for candidate in candidates(200, seed=8):
        archive.add(candidate)
        if archive.hypervolume is not None:
            seen.append(archive.hypervolume)
    assert seen == sorted(seen) and seen[-1] > seen[0] > 0


def test_archive_refuses_what_makes_no_sense() -> None:
    with pytest.raises(InputError, match="at least one"):
        Archive(())
    with pytest.raises(InputError, match="logarithm of energy"):
        Archive(OBJECTIVES, log={"energy"})
    with pytest.raises(InputError, match="reference point"):
        Archive(OBJECTIVES, reference=(1.0,))
    with pytest.raises(InputError, match=r"unknown estimate.*latency_ms"):
        Archive(OBJECTIVES).add(Candidate(Architecture("toy", 1, ()), (Estimate("map", 0.5),)))
