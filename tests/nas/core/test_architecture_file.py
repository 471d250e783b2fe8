"""The file of a chosen architecture: exact round trip, its JSON Schema, one clear line for everything that can be
wrong."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import jsonschema
import pytest

from nas.core.architecture_file import SCHEMA_FILE, Artifact, DataRecord, StudyRecord, read_artifact, write_artifact
from nas.core.atomic import atomic_write
from nas.core.estimate import Estimate
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from tests._candidates import candidates


def artifact() -> Artifact:
    candidate = candidates(5)[3]
    estimates = (
        *candidate.estimates,
        Estimate("tiny", 5e-324),
        Estimate("third", 1 / 3, "%", -0.0, 1e300, "predicted"),
    )
    study = StudyRecord("digits", 7, candidate.trial, 60)
    return Artifact(
        "S",
        candidate.architecture,
        estimates,
        study,
        ("null", 'a "b"', "Fußgänger", "行人"),
        DataRecord("digits", "0f3a"),
    )


def validator() -> Any:
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


# round trip and schema


def test_round_trip_is_bit_exact(tmp_path: Path) -> None:
    first = write_artifact(tmp_path / "S.json", artifact())
    again = write_artifact(tmp_path / "again.json", read_artifact(first))
    assert read_artifact(first) == artifact() and first.read_bytes() == again.read_bytes()
    assert str(read_artifact(first).estimates[-1].low) == "-0.0"


def test_the_file_is_readable_text_in_a_fixed_order(tmp_path: Path) -> None:
    text = write_artifact(tmp_path / "S.json", artifact()).read_text(encoding="utf-8")
    assert "Fußgänger" in text and text.endswith("}\n")
    assert list(json.loads(text)) == [
        "schema",
        "name",
        "architecture",
        "estimates",
        "study",
        "num_classes",
        "classes",
        "data",
    ]


def test_artifacts_satisfy_the_schema(tmp_path: Path) -> None:
    check = validator()
    bare = Artifact("M", Architecture("toy", 1, ()), (), StudyRecord("", None, None, 0), ("thing",), DataRecord("", ""))
    for value in (artifact(), bare):
        path = write_artifact(tmp_path / "x.json", value)
        check.validate(json.loads(path.read_text(encoding="utf-8")))
        assert read_artifact(path) == value


def _set(data: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split("/")
    node: Any = data
    for key in parents:
        node = node[int(key) if isinstance(node, list) else key]
    if value is DELETE:
        del node[last]
    else:
        node[int(last) if isinstance(node, list) else last] = value


DELETE = object()
BROKEN: list[tuple[str, object, str]] = [
    ("schema", 2, "schema version 2; expected 1"),
    ("schema", "1", "schema version '1'"),
    ("schema", True, "schema version True"),
    ("schema", DELETE, "lacks schema"),
    ("architecture", DELETE, "lacks architecture"),
    ("architecture", [], "architecture is a JSON list"),
    ("architecture/id", DELETE, "architecture lacks id"),
    ("architecture/id", "xyz", "does not belong to its choices"),
    ("architecture/version", "1", "version of the architecture's space is '1'"),
    ("architecture/choices", [], "choices of the architecture"),
    ("architecture/choices/neck_depth", None, "choice 'neck_depth' is None"),
    ("architecture/choices/neck_depth", True, "choice 'neck_depth' is True"),
    ("architecture/choices/neck_depth", [1], "choice 'neck_depth'"),
    ("name", 3, "name is 3"),
    ("name", "", "without a name"),
    ("estimates", {}, "estimates is {}"),
    ("estimates/0", 5, "estimate is a JSON int"),
    ("estimates/0/value", None, "value of estimate 'params' is None"),
    ("estimates/0/value", "1", "value of estimate 'params'"),
    ("estimates/0/source", "guessed", "unknown source"),
    ("estimates/0/low", 1.0, "only one end"),
    ("estimates/0/unit", DELETE, "lacks unit"),
    ("estimates/0/extra", 1, "unknown keys extra"),
    ("classes", [], "num_classes is 4; expected 0"),
    ("classes/0", 1, "a class name is 1"),
    ("num_classes", 4.5, "num_classes is 4.5"),
    ("study/trials", None, "trials of the study is None"),
    ("study/seed", "7", "seed of the study is '7'"),
    ("study", None, "study is a JSON NoneType"),
    ("data/fingerprint", 5, "fingerprint of the data set is 5"),
    ("data/name", DELETE, "data lacks name"),
    ("comment", "hello", "unknown keys comment"),
]


@pytest.mark.parametrize(
    "path, value, message", BROKEN, ids=[f"{p}={'deleted' if v is DELETE else v}" for p, v, _ in BROKEN]
)
def test_broken_files_fail_the_schema_and_the_reader_alike(
    path: str, value: object, message: str, tmp_path: Path
) -> None:
    data = json.loads(json.dumps(artifact().to_dict()))
    _set(data, path, value)
    assert not validator().is_valid(data)
    file = tmp_path / "S.json"
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_artifact(file)
    assert str(caught.value).startswith(f"{file}: ") and message in str(caught.value) and "\n" not in str(caught.value)


def test_a_tampered_choice_is_noticed(tmp_path: Path) -> None:
    data = artifact().to_dict()
    data["architecture"]["choices"]["neck_depth"] += 1
    file = tmp_path / "S.json"
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(
        InputError, match=rf"id '{artifact().architecture.id}' does not belong to its choices.*the file was edited"
    ):
        read_artifact(file)


def test_the_order_of_the_choices_belongs_to_the_id(tmp_path: Path) -> None:
    data = artifact().to_dict()
    data["architecture"]["choices"] = dict(reversed(data["architecture"]["choices"].items()))
    (tmp_path / "S.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match="does not belong"):
        read_artifact(tmp_path / "S.json")


def test_the_number_of_classes_must_fit(tmp_path: Path) -> None:
    data = {**artifact().to_dict(), "num_classes": 3}
    (tmp_path / "S.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match="num_classes is 3; expected 4"):
        read_artifact(tmp_path / "S.json")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "not JSON"),
        (b"{", "not JSON .* at line 1 column 2"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[]", "a JSON list"),
        (b"null", "a JSON NoneType"),
        (b'{"schema": 1, "schema": 1}', "key 'schema' appears twice"),
        (b'{"schema": NaN}', "NaN is not a JSON number"),
        (b"[" * 100_000, "not JSON that can be read"),
        (b'{"schema": ' + b"9" * 5000 + b"}", "not JSON that can be read"),
    ],
)
def test_what_is_not_json_is_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "S.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_artifact(file)
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "old, new", [('"value": 1e+300', '"value": 1e400'), ('"neck_depth": 1', '"neck_depth": 1e999')]
)
def test_numbers_that_overflow_are_refused(old: str, new: str, tmp_path: Path) -> None:
    value = Artifact(
        "S",
        Architecture("toy", 1, (("neck_depth", 1),)),
        (Estimate("x", 1e300),),
        StudyRecord("", 0, 0, 1),
        ("a",),
        DataRecord("", ""),
    )
    text = write_artifact(tmp_path / "S.json", value).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "S.json").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match="finite"):
        read_artifact(tmp_path / "S.json")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_artifact(tmp_path / "none.json")
    with pytest.raises(InputError, match="is a folder"):
        read_artifact(tmp_path)


# writing


def _full_disk(file: BinaryIO, content: bytes) -> None:
    file.write(content[: len(content) // 2])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = write_artifact(tmp_path / "S.json", artifact())
    before = path.read_bytes()
    other = Artifact("M", artifact().architecture, (), artifact().study, ("a",), artifact().data)
    with pytest.raises(InputError, match=r"cannot write .*S\.json: No space left on device; free some space"):
        write_artifact(path, other, _full_disk)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["S.json"]


def test_an_interruption_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    def interrupt(file: BinaryIO, content: bytes) -> None:
        raise KeyboardInterrupt

    path = atomic_write(tmp_path / "x.txt", "old")
    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, "new", interrupt)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x.txt"]


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    # Not under pytest's folder, which another user (see below) could not enter.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "S.json").write_text("old")
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_a_read_only_folder_is_one_line(read_only_folder: Path) -> None:
    root = os.geteuid() == 0  # whom permissions do not stop: become nobody for the moment
    try:
        if root:
            os.seteuid(65534)
        with pytest.raises(
            InputError,
            match=r"cannot write .*S\.json: Permission denied; choose an output folder that you may write to",
        ):
            write_artifact(read_only_folder / "S.json", artifact())
        with pytest.raises(InputError, match="Permission denied"):
            write_artifact(read_only_folder / "new" / "S.json", artifact())
    finally:
        if root:
            os.seteuid(0)
    assert (read_only_folder / "S.json").read_text() == "old"


@pytest.mark.parametrize(
    "make, message",
    [(lambda f: f / "file" / "S.json", "file"), (lambda f: f, "folder"), (lambda f: f / ("x" * 300), "too long")],
)
def test_impossible_paths_are_one_line(make: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=message) as caught:
        atomic_write(make(tmp_path), "text")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["S.onnx", "photo.png", "front.csv", "S.safetensors"])
def test_a_file_of_another_kind_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x89PNG\xff")
    with pytest.raises(InputError, match=f"{name} is no architecture file; expected a .json file"):
        read_artifact(tmp_path / name)


def test_text_that_is_no_unicode_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write"):
        atomic_write(tmp_path / "x.txt", "a\udcff")
    assert not list(tmp_path.iterdir())


def test_folders_are_made_permissions_are_ordinary_and_links_stay(tmp_path: Path) -> None:
    path = atomic_write(tmp_path / "a" / "b" / "x.txt", "Grüße")
    assert path.read_bytes() == "Grüße".encode()
    (tmp_path / "plain").write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    link = tmp_path / "link"
    link.symlink_to(path)
    atomic_write(link, b"new")
    assert link.is_symlink() and path.read_bytes() == b"new"


def test_light_modules_import_nothing_heavy() -> None:
    modules = "nas.core.estimate, nas.core.atomic, nas.core.budgets, nas.search.selection, nas.core.architecture_file"
    heavy = "{'numpy', 'pandas', 'optuna', 'plotly', 'matplotlib', 'torch', 'rich', 'jsonschema'}"
    command = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert run.stdout.strip() == "[]"
