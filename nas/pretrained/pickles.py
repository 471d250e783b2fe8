"""A reader of PyTorch checkpoints (``.pt``, ``.pth``) that runs no code from the file.

A checkpoint is a zip archive with a pickle. A pickle can call any class or function by its name, so that unpickling an
untrusted file can run arbitrary code. This reader rebuilds tensors and plain containers itself, and replaces every
other class and function by an inert :class:`Stub`. It imports nothing, and the size of the file bounds the memory of
its tensors.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from search_spaces.errors import InputError

MAX_PICKLE = 64 << 20
"""Size limit of the pickle in bytes. It contains names and numbers but no tensor data; that of YOLOv8x has 0.3 MB."""
MAX_MEMBERS = 100_000
"""Limit of the number of files in the archive."""
DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
REFUSED = frozenset(
    [
        "INST",
        "OBJ",
        "EXT1",
        "EXT2",
        "EXT4",
        "PERSID",
        "BYTEARRAY8",
        "NEXT_BUFFER",
        "READONLY_BUFFER",
    ]  # none is written by torch.save
)
"""Pickle instructions that ``torch.save`` never writes. They allocate memory by a number in the file, or call functions
in other ways than the instructions that the reader handles."""
_BROKEN = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
    MemoryError,
    struct.error,
)


class Stub:
    """Replaces an object whose class is not loaded. It keeps the attributes of the object and does nothing else.

    ``origin`` is the dotted name of the class in the file. Items of a list or dict subclass are dropped.
    """

    origin = ""

    def __new__(cls, *args: object, **kwargs: object) -> Stub:
        """Make a stub from any arguments, which are dropped."""
        return object.__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        """Set attributes from a state that is a dict, or a pair of dicts (``__dict__``, slots)."""
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.__dict__.update({k: v for k, v in part.items() if isinstance(k, str)})

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        """Drop the item."""

    def extend(self, items: object) -> None:
        """Drop the items."""

    def add(self, item: object) -> None:
        """Drop the item."""

    def update(self, items: object) -> None:
        """Drop the items."""


class _Storage(NamedTuple):
    dtype: torch.dtype
    key: str
    numel: int


class _Dtype(NamedTuple):
    dtype: torch.dtype


def read_checkpoint(path: Path) -> object:
    """Read the object in a checkpoint: plain containers, tensors on the CPU, and a :class:`Stub` for any other object.

    Raises InputError if the file does not exist, is no zip archive of ``torch.save``, is damaged, or has tensors that
    are larger than the file.
    """
    try:
        size = path.stat().st_size if path.is_file() else -1
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})", "a checkpoint file") from None
    if size < 0:
        raise InputError(f"no checkpoint file {path}", "a .pt or .pth file", "check the path")
    try:
        if not zipfile.is_zipfile(path):
            raise InputError(
                f"{path} is no zip archive of torch.save",
                "a checkpoint of torch 1.6 or later",
                "save it again with a newer torch",
            )
        with zipfile.ZipFile(path) as archive:
            return _Archive(path, archive, size).load()
    except InputError:
        raise
    except (zipfile.BadZipFile, zipfile.LargeZipFile, OSError, NotImplementedError, RuntimeError) as error:
        _damaged(path, str(error))
    except _BROKEN as error:
        _damaged(path, f"{type(error).__name__}: {error}")


def _damaged(path: Path, why: str) -> NoReturn:
    line = " ".join(why.split())[:200]
    raise InputError(
        f"checkpoint {path} is damaged ({line})", "a whole file of torch.save", "download or save it again"
    )


class _Archive:
    """An opened archive. Its members are checked first, then its pickle; each storage is read once."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, size: int) -> None:
        self.path, self._archive = path, archive
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            _damaged(path, f"{len(members)} members")
        if any(m.compress_type != zipfile.ZIP_STORED or m.flag_bits & 1 for m in members):
            _damaged(path, "compressed or encrypted members, which torch.save does not write")
        if sum(m.file_size for m in members) > size:
            _damaged(path, "its members are larger than the file")
        self._members = {m.filename: m for m in members}
        pickles = [name for name in self._members if name.endswith("data.pkl") and name.count("/") <= 1]
        if len(pickles) != 1:
            _damaged(path, "no data.pkl")
        self._root = pickles[0].removesuffix("data.pkl")
        self._storages: dict[str, Tensor] = {}

    def load(self) -> object:
        member = self._members[self._root + "data.pkl"]
        if member.file_size > MAX_PICKLE:
            _damaged(self.path, f"a pickle of {member.file_size} bytes")
        order = self._members.get(self._root + "byteorder")
        if order is not None and order.file_size < 16 and self._archive.read(order) == b"big":
            raise InputError(f"{self.path} was written on a big-endian machine", "a little-endian checkpoint")
        data = self._archive.read(member)
        for op, _, _ in pickletools.genops(data):
            if op.name in REFUSED:
                _damaged(self.path, f"pickle instruction {op.name}")
        return _Unpickler(data, self).load()

    def storage(self, found: _Storage) -> Tensor:
        """Return a storage as a tensor (numel,)."""
        if found.key not in self._storages:
            member = self._members[f"{self._root}data/{found.key}"]
            data = bytearray(self._archive.read(member))
            item = torch.empty((), dtype=found.dtype).element_size()
            if len(data) != found.numel * item:
                raise ValueError(
                    f"storage {found.key} has {len(data)} bytes, {found.numel} numbers of {found.dtype} named"
                )
            self._storages[found.key] = (
                torch.frombuffer(data, dtype=found.dtype) if data else torch.empty(0, dtype=found.dtype)
            )
        tensor = self._storages[found.key]
        if tensor.dtype != found.dtype:
            raise ValueError(f"storage {found.key} as {tensor.dtype} and as {found.dtype}")
        return tensor


# The pure Python unpickler: the C one allocates its memo by the largest index that a file names.
class _Unpickler(pickle._Unpickler):
    def __init__(self, data: bytes, archive: _Archive) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8", errors="replace")
        self._archive = archive
        self._classes: dict[str, Any] = {
            "collections.OrderedDict": OrderedDict,
            "torch.Size": _size,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_parameter": _parameter,
            "torch._utils._rebuild_parameter_with_state": _parameter,
            **{f"torch.{name}": _Dtype(dtype) for name, dtype in DTYPES.items()},
        }

    def find_class(self, module: str, name: str) -> Any:
        """Return a class or function that this reader provides, else a subclass of :class:`Stub`; import nothing."""
        dotted = f"{module}.{name}"
        if dotted not in self._classes:
            self._classes[dotted] = type("Stub", (Stub,), {"origin": dotted[:200]})
        return self._classes[dotted]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage, key, _, numel = pid
        if kind != "storage" or not isinstance(storage, _Dtype) or not isinstance(numel, int) or numel < 0:
            raise ValueError("a storage of a kind that is not known")
        return _Storage(storage.dtype, str(key), numel)

    def _tensor(
        self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
    ) -> Tensor:
        """Return a copy of a view of a storage; raise ValueError for a view larger than, or outside of, its storage."""
        numbers = (offset, *size, *stride)
        if len(size) != len(stride) or any(not isinstance(n, int) or n < 0 for n in numbers):
            raise ValueError("a tensor with sizes that are no numbers")
        count = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if count else 0
        if count > storage.numel or (count and last >= storage.numel):
            raise ValueError("a tensor outside its storage")
        return self._archive.storage(storage).as_strided(tuple(size), tuple(stride), offset).clone()


def _size(numbers: Any = ()) -> tuple[int, ...]:
    return tuple(numbers)


def _parameter(data: object, *_: object) -> object:
    return data
