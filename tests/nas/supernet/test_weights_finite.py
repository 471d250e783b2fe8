"""Weights files: values that are not finite, and damaged metrics or spaces, are refused in one line that names the file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from nas.core.architecture_file import Artifact
from nas.core.references import NO_DATA, NO_STUDY
from nas.supernet.supernet import Supernet
from nas.supernet.weights import load_detector, load_supernet, save_detector, save_supernet
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES

SPACE = SPACES["yolo-nano"].restrict({"width": (8,)})
METRICS = {"map": 0.5, "map50": 0.7, "map_small": None, "per_class": {"a": 0.5, "b": None}}


@pytest.fixture(scope="module")
def detector_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    artifact = Artifact("S", SPACE.smallest, (), NO_STUDY, ("a", "b"), NO_DATA)
    path = tmp_path_factory.mktemp("weights") / "S.safetensors"
    return save_detector(path, SPACE.build(SPACE.smallest, 2), artifact, {"metrics": METRICS})


@pytest.fixture(scope="module")
def supernet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "supernet.safetensors"
    return save_supernet(path, Supernet(SPACE, 2), ("a", "b"), {})


def changed(
    source: Path, target: Path, metadata: dict[str, str] | None = None, value: float | None = None, kind: str = ""
) -> Path:
    """A copy with other metadata (an empty text removes an entry), or with one value of a tensor of ``kind`` set."""
    with safe_open(source, "pt") as file:
        header = {k: v for k, v in {**file.metadata(), **(metadata or {})}.items() if v}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if value is not None:
        name = next(n for n in tensors if n.endswith(kind) and tensors[n].is_floating_point())
        tensors[name].view(-1)[-1] = value
    save_file(tensors, target, header)
    return target


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["weight", "bias", "running_var"])
def test_one_value_that_is_not_finite_is_refused(value: float, kind: str, detector_file: Path, tmp_path: Path) -> None:
    path = changed(detector_file, tmp_path / "bad.safetensors", value=value, kind=kind)
    with pytest.raises(InputError, match=f"bad.safetensors holds weights that are not finite .*{kind}") as error:
        load_detector(path)
    assert "\n" not in str(error.value)


def test_so_it_is_in_a_supernet(supernet_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not finite"):
        load_supernet(changed(supernet_file, tmp_path / "bad.safetensors", value=math.nan, kind="weight"))


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    detector = SPACE.build(SPACE.smallest, 2)
    with torch.no_grad():
        next(detector.parameters()).view(-1)[0] = math.nan
    path = tmp_path / "S.safetensors"
    path.write_bytes(b"as it was")
    with pytest.raises(InputError, match="not finite"):
        save_detector(path, detector, Artifact("S", SPACE.smallest, (), NO_STUDY, ("a", "b"), NO_DATA), {})
    assert path.read_bytes() == b"as it was"


DAMAGE = {
    "not JSON": "nothing",
    "nested": "[" * 100_000,
    "digits": "9" * 5_000,
    "null": "null",
    "list": "[1]",
    "text": '"text"',
    "true": "true",
}


@pytest.mark.parametrize("text", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("key", ["artifact", "record"])
def test_damaged_metadata_of_a_detector(key: str, text: str, detector_file: Path, tmp_path: Path) -> None:
    refused(load_detector, changed(detector_file, tmp_path / "bad.safetensors", {key: text}))


@pytest.mark.parametrize("text", [*DAMAGE.values(), ""], ids=[*DAMAGE, "missing"])
@pytest.mark.parametrize("key", ["space", "version", "values", "classes"])
def test_damaged_metadata_of_a_supernet(key: str, text: str, supernet_file: Path, tmp_path: Path) -> None:
    if text == '"text"' and key == "space":
        text = '"no such space"'
    refused(load_supernet, changed(supernet_file, tmp_path / "bad.safetensors", {key: text}))


@pytest.mark.parametrize(
    "metrics",
    [
        None,
        [],
        {**METRICS, "map": "abc"},
        {**METRICS, "map": math.nan},
        {**METRICS, "map": 1.5},
        {**METRICS, "map": True},
        {**METRICS, "per_class": [1]},
        {**METRICS, "per_class": {"a": "x"}},
        {**METRICS, "per_class": {"a": {}}},
    ],
)
def test_damaged_metrics(metrics: object, detector_file: Path, tmp_path: Path) -> None:
    record = json.dumps({"metrics": metrics})
    refused(load_detector, changed(detector_file, tmp_path / "bad.safetensors", {"record": record}))


def test_what_is_whole_is_read(detector_file: Path, supernet_file: Path) -> None:
    assert load_detector(detector_file)[2] == {"metrics": METRICS}
    assert load_supernet(supernet_file)[1] == ("a", "b")


def refused(load: Callable[[Path], Any], path: Path) -> None:
    with pytest.raises(InputError) as error:
        load(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value) and len(str(error.value)) < 600
