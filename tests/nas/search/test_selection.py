"""Budgets as text, S/M/L of a front, and the confirmation by a second measurement."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from nas.core.budgets import GOAL, Budgets, parse_budgets, parse_request
from nas.core.estimate import Candidate, Estimate
from nas.search.confirmation import confirm
from nas.search.selection import Selection, select
from search_spaces.errors import InputError
from tests._candidates import candidates, point


def remeasure(changes: dict[str, float] | float) -> Callable[[Candidate], Estimate]:
    """A second measurement: every latency times a factor, or those of the named ids replaced."""

    def measure(candidate: Candidate) -> Estimate:
        old = candidate["latency_ms"]
        value = old.value * changes if isinstance(changes, float) else changes.get(candidate.id, old.value)
        return replace(old, value=value, low=None, high=None)

    return measure


def values(selection: Selection) -> list[tuple[str, float, float]]:
    return [(p.name, p.candidate["latency_ms"].value, p.candidate["map"].value) for p in selection]


def assert_rising(selection: Selection) -> None:
    rows = values(selection)
    for (_, cost, gain), (_, dearer, better) in pairwise(rows):
        assert cost < dearer and gain < better


def assert_not_falling(selection: Selection) -> None:
    rows = values(selection)
    for (_, cost, gain), (_, dearer, better) in pairwise(rows):
        assert cost <= dearer and gain <= better


FRONT = [point(1, 0.5), point(1.8, 0.6), point(2.5, 0.65), point(3.9, 0.7), point(5, 0.75), point(7, 0.8)]
BUDGETS = parse_budgets("S=2ms,M=4ms,L=6ms")


# budgets as text


@pytest.mark.parametrize(
    "text, entries",
    [
        ("S=2ms,M=4ms,L=6ms", (("S", 2), ("M", 4), ("L", 6))),
        ("S=2", (("S", 2),)),
        (" small = 0.5 ms , big=1e1", (("small", 0.5), ("big", 10))),
        ("S=500us,M=0.002s,L=2500µs", (("S", 0.5), ("M", 2), ("L", 2.5))),
    ],
)
def test_parse_budgets(text: str, entries: tuple[tuple[str, float], ...]) -> None:
    assert parse_budgets(text).entries == entries
    assert parse_budgets(str(parse_budgets(text))) == parse_budgets(text)


def test_parse_budgets_in_another_unit() -> None:
    budgets = parse_budgets("S=5e6,M=1e7", unit="")
    assert budgets.entries == (("S", 5e6), ("M", 1e7)) and parse_budgets(str(budgets), unit="") == budgets
    with pytest.raises(InputError, match="plain unit"):
        parse_budgets("S=2ms", unit="")


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "NAME=NUMBER"),
        ("S", "NAME=NUMBER"),
        ("S=,M=2", "NAME=NUMBER"),
        ("S=1.2.3", "NAME=NUMBER"),
        ("../S=2", "NAME=NUMBER"),
        ("S=2kg", "one of ms, us, s"),
        ("S=0", "positive"),
        ("S=1e999", "positive"),
        ("S=-1", "NAME=NUMBER"),
        ("S=2,S=3", "each name once"),
        ("S=2,s=3", "each name once"),
        ("S=2,Run=3", "Run.json is a file of the run"),
        ("front=2", "front.json is a file of the run"),
        (f"{'x' * 65}=2", "at most 64"),
        ("S=4,M=2", "from small to large"),
        ("S=2,M=2", "from small to large"),
    ],
)
def test_parse_budgets_refuses(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_budgets(text)


@pytest.mark.parametrize("text", ["S=50%", "S=0", "S=0.4,M=0.3", "S=1ms", "run=0.4", "S=0.4,S=0.5"])
def test_goals_are_called_goals(text: str) -> None:
    with pytest.raises(InputError) as error:
        parse_request(text, "", GOAL).resolve({})
    assert "goal" in str(error.value) and "budget" not in str(error.value) and "2ms" not in str(error.value)


# with budgets


def test_each_budget_gets_the_best_within_it() -> None:
    assert values(select(FRONT, "latency_ms", "map", BUDGETS)) == [("S", 1.8, 0.6), ("M", 3.9, 0.7), ("L", 5, 0.75)]


def test_alternatives_are_within_the_budget_and_ordered_by_gain() -> None:
    selection = select(FRONT, "latency_ms", "map", BUDGETS)
    assert [c["map"].value for c in selection["M"].next] == [0.65, 0.6, 0.5]
    assert selection["L"].budget == 6 and [c["map"].value for c in selection["S"].next] == [0.5]


@pytest.mark.parametrize("seed", range(20))
def test_random_fronts_meet_budgets_and_rise(seed: int) -> None:
    pool, rng = candidates(60, seed), random.Random(seed)
    cheapest = min(c["latency_ms"].value for c in pool)
    small, middle, large = sorted(rng.uniform(cheapest, 6.5) for _ in range(3))
    selection = select(pool, "latency_ms", "map", Budgets((("S", small), ("M", middle), ("L", large))))
    assert_not_falling(selection)
    for pick in selection:
        assert pick.budget is not None and pick.candidate["latency_ms"].value <= pick.budget
    top = selection.picks[-1]
    assert top.candidate["map"].value == max(c["map"].value for c in pool if c["latency_ms"].value <= (top.budget or 0))
    assert len(selection) == 3 and len({p.candidate.id for p in selection}) + len(selection.notes) >= 2


def test_a_budget_nothing_meets_says_the_fastest() -> None:
    with pytest.raises(InputError, match=rf"no candidate meets budget S=0.9ms.*at least 1 ms.*{FRONT[0].id}"):
        select(FRONT, "latency_ms", "map", parse_budgets("S=0.9"))


def test_a_name_whose_budget_nothing_meets_is_left_out_and_the_others_are_chosen() -> None:
    selection = select(FRONT, "latency_ms", "map", parse_budgets("S=0.9,M=4"))
    assert [p.name for p in selection] == ["M"]
    (note,) = selection.notes
    assert note.startswith("S is missing: no candidate meets budget S=0.9ms; expected at least 1 ms")
    assert "nas select RUN --budgets S=1ms,M=4ms, or" in note
    selection = select(FRONT, "latency_ms", "map", goals=parse_budgets("S=0.1,M=0.99,L=1", ""))
    assert [p.name for p in selection] == ["S"]
    assert selection.notes[0].startswith("M and L are missing: no candidate is as accurate as M=0.99, L=1 asks")


def test_advised_bounds_rise() -> None:
    for budgets, goals, advised in (("S=0.9,M=1", "", "S=1ms"), ("", "S=0.5,M=0.9", "M=0.5")):
        front = [point(1.0, 0.5)]
        limits = (parse_budgets(budgets) if budgets else None, parse_budgets(goals, "") if goals else None)
        selection = select(front, "latency_ms", "map", limits[0], goals=limits[1])
        (found,) = re.findall(r"--(?:budgets|at-least) ([^ )]+?)(?:,? |\))", selection.notes[0])
        assert found == advised and parse_budgets(found, "ms" if budgets else "")


@pytest.mark.parametrize("cost", [1.00004, 0.40017343996687377, 12.345678, 9.99999, 123456.7, 2.0, 3e-5])
def test_the_budget_that_a_message_advises_is_met(cost: float) -> None:
    """It is rounded up: rounded to nearest, 1.00004 ms would advise 1 ms."""
    front = [point(cost, 0.5), point(2 * cost, 0.7)]
    with pytest.raises(InputError, match=r"no candidate meets budget S=1e-06ms, M=2e-06ms;") as error:
        select(front, "latency_ms", "map", parse_budgets("S=1e-6,M=2e-6"))
    (advised,) = re.findall(r"--budgets (S=\S+),", str(error.value))
    assert [p.name for p in select(front, "latency_ms", "map", parse_budgets(advised))] == ["S"]
    assert parse_budgets(advised)["S"] <= cost * 1.002


@pytest.mark.parametrize("gain", [0.68796, 0.123456, 0.99999, 0.5, 0.0002])
def test_the_goal_that_a_message_advises_is_met(gain: float) -> None:
    front = [point(1.0, gain)]
    with pytest.raises(InputError, match=r"no candidate is as accurate as S=1, M=2 asks;") as error:
        select(front, "latency_ms", "map", goals=parse_budgets("S=1,M=2", ""))
    (advised,) = re.findall(r"--at-least (S=[^)]+)\)", str(error.value))
    assert [p.name for p in select(front, "latency_ms", "map", goals=parse_budgets(advised, ""))] == ["S"]


def test_budgets_in_another_unit_than_the_cost() -> None:
    with pytest.raises(InputError, match="the unit of latency_ms, ms"):
        select(FRONT, "latency_ms", "map", parse_budgets("S=5", unit=""))


def test_two_budgets_that_admit_the_same_candidate() -> None:
    selection = select([point(1.9, 0.5), point(5, 0.7)], "latency_ms", "map", BUDGETS)
    assert values(selection) == [("S", 1.9, 0.5), ("M", 1.9, 0.5), ("L", 5, 0.7)]
    assert selection.notes == ("M is the same network as S: no candidate within 4 ms is more accurate",)
    assert [p.name for p in select(FRONT[:1], "latency_ms", "map", BUDGETS)] == ["S", "M", "L"]


def test_budgets_beyond_the_end_of_the_front_all_get_its_last_member() -> None:
    front = [point(1.72, 0.045), point(2.26, 0.064), point(2.46, 0.101)]
    selection = select(front, "latency_ms", "map", parse_budgets("S=3ms,M=6ms,L=9ms"))
    assert values(selection) == [(name, 2.46, 0.101) for name in "SML"]
    assert selection.notes == (
        "M and L are the same network as S: the Pareto front ends at 2.46 ms, and larger budgets add nothing",
    )
    confirmed = confirm(selection, remeasure(1.3))  # 3.2 ms: over the budget of S alone
    assert values(confirmed) == [("S", 2.26 * 1.3, 0.064), ("M", 2.46 * 1.3, 0.101), ("L", 2.46 * 1.3, 0.101)]
    assert confirmed.notes[0].startswith("L is the same network as M: the Pareto front ends at 3.198 ms")


@pytest.mark.parametrize("seed", range(20))
def test_each_budget_has_the_most_accurate_within_it_whatever_the_others_are(seed: int) -> None:
    pool, rng = candidates(60, seed), random.Random(seed)
    cheapest = min(c["latency_ms"].value for c in pool)
    bounds = sorted(rng.uniform(cheapest, 12) for _ in range(4))
    budgets = Budgets(tuple((f"B{i}", bound) for i, bound in enumerate(bounds)))
    for name, bound in budgets:
        alone = select(pool, "latency_ms", "map", Budgets(((name, bound),)))[name].candidate
        assert select(pool, "latency_ms", "map", budgets)[name].candidate == alone
        assert alone["map"].value == max(c["map"].value for c in pool if c["latency_ms"].value <= bound)


def test_equal_gains_are_not_an_improvement() -> None:
    selection = select([point(1, 0.5), point(3, 0.5), point(5, 0.6)], "latency_ms", "map", BUDGETS)
    assert values(selection) == [("S", 1, 0.5), ("M", 1, 0.5), ("L", 5, 0.6)]


def test_nothing_to_select_from() -> None:
    with pytest.raises(InputError, match="no candidate"):
        select([], "latency_ms", "map")
    with pytest.raises(InputError, match="unknown estimate"):
        select(FRONT, "energy", "map")


# without budgets


@pytest.mark.parametrize("seed", range(10))
def test_spread_covers_the_front(seed: int) -> None:
    pool = candidates(150, seed)
    selection = select(pool, "latency_ms", "map")
    assert [p.name for p in selection] == ["S", "M", "L"]
    assert_rising(selection)
    gains = sorted(c["map"].value for c in pool)
    small, middle, large = (p.candidate for p in selection)
    assert large["map"].value == gains[-1]
    assert small["latency_ms"].value < 0.5 * large["latency_ms"].value
    assert small["map"].value < middle["map"].value < large["map"].value
    for pick in selection:
        assert not any(
            c["latency_ms"].value <= pick.candidate["latency_ms"].value and c["map"].value > pick.candidate["map"].value
            for c in pool
        )


def test_spread_leaves_out_the_useless_and_takes_the_bend() -> None:
    front = [point(0.1, 0.01), point(0.2, 0.05), point(1, 0.4), point(1.5, 0.7), point(4, 0.75), point(8, 0.8)]
    assert values(select(front, "latency_ms", "map")) == [("S", 1, 0.4), ("M", 1.5, 0.7), ("L", 8, 0.8)]


def test_spread_over_other_names() -> None:
    selection = select(FRONT, "latency_ms", "map", names=("N", "S", "M", "L"))
    assert [p.name for p in selection] == ["N", "S", "M", "L"]
    assert_rising(selection)
    assert values(select(FRONT, "latency_ms", "map", names=("best",))) == [("best", 7, 0.8)]
    with pytest.raises(InputError, match="each once"):
        select(FRONT, "latency_ms", "map", names=("S", "S"))


def test_fewer_candidates_than_names() -> None:
    selection = select(FRONT[:2], "latency_ms", "map")
    assert values(selection) == [("S", 1, 0.5), ("L", 1.8, 0.6)] and "M is missing" in selection.notes[0]
    assert len(select(FRONT[:1], "latency_ms", "map")) == 1
    assert len(select([FRONT[0], FRONT[0]], "latency_ms", "map")) == 1


@pytest.mark.parametrize("budgets", [None, "S=2,L=9"])
def test_candidates_of_equal_accuracy_are_told(budgets: str | None) -> None:
    """A supernet that has learnt nothing: every mAP is 0."""
    front = [point(1.0, 0.0), point(1.5, 0.0), point(5.0, 0.0)]
    chosen = select(front, "latency_ms", "map", None if budgets is None else parse_budgets(budgets))
    confirmed = confirm(chosen, remeasure(1.0))
    equal = "all 3 candidates have the same mAP 50–95, 0.000: only Latency decides"
    assert {p.candidate["latency_ms"].value for p in confirmed} == {1.0}
    assert confirmed.notes.count(equal) == 1
    if budgets is None:
        assert confirmed.notes[0] == "M is missing: the front has 1 candidate for 3 names; run more trials"


# confirmation


def test_confirm_keeps_what_holds_and_carries_the_new_numbers() -> None:
    confirmed = confirm(select(FRONT, "latency_ms", "map", BUDGETS), remeasure(1.01))
    assert values(confirmed) == [("S", 1.8 * 1.01, 0.6), ("M", 3.9 * 1.01, 0.7), ("L", 5 * 1.01, 0.75)]
    assert confirmed.confirmed and not confirmed.replaced and not confirmed.notes


def test_confirm_tolerates_two_per_cent_and_no_more() -> None:
    selection = select([point(1, 0.5), point(2, 0.6)], "latency_ms", "map", parse_budgets("S=2"))
    assert values(confirm(selection, remeasure(1.0199))) == [("S", 2 * 1.0199, 0.6)]
    replaced = confirm(selection, remeasure(1.0201))
    assert values(replaced) == [("S", 1.0201, 0.5)]
    assert "2.0% over its budget of 2" in replaced.replaced[0].reason
    assert values(confirm(selection, remeasure(1.0201), tolerance=0.05)) == [("S", 2 * 1.0201, 0.6)]


def test_confirm_replaces_by_the_next_and_says_why() -> None:
    slow = {FRONT[3].id: 4.4}
    confirmed = confirm(select(FRONT, "latency_ms", "map", BUDGETS), remeasure(slow))
    assert values(confirmed) == [("S", 1.8, 0.6), ("M", 2.5, 0.65), ("L", 5, 0.75)]
    change = confirmed.replaced[0]
    assert (change.name, change.before.id, change.after) == ("M", FRONT[3].id, FRONT[2])
    assert change.reason == "measured 4.4 ms, 10.0% over its budget of 4" and change.before["latency_ms"].value == 4.4
    assert FRONT[3].id not in {c.id for c in confirmed["M"].next}


def test_confirm_measures_each_candidate_once() -> None:
    asked: list[str] = []

    def measure(candidate: Candidate) -> Estimate:
        asked.append(candidate.id)
        return remeasure(1.3)(candidate)

    confirmed = confirm(select(FRONT, "latency_ms", "map", BUDGETS), measure)
    assert len(asked) == len(set(asked))
    for pick in confirmed:
        assert pick.candidate["latency_ms"].value <= (pick.budget or 0) * 1.02
    assert [gain for _, _, gain in values(confirmed)] == sorted(gain for _, _, gain in values(confirmed))


def test_what_turns_out_to_be_within_a_smaller_budget_is_chosen_for_it() -> None:
    # L turns out faster than M and within the budget of M: it is the most accurate for both.
    front = [point(1, 0.5), point(3, 0.6), point(3.8, 0.7), point(4.1, 0.8)]
    swapped = {front[2].id: 4.05, front[3].id: 4.0}
    confirmed = confirm(select(front, "latency_ms", "map", BUDGETS), remeasure(swapped))
    assert values(confirmed) == [("S", 1, 0.5), ("M", 4.0, 0.8), ("L", 4.0, 0.8)]
    assert f"{front[3].id} (4 ms) is better for it" in confirmed.replaced[0].reason


def test_confirm_restores_the_order_of_a_spread() -> None:
    front = [point(1, 0.5), point(3, 0.6), point(3.8, 0.7), point(4.1, 0.8)]
    selection = select(front, "latency_ms", "map")
    slow = {p.candidate.id: 9.0 for p in selection if p.name == "M"}
    confirmed = confirm(selection, remeasure(slow))
    assert_rising(confirmed)
    assert "out of order" in confirmed.replaced[0].reason


def test_confirm_says_when_a_name_is_left_empty() -> None:
    front = [point(1.9, 0.5), point(3.8, 0.7), point(5, 0.8)]
    confirmed = confirm(select(front, "latency_ms", "map", BUDGETS), remeasure({front[0].id: 2.3}))
    assert values(confirmed) == [("M", 3.8, 0.7), ("L", 5, 0.8)]
    assert "S is missing after measuring again" in confirmed.notes[0] and "15.0% over its budget" in confirmed.notes[0]
    assert confirmed.replaced[0].after is None


def test_confirm_with_nothing_left() -> None:
    with pytest.raises(InputError, match=r"no candidate is left.*100\.0% over"):
        confirm(select(FRONT[:1], "latency_ms", "map", parse_budgets("S=1")), remeasure(2.0))


def test_the_budget_that_is_advised_after_measuring_again_is_met() -> None:
    slower = remeasure({FRONT[0].id: 2.00001})
    with pytest.raises(InputError, match=r"--budgets S=2\.001ms, or search on a quieter machine"):
        confirm(select(FRONT[:1], "latency_ms", "map", parse_budgets("S=1")), slower)
    assert len(confirm(select(FRONT[:1], "latency_ms", "map", parse_budgets("S=2.001")), slower)) == 1


def test_no_budget_is_advised_where_there_is_none() -> None:
    def refuse(candidate: Candidate) -> Estimate:
        raise InputError("the runtime refused it")

    with pytest.raises(InputError) as error:
        confirm(select(FRONT[:1], "latency_ms", "map", goals=parse_budgets("S=0.1", "")), refuse)
    assert "no candidate is left" in str(error.value) and "budget" not in str(error.value)


def test_confirm_passes_over_what_cannot_be_measured() -> None:
    def measure(candidate: Candidate) -> Estimate:
        if candidate.id == FRONT[4].id:
            raise InputError("the runtime refused it")
        return candidate["latency_ms"]

    confirmed = confirm(select(FRONT, "latency_ms", "map", BUDGETS), measure)
    assert values(confirmed) == [("S", 1.8, 0.6), ("M", 3.9, 0.7), ("L", 3.9, 0.7)]
    assert "could not be measured again: the runtime refused it" in confirmed.replaced[-1].reason


def test_confirm_refuses_another_estimate() -> None:
    with pytest.raises(ValueError, match="remeasure gave map"):
        confirm(select(FRONT, "latency_ms", "map", BUDGETS), lambda c: c["map"])


@pytest.mark.parametrize("seed", range(25))
def test_confirm_on_a_noisy_machine(seed: int) -> None:
    pool, rng = candidates(120, seed), random.Random(seed)
    noise = {c.id: c["latency_ms"].value * rng.lognormvariate(0, 0.12) for c in pool}
    for budgets in (parse_budgets("S=1.2,M=2.5,L=4.5"), None):
        confirmed = confirm(select(pool, "latency_ms", "map", budgets), remeasure(noise))
        if budgets is None:
            assert_rising(confirmed)
        assert confirmed.remeasured.keys() >= {p.candidate.id for p in confirmed}
        assert [p.name for p in confirmed] == ["S", "M", "L"]
        for pick in confirmed:
            assert pick.candidate["latency_ms"].value == noise[pick.candidate.id]
            assert budgets is None or pick.candidate["latency_ms"].value <= budgets[pick.name] * 1.02
        for change in confirmed.replaced:
            assert change.after is None or change.after.id != change.before.id


def test_confirm_gives_no_name_to_what_was_measured_too_slow() -> None:
    # Everything is a tenth slower than thought: each pick still ends within its budget, on its new number.
    pool = candidates(120, seed=2)
    confirmed = confirm(select(pool, "latency_ms", "map", parse_budgets("S=1.2,M=2.5,L=4.5")), remeasure(1.1))
    for pick in confirmed:
        best = max(c["map"].value for c in pool if c["latency_ms"].value * 1.1 <= (pick.budget or 0) * 1.02)
        assert pick.candidate["map"].value <= best
    assert confirmed["L"].candidate["map"].value == max(
        c["map"].value for c in pool if c["latency_ms"].value * 1.1 <= 4.5 * 1.02
    )


def test_names_that_share_a_network_stand_together_in_files_and_pictures() -> None:
    from nas.core.estimate import Objective
    from nas.search.report.front_files import front_csv
    from nas.search.report.frontier import frontier_data

    front = [point(1.72, 0.045), point(2.46, 0.101)]
    selection = select(front, "latency_ms", "map", parse_budgets("S=2ms,M=6ms,L=9ms"))
    text = front_csv(front, {p.name: p.candidate.id for p in selection})
    assert [line.split(",")[0] for line in text.splitlines()[1:]] == ["S", "M L"]
    cost, gain = Objective("latency_ms", "min", "ms"), Objective("map", "max")
    data = frontier_data(front, cost, gain, selection=selection)
    assert [name for name, _ in data.chosen] == ["S", "M, L"] and len(data.budgets) == 3
