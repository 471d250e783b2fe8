"""Hostile and broken checkpoints: no code of a file runs, and each is refused in one line."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.pretrained.checkpoint import open_checkpoint
from nas.pretrained.pickles import Stub, read_checkpoint
from search_spaces.errors import InputError

RAN: list[str] = []


class Attack:
    """Runs a command where it is unpickled as Python does it."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self._reduced = call, arguments

    def __reduce__(self) -> Any:
        return self._reduced


def note(text: str) -> None:
    RAN.append(text)


def archive(path: Path, data: bytes, storages: dict[str, bytes] | None = None, compress: bool = False) -> Path:
    """A checkpoint with this pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as file:
        file.writestr("a/data.pkl", data)
        for key, content in (storages or {}).items():
            file.writestr(f"a/data/{key}", content)
    return path


def tensor_pickle(numel: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, key: str = "0") -> bytes:
    """The pickle of ``{"state_dict": {"a.weight": tensor}}`` with any numbers."""

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, found: object) -> Any:
            return ("storage", torch.FloatStorage, key, "cpu", numel) if isinstance(found, Storage) else None

    out = io.BytesIO()
    rebuilt = Attack(torch._utils._rebuild_tensor_v2, Storage(), offset, size, stride, False, None)
    Pickler(out, 2).dump({"state_dict": {"a.weight": rebuilt}})
    return out.getvalue()


def harmless(value: object) -> bytes:
    return pickle.dumps(value, 2)


@pytest.mark.parametrize(
    "attack",
    [
        lambda path: Attack(os.system, f"touch {path}"),
        lambda path: {"model": Attack(os.system, f"touch {path}")},
        lambda path: {"model": [{"deep": Attack(eval, f"open({str(path)!r}, 'w').close()")}]},
        lambda path: Attack(exec, f"open({str(path)!r}, 'w').close()"),
        lambda path: Attack(note, "ran"),
        lambda path: Attack(getattr, os, "system"),
        lambda path: Attack(__import__, "os"),
        lambda path: {Attack(os.system, f"touch {path}"): 1},
        lambda path: Attack(pickle.loads, pickle.dumps(Attack(os.system, f"touch {path}"))),
    ],
)
def test_nothing_of_a_file_runs(attack: Callable[[Path], object], tmp_path: Path) -> None:
    """Named functions become stubs: the file holds no network, and nothing happened."""
    proof = tmp_path / "ran"
    try:
        data = pickle.dumps(attack(proof), 2)
    except (TypeError, AttributeError, pickle.PicklingError):
        pytest.skip("this Python cannot write it")
    path = archive(tmp_path / "a.pt", data)
    with pytest.raises(InputError, match="holds no network|damaged"):
        open_checkpoint(path)
    assert not proof.exists()
    assert RAN == []


def test_a_stub_keeps_its_state_and_does_nothing(tmp_path: Path) -> None:
    found = read_checkpoint(archive(tmp_path / "a.pt", pickle.dumps({"x": Attack(note, "ran")}, 2)))
    assert isinstance(found, dict)
    assert isinstance(found["x"], Stub)
    assert found["x"].origin.endswith("test_pickles.note")


ONES = torch.ones(6).numpy().tobytes()
BROKEN: dict[str, Callable[[Path], Path]] = {
    "no archive": lambda p: _written(p, b"not a zip"),
    "empty": lambda p: _written(p, b""),
    "an old pickle": lambda p: _written(p, pickle.dumps({"a": 1}, 2)),
    "no pickle": lambda p: _zip(p, {"a/readme": b"hello"}),
    "two pickles": lambda p: _zip(p, {"a/data.pkl": b"", "b/data.pkl": b""}),
    "cut pickle": lambda p: archive(p, harmless({"a": list(range(100))})[:-20]),
    "not a pickle": lambda p: archive(p, b"\xff" * 50),
    "compressed": lambda p: archive(p, harmless({"a": "x" * 10_000_000}), compress=True),
    "huge bytearray": lambda p: archive(p, b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"."),
    "huge memo index": lambda p: archive(p, b"\x80\x02}r\xff\xff\xff\xff." + b"" * 4),
    "huge text": lambda p: archive(p, b"\x80\x04\x8d" + (1 << 50).to_bytes(8, "little") + b"x."),
    "huge number": lambda p: archive(p, b"\x80\x02\x8b\xff\xff\xff\x7f" + b"\x01" * 10 + b"."),
    "stack underflow": lambda p: archive(p, b"\x80\x02R."),
    "missing storage": lambda p: archive(p, tensor_pickle(6, (2, 3), (3, 1))),
    "short storage": lambda p: archive(p, tensor_pickle(600, (2, 3), (3, 1)), {"0": ONES}),
    "outside its storage": lambda p: archive(p, tensor_pickle(6, (4, 3), (3, 1)), {"0": ONES}),
    "offset outside": lambda p: archive(p, tensor_pickle(6, (2, 3), (3, 1), 4), {"0": ONES}),
    "negative stride": lambda p: archive(p, tensor_pickle(6, (2, 3), (-3, 1)), {"0": ONES}),
    "negative size": lambda p: archive(p, tensor_pickle(6, (-2, 3), (3, 1)), {"0": ONES}),
    "expanded to gigabytes": lambda p: archive(p, tensor_pickle(6, (1 << 20, 1 << 20), (0, 0)), {"0": ONES}),
    "size and stride differ": lambda p: archive(p, tensor_pickle(6, (2, 3), (3,)), {"0": ONES}),
    "storage outside the folder": lambda p: archive(p, tensor_pickle(6, (2, 3), (3, 1), key="../../etc/passwd")),
    "not a number": lambda p: archive(
        p, tensor_pickle(6, (2, 3), (3, 1)), {"0": torch.full((6,), float("nan")).numpy().tobytes()}
    ),
}


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path = BROKEN[name](tmp_path / "a.pt")
    with pytest.raises(InputError) as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_whole_tensor_is_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pt", tensor_pickle(6, (2, 3), (1, 2)), {"0": torch.arange(6.0).numpy().tobytes()})
    assert open_checkpoint(path).tensors["a.weight"].tolist() == [[0, 2, 4], [1, 3, 5]]


def test_nested_modules_end(tmp_path: Path) -> None:
    """A module that holds itself is refused, not walked for ever."""
    # {"model": M} with M._modules = {"0": M}: BUILD on the stub with a memoised reference to itself.
    body = b"\x80\x02}q\x00X\x05\x00\x00\x00modelcmissing\nM\n)\x81q\x01}q\x02X\x08\x00\x00\x00_modulesq\x03}q\x04X\x01\x00\x00\x000h\x01ssbs."
    with pytest.raises(InputError, match="nested without end"):
        open_checkpoint(archive(tmp_path / "a.pt", body))


@pytest.mark.parametrize("name", ["a.bin", "a.pkl", "a"])
def test_another_ending_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ends in"):
        open_checkpoint(_written(tmp_path / name, b"x"))


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "a.pt").mkdir()
    with pytest.raises(InputError):
        open_checkpoint(tmp_path / "a.pt")


def test_fuzzed_checkpoints_end_in_one_line(tmp_path: Path) -> None:
    """300 mutations with fixed seeds: a reading, or one line."""
    import random

    torch.save({"model": {"a.weight": torch.ones(4, 4), "a.bias": torch.ones(4)}, "epoch": 3}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    for seed in range(300):
        rng = random.Random(seed)
        data = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        path = _written(tmp_path / "mutant.pt", bytes(data))
        with contextlib.suppress(InputError):
            open_checkpoint(path)
