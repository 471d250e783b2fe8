"""Probabilities of the front by hand-made cases whose answers are known."""

from __future__ import annotations

import random

import numpy as np
import pytest

from nas.core.estimate import Candidate, Estimate, Objective
from nas.search.front_confidence import front_confidence
from tests._candidates import architecture

COST, GAIN = Objective("latency_ms", "min", "ms"), Objective("map", "max")


def candidate(i: int, ms: float, gain: float, half: float = 0.0) -> Candidate:
    low_high = (ms - half, ms + half) if half else (None, None)
    return Candidate(
        architecture(random.Random(i)), (Estimate("latency_ms", ms, "ms", *low_high), Estimate("map", gain))
    )


def test_exact_numbers_leave_nothing_open() -> None:
    one, two, beaten = candidate(0, 1.0, 0.3), candidate(1, 2.0, 0.5), candidate(2, 2.5, 0.4)
    found = front_confidence([one, two, beaten], [COST, GAIN], {})
    assert found.members == {one.id: 1.0, two.id: 1.0} and found.front == (one.id, two.id)
    assert found.groups == () and found.next_measurement is None and found.sure == 2


def test_the_probability_is_that_of_the_difference_of_two_normals() -> None:
    """Equal gains: on the front is who is faster. 1.0 and 1.1 ms with 95 % intervals of 0.1 either side: P = Phi(0.1
    / (sqrt(2) * 0.1 / 1.96)) = 0.917."""
    fast, slow = candidate(0, 1.0, 0.5, 0.1), candidate(1, 1.1, 0.5, 0.1)
    found = front_confidence([fast, slow], [COST, GAIN], {})
    assert found.front == (fast.id,)
    assert found.members[fast.id] == pytest.approx(0.917, abs=0.03) and found.members[slow.id] == pytest.approx(
        0.083, abs=0.03
    )
    assert found.next_measurement is not None and found.next_measurement.objective == "latency_ms"


def test_images_in_common_cancel() -> None:
    """Two gains that go up and down together are told apart by a thousandth; drawn apart they are not."""
    rng = np.random.default_rng(0)
    common = rng.normal(0, 0.05, 64)
    a, b = candidate(0, 1.0, 0.500), candidate(1, 1.0, 0.501)
    together = {a.id: {"map": list(0.500 + common)}, b.id: {"map": list(0.501 + common)}}
    apart = {a.id: {"map": list(0.500 + common)}, b.id: {"map": list(0.501 + rng.normal(0, 0.05, 64))}}
    assert front_confidence([a, b], [COST, GAIN], together).members == {b.id: 1.0}
    found = front_confidence([a, b], [COST, GAIN], apart)
    assert (
        0.3 < found.members[a.id] < 0.7
        and found.next_measurement is not None
        and found.next_measurement.objective == "map"
    )


def test_neighbours_that_cannot_be_told_apart_are_a_group() -> None:
    rng = np.random.default_rng(1)
    close = [candidate(0, 1.00, 0.50, 0.2), candidate(1, 1.01, 0.51, 0.2)]
    far = candidate(2, 3.0, 0.9, 0.2)
    draws = {c.id: {"map": list(c["map"].value + rng.normal(0, 0.05, 64))} for c in (*close, far)}
    found = front_confidence([*close, far], [COST, GAIN], draws)
    assert found.groups == (tuple(c.id for c in close),)
    assert found.members[far.id] == 1.0 and found.sure == 1
    lines = found.lines()
    assert lines[0].startswith("front: 3 candidates, 1 of them") and any(
        "cannot be distinguished" in line for line in lines
    )
    assert found.to_dict()["groups"] == [[c.id for c in close]]


def test_the_next_measurement_is_the_one_most_hangs_on() -> None:
    """One wide interval among exact numbers: everything open hangs on it."""
    rivals = [candidate(i, 1.0 + i / 10, 0.3 + i / 10) for i in range(4)]
    wide = candidate(4, 1.15, 0.35, 0.4)
    found = front_confidence([*rivals, wide], [COST, GAIN], {})
    assert (
        found.next_measurement is not None
        and found.next_measurement.candidate == wide.id
        and found.next_measurement.share > 0.8
    )
