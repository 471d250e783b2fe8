"""Weights files from outside: what their header says and what they hold is checked when they are read."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from nas.core.architecture_file import Artifact, DataRecord
from nas.core.references import NO_STUDY
from nas.supernet.supernet import Supernet
from nas.supernet.weights import load_detector, load_supernet, save_detector, save_supernet
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES

SPACE = (
    SPACES["yolo-nano"]
    .restrict({"image_size": (96,)})
    .restrict({c.name: c.values[:1] for c in SPACES["yolo-nano"].choices if c.name != "image_size"})
)


@pytest.fixture(scope="module")
def detector_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    architecture = SPACE.sample(random.Random(0))
    artifact = Artifact("S", architecture, (), NO_STUDY, ("a", "b"), DataRecord("d", "0"))
    path = tmp_path_factory.mktemp("weights") / "S.safetensors"
    return save_detector(path, SPACE.build(architecture, 2), artifact, {"metrics": {"map": 0.5}})


@pytest.fixture(scope="module")
def supernet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "supernet.safetensors"
    return save_supernet(path, Supernet(SPACE, 2), ("a", "b"), {})


def rewritten(path: Path, out: Path, header: dict[str, str], change: dict[str, torch.Tensor] | None = None) -> Path:
    """A copy of a weights file with other entries in its header, and other tensors."""
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file({**tensors, **(change or {})}, out, {**metadata, **header})
    return out


def test_earlier_files_have_no_weights_of_single_image_sizes(tmp_path: Path) -> None:
    fixed = {c.name: c.values[:1] for c in SPACES["yolo-nano"].choices} | {"image_size": (96, 128)}
    supernet = Supernet(SPACES["yolo-nano"].restrict(fixed), 2)
    with safe_open(save_supernet(tmp_path / "first.safetensors", supernet, ("a", "b"), {}), "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    private = [name for name in tensors if name.startswith("private.")]
    assert private
    for name in private:
        tensors[name] += 1
    save_file(tensors, tmp_path / "new.safetensors", metadata)
    again = load_supernet(tmp_path / "new.safetensors")[0].state_dict()
    assert all(torch.equal(again[name], value) for name, value in tensors.items())
    whole = {name: value for name, value in tensors.items() if name not in private}
    save_file(whole, tmp_path / "old.safetensors", metadata)
    old = load_supernet(tmp_path / "old.safetensors")[0].state_dict()
    assert all(
        torch.equal(old[name], whole[f"weights.{name.partition('@')[0].removeprefix('private.')}"]) for name in private
    )
    save_file(whole | {private[0]: tensors[private[0]]}, tmp_path / "torn.safetensors", metadata)
    with pytest.raises(InputError, match="does not fit"):
        load_supernet(tmp_path / "torn.safetensors")


BAD_JSON = ["", "{", "not json", "[" * 100_000, "9" * 5000, "NaN", '{"a": 1, "a": 2}', r'"\ud800"']
BAD_RECORD = ["null", "[]", '"text"', "5", *BAD_JSON]
BAD_ARTIFACT = ["null", "[]", "{}", *BAD_JSON]


@pytest.mark.parametrize("key, value", [*(("record", v) for v in BAD_RECORD), *(("artifact", v) for v in BAD_ARTIFACT)])
def test_hostile_metadata_is_one_line_that_names_the_file(
    key: str, value: str, detector_file: Path, tmp_path: Path
) -> None:
    path = rewritten(detector_file, tmp_path / "x.safetensors", {key: value})
    with pytest.raises(InputError) as caught:
        load_detector(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "key, value",
    [
        ("space", '"none"'),
        ("space", "[]"),
        ("version", '"1"'),
        ("version", "true"),
        ("classes", "{}"),
        ("classes", "[1]"),
        ("classes", '["a", "b", "c"]'),
        ("values", "[]"),
        ("values", '{"image_size": 96}'),
        ("values", '{"image_size": [[96]]}'),
        ("values", '{"image_size": []}'),
        ("values", '{"other": [1]}'),
        ("record", "[]"),
    ],
)
def test_a_supernets_header_is_checked(key: str, value: str, supernet_file: Path, tmp_path: Path) -> None:
    path = rewritten(supernet_file, tmp_path / "x.safetensors", {key: value})
    with pytest.raises(InputError) as caught:
        load_supernet(path)
    assert "\n" not in str(caught.value)


def spoiled(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    with safe_open(path, "pt") as file:
        names = [name for name in file.keys() if file.get_tensor(name).is_floating_point()]  # noqa: SIM118
        for name, value in zip((names[0], names[-1]), (float("nan"), float("inf")), strict=True):
            tensor = file.get_tensor(name).clone()
            tensor.view(-1)[-1] = value
            yield name, tensor


def test_one_weight_that_is_not_finite_is_refused(detector_file: Path, supernet_file: Path, tmp_path: Path) -> None:
    for name, tensor in spoiled(detector_file):
        with pytest.raises(InputError, match=f"not finite .'{name}', 1 of"):
            load_detector(rewritten(detector_file, tmp_path / "x.safetensors", {}, {name: tensor}))
    for name, tensor in spoiled(supernet_file):
        with pytest.raises(InputError, match=f"not finite .'{name}', 1 of"):
            load_supernet(rewritten(supernet_file, tmp_path / "x.safetensors", {}, {name: tensor}))


def test_another_number_type_is_refused(detector_file: Path, tmp_path: Path) -> None:
    with safe_open(detector_file, "pt") as file:
        name = next(name for name in file.keys() if file.get_tensor(name).is_floating_point())  # noqa: SIM118
        half = file.get_tensor(name).half()
    with pytest.raises(InputError, match="does not fit its architecture"):
        load_detector(rewritten(detector_file, tmp_path / "x.safetensors", {}, {name: half}))


def test_equal_weights_are_equal_files(detector_file: Path, supernet_file: Path, tmp_path: Path) -> None:
    """Files are known by their hash: teachers, initial weights, int8 figures."""
    detector, artifact, record = load_detector(detector_file)
    supernet, classes, kept = load_supernet(supernet_file)
    for i in range(8):  # of a random order, one in four would be that of the file
        again = save_detector(tmp_path / f"{i}.safetensors", detector, artifact, record)
        assert again.read_bytes() == detector_file.read_bytes()
        again = save_supernet(tmp_path / f"supernet{i}.safetensors", supernet, classes, kept)
        assert again.read_bytes() == supernet_file.read_bytes()


def test_what_was_written_is_read(detector_file: Path, supernet_file: Path) -> None:
    _, artifact, record = load_detector(detector_file)
    assert artifact.classes == ("a", "b") and json.dumps(record) == '{"metrics": {"map": 0.5}}'
    assert load_supernet(supernet_file)[1:] == (("a", "b"), {})


@pytest.mark.parametrize("name", ["S.onnx", "photo.png", "front.csv", "yolov8n.pt"])
def test_a_file_of_another_kind_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x89PNG\xff" * 10)
    with pytest.raises(InputError, match=rf"{name} is no weights file; expected trained weights"):
        load_detector(tmp_path / name)
