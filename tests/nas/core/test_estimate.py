"""Values: estimates, candidates, objectives."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from nas.core.estimate import SOURCES, Candidate, Estimate, Objective
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from tests._candidates import candidates, point


@pytest.mark.parametrize("source", SOURCES)
def test_estimate_round_trip_is_exact(source: str) -> None:
    estimate = Estimate("latency_ms", 0.1 + 0.2, "ms", 1 / 3, math.pi, source, "onnxruntime:fp32@320")
    assert Estimate.from_dict(json.loads(json.dumps(estimate.to_dict()))) == estimate


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), 10**400, None, "3", True])
def test_estimate_refuses_what_is_no_finite_number(value: float) -> None:
    with pytest.raises(InputError, match="'map'"):
        Estimate("map", value)
    with pytest.raises(InputError, match="'map'"):
        Estimate("map", 0.5, low=0.1, high=math.nan if value is None else value)


@pytest.mark.parametrize("low, high", [(0.6, 0.4), (0.4, None), (None, 0.6)])
def test_estimate_refuses_half_and_reversed_intervals(low: float | None, high: float | None) -> None:
    with pytest.raises(InputError, match="interval"):
        Estimate("map", 0.5, low=low, high=high)


def test_estimate_numbers_become_floats() -> None:
    estimate = Estimate("params", np.int64(12167600))  # type: ignore[arg-type]
    assert type(estimate.value) is float and estimate.value == 12167600
    assert json.loads(json.dumps(estimate.to_dict()))["value"] == 12167600


@pytest.mark.parametrize(
    "change, message",
    [
        ({"source": "guessed"}, "unknown source.*one of computed"),
        ({"value": "3"}, "value of estimate"),
        ({"unit": None}, "unit of an estimate is None"),
        ({"target": 3}, "target of estimate"),
        ({"vlaue": 3}, "unknown keys vlaue"),
    ],
)
def test_estimate_from_dict_names_what_is_wrong(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Estimate.from_dict({**Estimate("map", 0.5).to_dict(), **change})


def test_estimate_from_dict_names_what_is_missing() -> None:
    with pytest.raises(InputError, match="lacks value, unit"):
        Estimate.from_dict({"name": "map", "low": None, "high": None, "source": "trained", "target": None})


def test_candidate_finds_its_estimates_and_lists_them_when_asked_for_another() -> None:
    candidate = candidates(1)[0]
    assert candidate["map"].name == "map" and "map" in candidate and "flops" not in candidate
    with pytest.raises(InputError, match=r"params, macs, latency_ms, map.*did you mean 'macs'"):
        candidate["mac"]


def test_candidate_refuses_two_estimates_of_one_name() -> None:
    with pytest.raises(InputError, match="several estimates named map"):
        Candidate(Architecture("toy", 1, ()), (Estimate("map", 0.1), Estimate("map", 0.2)))


def test_candidate_round_trip_and_replacement() -> None:
    candidate = candidates(1)[0]
    assert Candidate.from_dict(json.loads(json.dumps(candidate.to_dict()))) == candidate
    again = candidate.with_estimate(Estimate("map", 0.9, source="trained"))
    assert again["map"].value == 0.9 and [e.name for e in again.estimates] == [e.name for e in candidate.estimates]
    assert point(1, 0.5).with_estimate(Estimate("macs", 5))["macs"].value == 5


@pytest.mark.parametrize(
    "text", ["min:latency_ms", "max:map", "max:map:%", "min:latency_ms:", "min:energy:mJ", "min:macs"]
)
def test_objective_text_both_ways(text: str) -> None:
    assert str(Objective.parse(text)) == text


def test_objective_takes_the_unit_from_the_name() -> None:
    assert Objective.parse("min:latency_ms") == Objective("latency_ms", "min", "ms")
    assert (Objective.parse("max:map").sign, Objective.parse("min:ms")) == (-1, Objective("ms", "min", ""))


@pytest.mark.parametrize("text", ["latency_ms", "low:latency_ms", "min:", "min:a:b:c", ""])
def test_objective_refuses_other_text(text: str) -> None:
    with pytest.raises(InputError):
        Objective.parse(text)
