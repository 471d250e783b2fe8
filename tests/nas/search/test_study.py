"""A search with estimators that answer from a hash: repeatable, nothing twice, failures recorded, interruption and
damage survived."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from nas.core.estimate import Estimate, Objective
from nas.estimators.base import Context, Estimator
from nas.search.evaluate_candidate import Bound
from nas.search.samplers import SAMPLERS
from nas.search.study import HOPELESS, Limits, Study, TrialEvent
from nas.search.study_reader import read_candidates
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace
from tests._fakes import FakeLatency, FakeScore, numbers_of, tiny_space

SPACE = tiny_space()
CONTEXT = Context(SPACE, 3)
OBJECTIVES = (FakeLatency.objective(), FakeScore.objective())


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal syncs every record, 5 ms each; what a kill leaves is the matter of test_kill.py."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def fakes() -> tuple[FakeLatency, FakeScore]:
    return FakeLatency(CONTEXT), FakeScore(CONTEXT)


def open_study(
    folder: Path,
    sampler: str = "random",
    seed: int = 0,
    space: SearchSpace = SPACE,
    bounds: Sequence[Bound] = (),
    objectives: Sequence[Objective] = OBJECTIVES,
) -> Study:
    return Study(folder / "study.journal", "run", space, objectives, sampler, seed, Limits(bounds))


def tried(folder: Path, sampler: str, seed: int, trials: int = 30) -> list[str]:
    folder.mkdir()
    latency, score = fakes()
    open_study(folder, sampler, seed).run([score, latency], trials)
    assert latency.asked == score.asked
    return latency.asked


class CheapLatency(FakeLatency):
    """The cost, and it says of itself that it may be asked of many; of one in three it knows nothing."""

    cheap = True

    def __call__(self, architecture: Architecture) -> Estimate:
        found = super().__call__(architecture)
        if int(architecture.id, 16) % 3 == 0 and len(self.asked) > 200:
            raise InputError(f"{architecture.id} is unlike all that was measured")
        return found


def test_a_cheap_objective_is_asked_of_more_points_than_are_evaluated(tmp_path: Path) -> None:
    space = tiny_space(6, 6)
    latency, score = CheapLatency(Context(space, 3)), FakeScore(Context(space, 3))
    study = open_study(tmp_path, "guided", space=space)
    study.run([latency, score], 12)
    told, values = study._sampler._cheap[0]  # type: ignore[attr-defined]
    assert len(score.asked) == 12 and len(latency.asked) == 12 + len(told) and len(told) > 60
    assert [numbers_of(study.parameters.point(params))[0] for params in told] == values.tolist()
    again = open_study(tmp_path, "guided", space=space)
    again.run([latency, score], 14)
    more = again._sampler._cheap[0]  # type: ignore[attr-defined]
    assert (
        all(params in told for params in more[0]) and len(score.asked) == 14
    )  # the same ones, without those that cannot be told
    asked, steps = len(latency.asked), list[int]()
    again.warm_start([latency], lambda done, wanted, what: steps.append(done))
    assert steps == []  # it was told once
    open_study(tmp_path, "guided", space=space).run([latency, score], 14)
    assert len(latency.asked) == asked  # nothing left to search


def test_a_sampler_that_does_not_learn_is_told_nothing(tmp_path: Path) -> None:
    latency, score = CheapLatency(CONTEXT), FakeScore(CONTEXT)
    open_study(tmp_path, "nsga2").run([latency, score], 12)
    assert latency.asked == score.asked


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_same_seed_same_trials(tmp_path: Path, sampler: str) -> None:
    first, again, other = (tried(tmp_path / f"{i}", sampler, seed) for i, seed in enumerate((5, 5, 6)))
    assert first == again
    assert first != other
    assert len(set(first)) == len(first) == 30


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_small_space_is_exhausted_exactly_and_the_search_stops(tmp_path: Path, sampler: str) -> None:
    space = tiny_space(widths=2, hidden=2)
    latency, score = fakes()
    study = open_study(tmp_path, sampler, space=space)
    study.run([latency, score], 1000)
    assert sorted(latency.asked) == sorted(score.asked) == sorted(a.id for a in space.enumerate())
    assert len(study.candidates) == space.size == 24


def test_the_extremes_come_first_and_every_candidate_keeps_its_numbers(tmp_path: Path) -> None:
    latency, score = fakes()
    events: list[TrialEvent] = []
    study = open_study(tmp_path)
    study.run([latency, score], 10, events.append)
    assert latency.asked[:2] == [SPACE.smallest.id, SPACE.largest.id]
    assert [(c["latency_ms"].value, c["score"].value) for c in study.candidates] == [
        numbers_of(c.architecture) for c in study.candidates
    ]
    assert [e.done for e in events] == list(range(1, 11))
    assert {e.wanted for e in events} == {10} and events[-1].candidate == study.candidates[-1]
    assert list(read_candidates(tmp_path / "study.journal", "run")) == study.candidates


def test_what_is_asked_to_be_first_comes_after_the_extremes_and_once(tmp_path: Path) -> None:
    seeds = [SPACE.largest, *list(SPACE.enumerate())[5:8]]
    latency, score = fakes()
    open_study(tmp_path).run([latency, score], 4, first=seeds)
    assert latency.asked == [SPACE.smallest.id, SPACE.largest.id, seeds[1].id, seeds[2].id]
    open_study(tmp_path).run([latency, score], 10, first=seeds)
    assert latency.asked[4] == seeds[3].id and len(latency.asked) == len(set(latency.asked)) == 10
    with pytest.raises(InputError, match="version"):
        open_study(tmp_path).run([latency, score], 20, first=[dataclasses.replace(SPACE.largest, version=9)])


def test_the_front_is_that_of_brute_force(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    study.run(fakes(), SPACE.size)
    points = {a.id: numbers_of(a) for a in SPACE.enumerate()}
    best = {
        i
        for i, (cost, gain) in points.items()
        if not any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points.values())
    }
    assert {c.id for c in study.archive.front} == best
    assert 1 < len(best) < SPACE.size


# failures


def test_failing_candidates_are_recorded_with_their_message_and_the_search_goes_on(tmp_path: Path) -> None:
    def odd_fail(architecture: Architecture) -> None:
        if int(architecture.id, 16) % 2:
            raise RuntimeError(f"no kernel for {architecture.id}\nand a second line")

    study = open_study(tmp_path)
    events: list[TrialEvent] = []
    estimators: list[Estimator] = [FakeLatency(CONTEXT), FakeScore(CONTEXT, odd_fail)]
    study.run(estimators, 30, events.append)
    odd = [id_ for id_ in estimators[0].asked if int(id_, 16) % 2]  # type: ignore[attr-defined]
    assert 0 < len(odd) < 30 and len(study.candidates) == 30 - len(odd)
    assert study.failures == [(id_, f"RuntimeError: no kernel for {id_}") for id_ in odd]
    assert [e.message for e in events if e.candidate is None] == [message for _, message in study.failures]
    assert open_study(tmp_path).failures == study.failures


def test_when_everything_fails_the_search_stops_and_says_why(tmp_path: Path) -> None:
    def fail(architecture: Architecture) -> None:
        raise OSError("the board is off")

    study = open_study(tmp_path)
    latency = FakeLatency(CONTEXT, fail)
    with pytest.raises(InputError, match=f"{HOPELESS} candidates failed.*the board is off") as error:
        study.run([latency, FakeScore(CONTEXT)], 30)
    one_line(error)
    assert len(latency.asked) == HOPELESS
    assert not list(read_candidates(tmp_path / "study.journal", "run"))


def test_a_number_that_is_not_finite_is_a_failure_and_no_value(tmp_path: Path) -> None:
    class Nan(FakeScore):
        def __call__(self, architecture: Architecture):  # type: ignore[no-untyped-def]
            from nas.core.estimate import Estimate

            return Estimate(self.name, float("nan") if architecture == SPACE.largest else 1.0)

    study = open_study(tmp_path)
    study.run([FakeLatency(CONTEXT), Nan(CONTEXT)], 4)
    assert [id_ for id_, _ in study.failures] == [SPACE.largest.id]
    assert "finite" in study.failures[0][1]


def test_a_bound_spares_the_dear_estimator(tmp_path: Path) -> None:
    bound = Bound("latency_ms", True, 1.5)
    latency, score = fakes()
    study = open_study(tmp_path, bounds=[bound])
    study.run([score, latency], 40)  # given dear first
    inside = [a.id for a in SPACE.enumerate() if numbers_of(a)[0] <= 1.5]
    assert len(latency.asked) == 40
    assert score.asked == [id_ for id_ in latency.asked if id_ in inside]
    assert 0 < len(score.asked) < 40
    assert {id_ for id_, _ in study.failures} == set(latency.asked) - set(score.asked)
    assert all("latency_ms <= 1.5" in message for _, message in study.failures)
    assert Bound("score", False, 0.5).excess(study.candidates[0]["score"]) == 0.5 - study.candidates[0]["score"].value


def test_candidates_outside_a_bound_are_no_failure_of_the_set_up(tmp_path: Path) -> None:
    study = open_study(tmp_path, bounds=[Bound("latency_ms", True, 0.5)])
    study.run(fakes(), 2 * HOPELESS)
    assert len(study.failures) == 2 * HOPELESS and not study.candidates


@pytest.mark.parametrize(
    "bounds, objectives", [([Bound("paramz", True, 1)], OBJECTIVES), ([], (OBJECTIVES[0], Objective("map", "max")))]
)
def test_an_unknown_estimate_is_refused_before_anything_is_asked(
    tmp_path: Path, bounds: list[Bound], objectives: tuple[Objective, ...]
) -> None:
    latency, score = fakes()
    with pytest.raises(InputError, match="paramz|map") as error:
        open_study(tmp_path, bounds=bounds, objectives=objectives).run([latency, score], 5)
    assert "latency_ms, score" in one_line(error)
    assert not latency.asked


# going on


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_going_on_evaluates_nothing_again(tmp_path: Path, sampler: str) -> None:
    first = tried(tmp_path / "run", sampler, 0, 12)
    latency, score = fakes()
    study = open_study(tmp_path / "run", sampler)
    assert [c.id for c in study.candidates] == first
    study.run([latency, score], 12)
    assert latency.asked == []
    study.run([latency, score], 25)
    assert len(latency.asked) == 13 and not set(latency.asked) & set(first)
    assert [c.id for c in study.candidates] == first + latency.asked


def test_failed_ones_are_not_tried_again(tmp_path: Path) -> None:
    def fail(architecture: Architecture) -> None:
        if architecture == SPACE.largest:
            raise RuntimeError("too large")

    open_study(tmp_path).run([FakeLatency(CONTEXT, fail), FakeScore(CONTEXT)], 5)
    latency, score = fakes()
    study = open_study(tmp_path)
    study.run([latency, score], SPACE.size)
    assert SPACE.largest.id not in latency.asked
    assert len(study.candidates) == SPACE.size - 1


@pytest.mark.parametrize("at", [1, 2, 7])
@pytest.mark.parametrize("again", [True, False])
def test_an_interrupted_candidate_is_the_next_one(tmp_path: Path, at: int, again: bool) -> None:
    """The number ``at``, by Ctrl-C; in the same process (``again``) or after a new start."""

    def interrupt(architecture: Architecture) -> None:
        if len(score.asked) == at:
            raise KeyboardInterrupt

    latency, score = FakeLatency(CONTEXT), FakeScore(CONTEXT, interrupt)
    study = open_study(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        study.run([latency, score], 20)
    done, lost = score.asked[:-1], score.asked[-1]
    study = study if again else open_study(tmp_path)
    assert [c.id for c in study.candidates] == done
    latency, score = fakes()
    study.run([latency, score], 20)
    assert lost in score.asked[: 2 if at == 1 else 1]  # of the first two, both waited
    assert sorted(done + score.asked) == sorted({c.id for c in study.candidates})
    assert len(study.candidates) == 20


def test_a_journal_of_another_space_or_other_objectives_is_refused(tmp_path: Path) -> None:
    open_study(tmp_path).run(fakes(), 3)
    from search_spaces.spaces import SPACES

    with pytest.raises(InputError, match="yolo-nas") as error:
        open_study(tmp_path, space=SPACES["yolo-nas"])
    assert "another folder" in one_line(error)
    for objectives in [(OBJECTIVES[0], Objective("map", "max")), (Objective("latency_ms", "max", "ms"), OBJECTIVES[1])]:
        with pytest.raises(InputError, match="expected") as error:
            open_study(tmp_path, objectives=objectives)
        one_line(error)
    assert len(open_study(tmp_path).candidates) == 3


# damage


def journal_of(folder: Path, trials: int = 4) -> Path:
    open_study(folder).run(fakes(), trials)
    return folder / "study.journal"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff\xfe binary \x80\n",
        b"{ half\n",
        b"[]\n",
        b"5\n",
        b'{"op_code": 99, "worker_id": "x"}\n',
        b'{"op_code": 5, "worker_id": "x"}\n',
        b"\n",
    ],
)
def test_a_damaged_journal_is_one_clear_line(tmp_path: Path, garbage: bytes) -> None:
    path = journal_of(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[: len(lines) // 2], garbage, *lines[len(lines) // 2 :]]))
    damaged = path.read_bytes()
    with pytest.raises(InputError, match="damaged") as error:
        open_study(tmp_path)
    assert str(path) in one_line(error) and "move it away" in str(error.value)
    with pytest.raises(InputError, match="damaged"):
        list(read_candidates(path, "run"))
    assert path.read_bytes() == damaged


def test_a_candidate_that_was_tampered_with_is_one_clear_line(tmp_path: Path) -> None:
    path = journal_of(tmp_path)
    id_ = SPACE.smallest.id
    path.write_text(path.read_text().replace(f'"id":"{id_}"', '"id":"000000000000"'))
    with pytest.raises(InputError) as error:
        open_study(tmp_path)
    assert id_ in one_line(error)


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_half_a_last_line_is_dropped_and_the_search_goes_on(tmp_path: Path, cut: int) -> None:
    """What a power cut or a full disk leaves: the last record was never acknowledged, so its candidate is asked again
    and no other."""
    path = journal_of(tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    assert len(list(read_candidates(path, "run"))) == 3  # reading changes nothing
    latency, score = fakes()
    study = open_study(tmp_path)
    study.run([latency, score], 12)
    assert len(study.candidates) == len({c.id for c in study.candidates}) == 12
    assert len(open_study(tmp_path).candidates) == 12
    for line in path.read_text().splitlines():
        json.loads(line)


def test_a_plot_of_a_search_that_has_not_begun_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no study file"):
        list(read_candidates(tmp_path / "study.journal", "run"))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match="Not a directory") as error:
        open_study(tmp_path / "file")
    one_line(error)
    with pytest.raises(InputError):
        open_study(tmp_path / "missing")
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_one_clear_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        open_study(tmp_path)


def test_a_disk_that_fills_up_during_a_search_is_one_clear_line_and_the_search_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(tmp_path)
    left = [40]

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(InputError, match="No space left") as error:
        patch.setattr(os, "fsync", fsync)
        study.run(fakes(), 20)
    assert "--resume" in one_line(error)
    latency, score = fakes()
    again = open_study(tmp_path)
    done = {c.id for c in again.candidates}
    again.run([latency, score], 20)
    assert len(again.candidates) == 20 and not done & set(latency.asked)


@pytest.mark.parametrize(
    "url", ["sqlite:////proc/nowhere/x.db", "nonsense://x", "postgresql://nobody@127.0.0.1:1/none"]
)
def test_a_storage_that_cannot_be_reached_is_one_clear_line(url: str) -> None:
    with pytest.raises(InputError, match="study storage") as error:
        Study(url, "run", SPACE, OBJECTIVES)
    assert url in one_line(error)


def test_any_optuna_storage_url_will_do(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    Study(url, "run", SPACE, OBJECTIVES, "random").run(fakes(), 4)
    latency, score = fakes()
    study = Study(url, "run", SPACE, OBJECTIVES, "random")
    study.run([latency, score], 6)
    assert len(study.candidates) == 6 and len(latency.asked) == 2
    assert list(read_candidates(url, "run")) == study.candidates
