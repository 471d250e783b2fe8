"""Architectures as values: identity, JSON, and one clear line for every file that is not one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES, space_of
from search_spaces.yolo_nas import YOLO_NAS, yolo_nas

S = yolo_nas("s")
TOY = Architecture("toy", 3, (("depth", 2), ("ratio", 0.5), ("block", "qsp")))


def test_ids_never_change() -> None:
    """They name files and database rows of users: a change here needs a new version of the space."""
    assert [yolo_nas(size).id for size in "sml"] == ["354deb7a3fac", "6a794305d2b0", "cf5a3423891e"]
    assert SPACES["yolo-nano"].smallest.id == "72c2a29486ad"
    canonical = '{"space":"toy","version":3,"choices":{"depth":2,"ratio":0.5,"block":"qsp"}}'
    assert TOY.id == hashlib.sha256(canonical.encode()).hexdigest()[:12]


def test_json_round_trip_is_exact() -> None:
    for architecture in (S, TOY, Architecture("toy", 1, ())):
        again = Architecture.from_dict(json.loads(json.dumps(architecture.to_dict())))
        assert again == architecture and again.id == architecture.id and hash(again) == hash(architecture)
        assert [(k, type(v)) for k, v in again.choices] == [(k, type(v)) for k, v in architecture.choices]


def test_id_depends_on_space_version_names_and_values() -> None:
    others = [
        Architecture("toy2", 3, TOY.choices),
        Architecture("toy", 4, TOY.choices),
        TOY.replace(depth=3),
        Architecture("toy", 3, (("deep", 2), *TOY.choices[1:])),
    ]
    assert len({TOY.id, *(o.id for o in others)}) == 5 and len({TOY, *others}) == 5


def test_replace_changes_one_choice_and_nothing_else() -> None:
    changed = S.replace(stage1_depth=4, stage1_block="qci")
    assert (changed["stage1_depth"], changed["stage1_block"]) == (4, "qci") and S["stage1_depth"] == 2
    assert [n for n, _ in changed.choices] == [n for n, _ in S.choices]
    assert {n for (n, a), (_, b) in zip(S.choices, changed.choices, strict=True) if a != b} == {
        "stage1_depth",
        "stage1_block",
    }
    with pytest.raises(InputError, match="no choice.*stage9_depth"):
        S.replace(stage9_depth=1)


def test_is_a_key() -> None:
    assert {S: 1}[yolo_nas("s")] == 1
    with pytest.raises(AttributeError):
        S.version = 2  # type: ignore[misc]


def edited(change: Callable[[dict[str, Any]], object], sign: bool = False) -> dict[str, Any]:
    """A file of S after an edit; with ``sign`` its id is made to fit."""
    data = S.to_dict()
    change(data)
    if sign:
        content = {k: data[k] for k in ("space", "version", "choices")}
        data["id"] = hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()[:12]
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (edited(lambda d: d["choices"].update(stage1_depth=4)), "does not belong to its choices"),
        (edited(lambda d: d.update(id="0" * 12)), "'000000000000' does not belong"),
        (edited(lambda d: d.pop("id")), "id None does not belong"),
        (edited(lambda d: d.pop("choices")), "not an architecture"),
        (edited(lambda d: d.update(choices=[1, 2])), "not an architecture"),
        (edited(lambda d: d.update(version="one")), "not an architecture"),
        ([1, 2], "not an architecture"),
        (None, "not an architecture"),
    ],
)
def test_files_that_are_not_architectures(data: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        Architecture.from_dict(data)
    assert "\n" not in str(error.value) and "expected" in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (edited(lambda d: d.update(version=2), sign=True), "version 2; expected yolo-nas version 1; install"),
        (edited(lambda d: d.update(space="yolo-nsa"), sign=True), "unknown space 'yolo-nsa'.*did you mean 'yolo-nas'"),
        (
            edited(lambda d: d["choices"].update(stage1_depth=9), sign=True),
            "unknown value of 'stage1_depth': '9'; expected one of 1, 2, 3, 4, 5",
        ),
        (edited(lambda d: d["choices"].update(stage1_block="qspp"), sign=True), "did you mean 'qsp'"),
        (edited(lambda d: d["choices"].update(stage1_depth=2.0), sign=True), "unknown value of 'stage1_depth'"),
        (edited(lambda d: d["choices"].update(stage1_depth=True), sign=True), "unknown value of 'stage1_depth'"),
        (edited(lambda d: d["choices"].update(stage1_depth=[2]), sign=True), "unknown value of 'stage1_depth'"),
        (edited(lambda d: d["choices"].pop("head_width"), sign=True), "exactly"),
        (edited(lambda d: d["choices"].update(extra=1), sign=True), "exactly"),
    ],
)
def test_points_of_no_space_of_ours(data: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        space_of(Architecture.from_dict(data))
    assert "\n" not in str(error.value)


def test_space_of_gives_the_space() -> None:
    assert space_of(S) is YOLO_NAS


def test_choices_in_another_order_are_refused() -> None:
    with pytest.raises(InputError, match="in this order"):
        YOLO_NAS.check(Architecture(S.space, S.version, S.choices[::-1]))
