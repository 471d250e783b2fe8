"""Readers of published weights (``.pt``, ``.pth``, ``.onnx``, ``.safetensors``): tensors by name, and metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.pretrained.pickles import Stub, read_checkpoint
from search_spaces.errors import InputError
from search_spaces.image_size import STRIDE, ImageSize

SUFFIXES = (".pt", ".pth", ".onnx", ".safetensors")
MAX_MODULES = 100_000
MAX_DEPTH = 64
MAX_CLASSES = 100_000
STATES = ("ema_net", "ema", "ema_state_dict", "ema_model", "net", "model", "state_dict", "model_state_dict")
"""Keys of a checkpoint under which its network is searched, in this order; averaged weights (EMA) come first."""
PARAMETER = re.compile(r"[A-Za-z_]\w*(?:\.\w+)+")
"""Names of ONNX initialisers that are parameters of the network. Constants that an exporter adds have other names."""
PREFIXES = ("module.", "_orig_mod.", "ema_model.", "net.")
"""Prefixes that wrappers (DataParallel, ``torch.compile``, averaging, super-gradients) add to every name."""


@dataclass(frozen=True)
class Checkpoint:
    """Tensors and metadata of a published network.

    Args:
        tensors: Parameters and buffers by name; floating-point tensors are float32.
        classes: Class names in the order of the outputs; empty if the file has none.
        image_size: Of the training images; None if the file does not state it.
        licence: Licence that the file states; None if it states none.
        folded: Whether BatchNorm is folded into the convolutions (ONNX).
    """

    tensors: Mapping[str, Tensor]
    classes: tuple[str, ...] = ()
    image_size: ImageSize | None = None
    licence: str | None = None
    folded: bool = False


def open_checkpoint(path: Path) -> Checkpoint:
    """Read a ``.pt``, ``.pth``, ``.onnx`` or ``.safetensors`` file without running code from it.

    Raises InputError for another file name extension, a missing or damaged file, a file without tensors of a network,
    and for tensors with NaN or infinite values.
    """
    readers = {".pt": _pickled, ".pth": _pickled, ".onnx": _onnx, ".safetensors": _safetensors}
    if path.suffix not in readers:
        raise InputError(f"weights {path}", f"a file that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise InputError(f"no weights file {path}", "a published checkpoint", "check the path")
    found = readers[path.suffix](path)
    if not found.tensors:
        raise InputError(f"{path} holds no network", f"tensors, under one of {', '.join(STATES)} or at the top")
    tensors = {name: t.float() if t.is_floating_point() else t for name, t in found.tensors.items()}
    if bad := [name for name, t in tensors.items() if not torch.isfinite(t).all()]:
        raise InputError(f"{path}: {bad[0]} holds NaN or Inf, and {len(bad) - 1} more do", "finite weights")
    return Checkpoint(_stripped(tensors), found.classes, found.image_size, found.licence, found.folded)


def _stripped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes of wrappers from all names.

    The prefix ``model.`` of names such as ``model.model.0`` is removed; in ``model.0`` it is part of the layer's name.
    """
    while True:
        prefix = next((p for p in (*PREFIXES, "model.") if all(name.startswith(p) for name in tensors)), None)
        if prefix is None or (prefix == "model." and any(name[6:7].isdigit() for name in tensors)):
            return tensors
        tensors = {name[len(prefix) :]: t for name, t in tensors.items()}


def _pickled(path: Path) -> Checkpoint:
    top = read_checkpoint(path)
    holder: dict[Any, Any] = top if isinstance(top, dict) else {"model": top}
    model = next((found for key in STATES if _state(found := holder.get(key))), holder)
    attributes = model.__dict__ if isinstance(model, Stub) else {}
    arguments = holder.get("train_args") or attributes.get("args")
    return Checkpoint(
        _state(model),
        _classes(attributes.get("names") or holder.get("names")),
        _image_size(arguments.get("imgsz") if isinstance(arguments, dict) else None),
        _text(holder.get("license")),
    )


def _state(found: object) -> dict[str, Tensor]:
    """Return the tensors by name of a state dict or of a pickled module; an empty dict for any other object."""
    if isinstance(found, dict):
        return {k: v for k, v in found.items() if isinstance(k, str) and isinstance(v, Tensor)}
    return dict(_module_tensors(found)) if isinstance(found, Stub) else {}


def _module_tensors(root: Stub) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters and buffers of a pickled ``torch.nn.Module`` under their names in a state dict."""
    todo: list[tuple[str, Stub, int]] = [("", root, 0)]
    seen = 0
    while todo:
        prefix, module, depth = todo.pop()
        seen += 1
        if seen > MAX_MODULES or depth > MAX_DEPTH:
            raise InputError("a checkpoint with modules nested without end", f"at most {MAX_DEPTH} levels")
        for kind in ("_parameters", "_buffers"):
            held = module.__dict__.get(kind)
            for name, tensor in held.items() if isinstance(held, dict) else ():
                if isinstance(tensor, Tensor):
                    yield f"{prefix}{name}", tensor
        children = module.__dict__.get("_modules")
        named = [(str(n), m) for n, m in children.items() if isinstance(m, Stub)] if isinstance(children, dict) else []
        todo += [(f"{prefix}{name}.", child, depth + 1) for name, child in reversed(named)]


def _classes(names: object) -> tuple[str, ...]:
    """Return class names from a list, or from a dict with the numbers of the classes as keys; empty for other objects.

    An empty or repeated name is made unique by the number of its class.
    """
    if isinstance(names, dict) and len(names) <= MAX_CLASSES and all(type(k) is int for k in names):
        names = [names.get(i) for i in range(len(names))]
    if not isinstance(names, list | tuple) or len(names) > MAX_CLASSES:
        return ()
    found: dict[str, None] = {}
    for i, name in enumerate(names):
        text = _text(name) or f"class{i}"
        found[text if text not in found else f"{text} ({i})"] = None
    return tuple(found) if len(found) == len(names) else ()


def _text(found: object) -> str | None:
    """Return the printable ones of a string's first 200 characters; None for an empty result or another object."""
    return "".join(c for c in found[:200] if c.isprintable()) or None if isinstance(found, str) else None


def _image_size(found: object) -> ImageSize | None:
    """Return the image size, multiples of 32 up to 8192, of a side or of a height and width; None otherwise."""
    sides = found if isinstance(found, list | tuple) else (found,)
    if len(sides) not in (1, 2) or any(type(s) is not int or s % STRIDE or not STRIDE <= s <= 8192 for s in sides):
        return None
    return ImageSize(*map(int, (sides[0], sides[-1])))


def _safetensors(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise InputError(f"weights file {path} cannot be read ({error})", "a whole .safetensors file") from None
    return Checkpoint(tensors, _classes(_decoded(header.get("names"))), None, _text(header.get("license")))


def _onnx(path: Path) -> Checkpoint:
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    try:
        model = onnx.load(str(path))
        tensors = {
            i.name: torch.from_numpy(numpy_helper.to_array(i).copy())
            for i in model.graph.initializer
            if PARAMETER.fullmatch(i.name)
        }
    except (DecodeError, OSError, ValueError, TypeError, RuntimeError, onnx.checker.ValidationError) as error:
        raise InputError(f"ONNX file {path} cannot be read ({error})", "a whole ONNX file with its weights") from None
    if not tensors:
        raise InputError(
            f"{path} has weights without names", "initialisers named as the network's parameters", "give the .pt file"
        )
    facts = {p.key: p.value for p in model.metadata_props}
    names, size = _decoded(facts.get("names")), _decoded(facts.get("imgsz"))
    return Checkpoint(tensors, _classes(names), _image_size(size), _text(facts.get("license")), folded=True)


def _decoded(text: str | None) -> object:
    """Decode JSON or a Python literal (``{0: 'person'}``); None if the text is neither."""
    import ast

    if text is None or len(text) > 10_000_000:
        return None
    for decode in (json.loads, ast.literal_eval):
        try:
            return decode(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return None
